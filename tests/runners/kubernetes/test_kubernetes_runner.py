"""The Kubernetes runner against a real cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes import client
from ruamel.yaml import YAML

from runners import (
    Container,
    Infeasible,
    LoadJobUnavailable,
    Placement,
    Program,
    Resources,
    RunnerUnavailable,
    ServerFailed,
)
from runners.kubernetes import ClusterGpus, KubernetesOptions, KubernetesRunner
from runners.kubernetes.options import PRESETS
from runners.kubernetes.usage import as_sample
from runners.testing import RunnerCase, RunnerContract
from tests.runners import support
from tests.runners.core_api import core_api
from tests.runners.engines import IMAGE, cluster

SERVER = ("python3", "misbehaving.py", "--host", "{host}", "--port", "{port}", "--mode")
MIB = 2**20
NAMESPACE = "tune-tests"
_RUNNERS: list[KubernetesRunner] = []


@pytest.fixture(autouse=True)
def core(monkeypatch: pytest.MonkeyPatch, needs_engine: None) -> Iterator[client.CoreV1Api]:
    with core_api(NAMESPACE, monkeypatch) as api:
        yield api
        while _RUNNERS:
            _RUNNERS.pop().close()


def runner(**options: Any) -> KubernetesRunner:
    images = {"image": f"docker.io/library/{IMAGE}", "load_image": "docker.io/library/tune-load:1"}
    given = {"namespace": NAMESPACE, **images}
    _RUNNERS.append(KubernetesRunner(KubernetesOptions(**{**given, **options})))
    return _RUNNERS[-1]


def container(placement: Placement, folder: Path, mode: str = "ok", *more: str, **options: Any) -> Container:
    words = (*SERVER, mode, *more)
    command = tuple(word.replace("{host}", placement.host).replace("{port}", str(placement.port)) for word in words)
    return support.container(placement, folder, mode, **{"command": command, **options})


@contextlib.contextmanager
def launched(folder: Path, *words: str, **options: Any) -> Any:
    one = runner()
    with one.launch(container(one.place(folder), folder, *words, **options)) as endpoint:
        yield endpoint


def pods(core: client.CoreV1Api, selector: str = "app.kubernetes.io/managed-by=tune") -> list[Any]:
    return list(core.list_namespaced_pod(NAMESPACE, label_selector=selector).items)


def printenv(core: client.CoreV1Api, pod: Any, name: str) -> str:
    """What a variable is in the pod's server."""
    from kubernetes.stream import stream

    said: str = stream(
        core.connect_get_namespaced_pod_exec, pod.metadata.name, NAMESPACE, command=["printenv", name], stdout=True
    )
    return said.strip()


class TestKubernetesRunnerContract(RunnerContract):
    @pytest.fixture
    def case(self, tmp_path: Path, core: client.CoreV1Api) -> RunnerCase:
        return RunnerCase(
            runner(),
            good=container,
            failing=lambda placement, folder: container(placement, folder, "exit"),
            impossible=lambda placement, folder: container(placement, folder, resources=Resources(cpu_cores=4096)),
            reachable=lambda _: bool(pods(core)),
            folder=tmp_path,
            lost_run=partial(support.lost_run, "tests.runners.kubernetes.test_kubernetes_runner"),
        )


def test_a_pod_is_as_the_configuration_says(
    tmp_path: Path, core: client.CoreV1Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LICENCE_KEY", "very-secret-4711")
    asked = Resources(cpu_cores=0.5, memory_bytes=256 * MIB)
    one = runner(shm_bytes=32 * MIB, node_selector={"kubernetes.io/hostname": "node1"})
    given = container(
        one.place(tmp_path), tmp_path, resources=asked, files={"a/config.txt": "threads=3"}, env={"THREADS": "3"},
        secrets=("LICENCE_KEY",),
    )  # fmt: skip
    with one.launch(given) as endpoint:
        [pod] = pods(core)
        [server] = pod.spec.containers
        assert server.resources.requests == server.resources.limits == {"cpu": "500m", "memory": str(256 * MIB)}
        hidden, plain = server.env
        assert (plain.name, plain.value) == ("THREADS", "3")
        assert (hidden.name, hidden.value) == ("LICENCE_KEY", None)
        assert printenv(core, pod, "LICENCE_KEY") == "very-secret-4711"
        assert pod.spec.node_selector == {"kubernetes.io/hostname": "node1"}
        assert pod.spec.automount_service_account_token is False
        assert pod.metadata.labels["tune/study"] == "tests"
        assert pod.metadata.labels["tune/trial"] == "7"
        [service] = core.list_namespaced_service(NAMESPACE, label_selector="tune/trial=7").items
        [owner] = service.metadata.owner_references
        assert owner.kind == "Lease"
        assert httpx.get(f"{endpoint.url}/healthz").status_code == 200
        deadline = time.monotonic() + 10
        begun = time.monotonic()
        while endpoint.usage(begun, time.monotonic()).cpu_cores_mean is None and time.monotonic() < deadline:
            time.sleep(0.2)
        assert (endpoint.usage(begun, time.monotonic()).memory_peak_bytes or 0) > 5 * MIB
    assert "listening on" in (tmp_path / "server.log").read_text(encoding="utf-8")
    assert not core.list_namespaced_service(NAMESPACE, label_selector="tune/trial=7").items
    assert not core.list_namespaced_config_map(NAMESPACE, label_selector="tune/trial=7").items
    assert not core.list_namespaced_secret(NAMESPACE, label_selector="tune/trial=7").items


def test_a_server_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed) as caught, launched(tmp_path, "exit"):
        pass
    assert caught.value.reason.endswith("the server exited with code 3: error: no model here")
    assert "no model here" in caught.value.log_tail
    assert "no model here" in (tmp_path / "server.log").read_text(encoding="utf-8")
    with pytest.raises(ServerFailed, match="no-such-program"), launched(tmp_path, command=("no-such-program",)):
        pass


def test_a_server_that_nobody_outside_reaches_is_told_where_it_listens(tmp_path: Path) -> None:
    words = tuple(word.replace("{host}", "127.0.0.1").replace("{port}", "8000") for word in SERVER)
    with pytest.raises(ServerFailed) as caught, launched(tmp_path, command=(*words, "ok"), timeout_s=3.0):
        pass
    assert (
        "/healthz: connection refused; inside its container it listens on 127.0.0.1:8000, and not on"
        in caught.value.reason
    )


def test_a_server_that_only_a_port_forward_reaches_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runners.kubernetes.runner.is_reachable", lambda *_: False)  # as from outside most clusters
    with launched(tmp_path) as found:
        assert httpx.get(f"{found.url}/healthz").status_code == 200
        assert any("port-forward" in note for note in found.notes)
    words = tuple(word.replace("{host}", "127.0.0.1").replace("{port}", "8000") for word in SERVER)
    with pytest.raises(
        ServerFailed, match="only a port-forward reaches the server; inside its container it listens on"
    ):
        launched(tmp_path, command=(*words, "ok")).__enter__()
    image = f"docker.io/library/{IMAGE}"
    both = [{"name": "s", "image": image}, {"name": "proxy", "image": image, "command": ["sleep", "600"]}]
    pod = {"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": both}}
    document = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "theirs"},
        "spec": {"selector": {"matchLabels": {"app": "theirs"}}, "template": pod},
    }  # fmt: skip
    one = runner(manifest=(document,), container="s", image=None)
    with one.launch(container(one.place(tmp_path), tmp_path, command=(*words, "ok"))) as found:
        assert httpx.get(f"{found.url}/healthz").status_code == 200, "what is beside it may be its proxy"


def test_no_image_ends_the_study_with_the_clusters_words(tmp_path: Path) -> None:
    one = runner(image="docker.io/library/there-is-none:1", image_pull_policy="Never")
    with pytest.raises(RunnerUnavailable, match=r"ErrImageNeverPull.*\n.*service\.image"):
        one.launch(container(one.place(tmp_path), tmp_path)).__enter__()


def test_too_much_memory_is_oom_and_not_a_crash(tmp_path: Path) -> None:
    asked = Resources(memory_bytes=96 * MIB)
    with pytest.raises(Infeasible, match="OOMKilled"), launched(tmp_path, "eat-memory", resources=asked) as found:
        for _ in range(200):
            with contextlib.suppress(httpx.HTTPError):
                httpx.post(f"{found.url}/predict", timeout=2)
            found.check()
            time.sleep(0.05)


def test_a_core_is_a_core_and_throttling_is_seen(tmp_path: Path) -> None:
    burn = (
        "import multiprocessing as m, sys; sys.argv = ['x', '--host', '0.0.0.0', '--port', '8000', '--mode', 'ok'];"
        "[m.Process(target=exec, args=('while True: pass',), daemon=True).start() for _ in range(2)];"
        "import runpy; runpy.run_path('misbehaving.py', run_name='__main__')"
    )
    with launched(tmp_path, command=("python3", "-c", burn), resources=Resources(cpu_cores=0.5)) as found:
        begun = time.monotonic()
        time.sleep(6)
        usage = found.usage(begun + 1, time.monotonic())
    assert usage.cpu_cores_mean is not None
    assert 0.3 < usage.cpu_cores_mean < 0.6  # less where the whole machine is short of time
    assert usage.throttled_share is not None
    assert usage.throttled_share > 0.5


def test_a_best_effort_pod_asks_for_nothing_and_has_the_class_for_it(tmp_path: Path, core: client.CoreV1Api) -> None:
    classes = client.SchedulingV1Api()
    classes.create_priority_class({"metadata": {"name": "tune-leftovers"}, "value": -10})
    one = runner(best_effort_priority_class="tune-leftovers")
    try:
        made = dataclasses.replace(container(one.place(tmp_path), tmp_path), best_effort=True)
        with one.launch(made):
            [pod] = pods(core)
            assert pod.status.qos_class == "BestEffort"
            assert pod.spec.priority == -10
            assert printenv(core, pod, "CUDA_MPS_CLIENT_PRIORITY") == "1"
    finally:
        classes.delete_priority_class("tune-leftovers", _preload_content=False).close()


def test_a_pod_that_somebody_deletes_is_noticed(tmp_path: Path, core: client.CoreV1Api) -> None:
    with pytest.raises(ServerFailed, match="deleted"), launched(tmp_path) as found:
        core.delete_namespaced_pod(pods(core)[0].metadata.name, NAMESPACE, _preload_content=False).close()
        for _ in range(50):
            found.check()
            time.sleep(0.1)


@pytest.fixture
def gpus(core: client.CoreV1Api) -> Iterator[str]:
    """The node claims GPUs, which only the scheduler believes."""
    node = core.list_node().items[0].metadata.name
    claimed = {
        "nvidia.com/gpu": "16",
        "amd.com/gpu": "16",
        "nvidia.com/mig-1g.10gb": "3",
        "nvidia.com/gpu.shared": "4",
        "nvidia.com/gpumem": "40000",
    }
    core.patch_node(node, {"metadata": {"labels": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}}})
    core.patch_node_status(node, {"status": {"capacity": claimed, "allocatable": claimed}})
    yield node
    core.patch_node(node, {"metadata": {"labels": {"nvidia.com/gpu.product": None}}})
    core.patch_node_status(node, {"status": dict.fromkeys(("capacity", "allocatable"), dict.fromkeys(claimed))})


A100 = {"A100": ("NVIDIA-A100-SXM4-80GB",)}


SLICES: tuple[tuple[str, Any, dict[str, str], dict[str, str]], ...] = (
    ("mig", "1g.10gb", {"nvidia.com/mig-1g.10gb": "1"}, {}),
    ("shared", 2, {"nvidia.com/gpu.shared": "2"}, {}),
    ("hami-gpumem", "8Gi", {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "8192"}, {}),
    ("mps", "8Gi", {"nvidia.com/gpu.shared": "1"}, {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=8192M"}),
    ("mig", None, {"nvidia.com/gpu": "1"}, {}),
)


def pods_of(core: client.CoreV1Api, folder: Path, launches: list[tuple[KubernetesRunner, Resources]]) -> list[Any]:
    """The pod of each, launched at the same time: nothing loads a server here."""

    def pod_of(trial: int) -> Any:
        one, resources = launches[trial]
        (folder / str(trial)).mkdir()
        given = container(one.place(folder / str(trial)), folder / str(trial), resources=resources)
        with one.launch(dataclasses.replace(given, trial=trial)):
            [pod] = pods(core, f"app.kubernetes.io/managed-by=tune,tune/trial={trial}")
            return pod

    with ThreadPoolExecutor(len(launches)) as pool:
        return list(pool.map(pod_of, range(len(launches))))


def limits(pod: Any) -> dict[str, str]:
    return {key: str(value) for key, value in pod.spec.containers[0].resources.limits.items()}


def test_gpu_types_and_slices_are_scheduled(tmp_path: Path, core: client.CoreV1Api, gpus: str) -> None:
    runners = {preset: runner(gpus=ClusterGpus(types=A100, slices=PRESETS[preset])) for preset, *_ in SLICES}
    asked = [(runners[preset], Resources(gpu_type="A100", gpu_memory=value)) for preset, value, *_ in SLICES]
    for pod, (preset, value, resources, env) in zip(pods_of(core, tmp_path, asked), SLICES, strict=True):
        assert pod.spec.node_selector == {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}, (preset, value)
        assert limits(pod) == resources, (preset, value)
        assert {one.name: one.value for one in pod.spec.containers[0].env or ()} == env, (preset, value)


def test_as_many_gpus_are_scheduled_as_a_replica_has(tmp_path: Path, core: client.CoreV1Api, gpus: str) -> None:
    runners = {
        resource: runner(gpus=ClusterGpus(types=A100, resources={"A100": resource}))
        for resource in ("nvidia.com/gpu", "amd.com/gpu")
    }
    asked = [(resource, count) for resource in runners for count in (1, 2, 4, 8)]
    found = pods_of(core, tmp_path, [(runners[name], Resources(gpu_type="A100", gpus=count)) for name, count in asked])
    for pod, (resource, count) in zip(found, asked, strict=True):
        assert limits(pod) == {resource: str(count)}
    for resource, one in runners.items():
        assert f"asks for 32 {resource}" in str(one.refuses(Resources(gpu_type="A100", gpus=32)))


def test_what_no_node_has_is_refused_before_any_launch(gpus: str) -> None:
    one = runner(gpus=ClusterGpus(types=A100))
    assert "no node has the GPU H100" in str(one.refuses(Resources(gpu_type="H100")))
    assert "NVIDIA-A100-SXM4-80GB" in str(one.refuses(Resources(gpu_type="H100")))
    assert "nvidia.com/mig-7g.80gb" in str(one.refuses(Resources(gpu_type="A100", gpu_memory="7g.80gb")))
    assert one.refuses(Resources(gpu_type="A100", gpu_memory="1g.10gb")) is None
    assert "CPU cores" in str(one.refuses(Resources(cpu_cores=400)))
    several = runner(gpus=ClusterGpus(types={"any": ("NVIDIA-H100", "NVIDIA-A100-SXM4-80GB")}))
    assert several.refuses(Resources(gpu_type="any")) is None
    by_memory = runner(gpus=ClusterGpus(slices=PRESETS["aliyun-gpu-mem"]))
    assert "aliyun.com/gpu-mem" in str(by_memory.refuses(Resources(gpu_memory="8Gi")))


def test_a_launch_waits_for_room_and_goes_on_when_there_is_some(tmp_path: Path, core: client.CoreV1Api) -> None:
    cores = float(core.list_node().items[0].status.allocatable["cpu"])
    one = runner()
    seen: list[float] = []

    def second() -> None:
        (tmp_path / "second").mkdir()
        given = container(one.place(tmp_path), tmp_path / "second", resources=Resources(cpu_cores=cores))
        with one.launch(given):
            seen.append(time.monotonic())

    (tmp_path / "first").mkdir()
    with one.launch(container(one.place(tmp_path), tmp_path / "first", resources=Resources(cpu_cores=0.5))):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(4)
        assert not seen
        ended = time.monotonic()
    thread.join(40)
    assert seen
    assert seen[0] > ended


def test_no_room_within_the_time_is_said_in_the_clusters_words(tmp_path: Path, core: client.CoreV1Api) -> None:
    node = core.list_node().items[0].metadata.name
    one = runner(room_timeout_s=2.0)
    core.patch_node(node, {"spec": {"unschedulable": True}})
    try:
        with pytest.raises(ServerFailed, match="Unschedulable: 0/1 nodes are available"):
            one.launch(container(one.place(tmp_path), tmp_path)).__enter__()
    finally:
        core.patch_node(node, {"spec": {"unschedulable": None}})
    assert not pods(core)


def test_a_quota_is_waited_for_and_one_that_never_allows_it_refuses(tmp_path: Path, core: client.CoreV1Api) -> None:
    core.create_namespaced_resource_quota(
        NAMESPACE, {"metadata": {"name": "small"}, "spec": {"hard": {"requests.cpu": "500m", "limits.cpu": "500m"}}}
    )
    try:
        one = runner(room_timeout_s=2.0)
        assert "the quota small allows 0.5 CPU cores" in str(one.refuses(Resources(cpu_cores=1)))
        (tmp_path / "a").mkdir()
        asked = Resources(cpu_cores=0.4)
        with (
            one.launch(container(one.place(tmp_path), tmp_path / "a", resources=asked)),
            pytest.raises(ServerFailed, match=r"FailedCreate: .*exceeded quota"),
        ):
            one.launch(container(one.place(tmp_path), tmp_path, resources=asked)).__enter__()
    finally:
        core.delete_namespaced_resource_quota("small", NAMESPACE, _preload_content=False).close()


MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOUR: blue}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: theirs, labels: {tier: models}, annotations: {team: search}}
spec:
  replicas: 3
  selector: {matchLabels: {app: theirs}}
  template:
    metadata: {labels: {app: theirs, tier: models, inject: "true"}}
    spec:
      containers:
      - name: sidecar
        image: docker.io/library/small:1
        command: [sleep, "600"]
      - name: model
        image: docker.io/library/small:1
        args: [replaced]
        command: [python3, misbehaving.py]
        ports: [{containerPort: 8123}]
        envFrom: [{configMapRef: {name: settings}}]
        env: [{name: THREADS, value: "1"}, {name: KEPT, value: "yes"}]
        resources: {requests: {cpu: 100m, ephemeral-storage: 10Mi}}
"""


def test_a_users_own_manifest_is_patched_and_all_else_is_kept(tmp_path: Path, core: client.CoreV1Api) -> None:
    documents = tuple(YAML(typ="safe").load_all(MANIFEST))
    one = runner(manifest=documents, container="model", image=None)
    place = one.place(tmp_path)
    assert place.port == 8123
    words = ("--host", place.host, "--port", str(place.port), "--mode", "ok")
    given = container(
        place, tmp_path, command=words, env={"THREADS": "4"}, files={"x.txt": "y"}, resources=Resources(cpu_cores=0.5)
    )
    with one.launch(given) as endpoint:
        [pod] = pods(core)
        sidecar, server = pod.spec.containers
        assert sidecar.command == ["sleep", "600"]
        assert server.command == ["python3", "misbehaving.py"]
        assert server.args == list(words)
        assert {one.name: one.value for one in server.env} == {"KEPT": "yes", "THREADS": "4"}
        assert server.env_from[0].config_map_ref.name == "settings"
        assert server.resources.requests == {"cpu": "500m", "ephemeral-storage": "10Mi"}
        assert not {"app", "tier"} & pod.metadata.labels.keys(), "their Service must not find it"
        assert pod.metadata.labels["inject"] == "true"
        assert httpx.get(f"{endpoint.url}/healthz").status_code == 200
    assert not pods(core)
    core.delete_namespaced_config_map("settings", NAMESPACE, _preload_content=False).close()
    with pytest.raises(ValueError, match="no container other; there is sidecar, model"):
        runner(manifest=documents, container="other")
    with pytest.raises(ValueError, match=r"needs a Deployment, a StatefulSet, .* and there is: ConfigMap"):
        runner(manifest=documents[:1])


def test_a_stateful_set_is_measured_as_one_pod_of_its_template(tmp_path: Path, core: client.CoreV1Api) -> None:
    image = f"docker.io/library/{IMAGE}"
    server = {"name": "s", "image": image, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    spec = {
        "serviceName": "theirs", "selector": {"matchLabels": {"app": "theirs"}},
        "template": {"metadata": {"labels": {"app": "theirs", "kept": "yes"}}, "spec": {"containers": [server]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
    }  # fmt: skip
    document = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "theirs"}, "spec": spec}
    one = runner(manifest=(document,), image=None)
    with one.launch(container(one.place(tmp_path), tmp_path)) as endpoint:
        [pod] = pods(core)
        assert httpx.get(f"{endpoint.url}/healthz").status_code == 200
        assert pod.metadata.labels["kept"] == "yes"
        assert "app" not in pod.metadata.labels, "their Service must not find it"
        assert next(volume for volume in pod.spec.volumes if volume.name == "data").empty_dir is not None
    assert not pods(core)


def test_a_program_runs_beside_the_server_and_its_lines_come_back(
    tmp_path: Path, core: client.CoreV1Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "known")
    with launched(tmp_path) as found:
        place = found.beside
        say = "import os; print(os.environ['SECRET'], sorted(os.listdir('{bundle}'))[-1])"
        program = Program("timeit", ("-n", "1", "-r", "1", "-s", say, "0"), os.urandom(1_500_000), ("SECRET",), 30.0)
        lines = list(place.run(program, found.check))
        assert lines[0].startswith("known bundle.02")
        assert not core.list_namespaced_secret(NAMESPACE, label_selector="tune/trial=7").items
        with pytest.raises(LoadJobUnavailable, match="more than"):
            list(place.run(Program("x", (), b"x" * 80_000_000, (), 30.0), found.check))


def test_no_cluster_is_said_in_two_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(RunnerUnavailable, match="no cluster is configured"):
        runner()
    text = Path(cluster()).read_text(encoding="utf-8").replace(":16443", ":1")
    (tmp_path / "config").write_text(text, encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(RunnerUnavailable, match="no Kubernetes API answers"):
        runner()


def test_use_from_both_versions_of_cgroups() -> None:
    cpu = "nr_periods 10\nnr_throttled 4\n"
    two = as_sample(f"1048576\nusage_usec 2500000\n{cpu}inactive_file 1000\noom_kill 1\n3\n", 1.0)
    assert two is not None
    assert (two.sample.cpu_s, two.sample.memory_bytes, two.sample.throttled, two.oom_kills) == (2.5, 1047576, 4, 1)
    one = as_sample(f"1048576\n2500000000\n{cpu}total_inactive_file 1000\noom_kill 0\n", 1.0)
    assert one is not None
    assert (one.sample.cpu_s, one.sample.memory_bytes, one.sample.periods, one.oom_kills) == (2.5, 1047576, 10, 0)
    assert as_sample("", 1.0) is None


INFERENCE_SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris, annotations: {team: search}}
spec:
  predictor:
    minReplicas: 2
    model:
      modelFormat: {name: sklearn}
      storageUri: pvc://models/iris
      args: [--workers=1]
"""


def test_an_inference_service_is_patched_and_goes_with_its_trial(tmp_path: Path, core: client.CoreV1Api) -> None:
    """Its kind is known to the API server; KServe itself, which would make the pod, does not run here."""
    extensions = client.ApiextensionsV1Api()
    version = {
        "name": "v1beta1", "served": True, "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }  # fmt: skip
    names = {"kind": "InferenceService", "plural": "inferenceservices", "singular": "inferenceservice"}
    body = {
        "metadata": {"name": "inferenceservices.serving.kserve.io"},
        "spec": {"group": "serving.kserve.io", "names": names, "scope": "Namespaced", "versions": [version]},
    }
    with contextlib.suppress(client.ApiException):
        extensions.create_custom_resource_definition(body, _preload_content=False).close()
    time.sleep(2)
    one = runner(manifest=tuple(YAML(typ="safe").load_all(INFERENCE_SERVICE)), image=None, room_timeout_s=4.0)
    asked = Resources(cpu_cores=2, memory_bytes=256 * MIB)
    given = container(one.place(tmp_path), tmp_path, command=("--workers=2",), resources=asked, env={"THREADS": "2"})
    custom = client.CustomObjectsApi()
    where = ("serving.kserve.io", "v1beta1", NAMESPACE, "inferenceservices")
    seen: list[Any] = []

    def look() -> None:
        seen.extend(custom.list_namespaced_custom_object(*where)["items"])

    timer = threading.Timer(2.0, look)
    timer.start()
    with pytest.raises(ServerFailed, match="no pod was made yet"):
        one.launch(given).__enter__()
    timer.join()
    [found] = seen
    predictor = found["spec"]["predictor"]
    assert predictor["model"]["args"] == ["--workers=2"]
    assert predictor["model"]["resources"]["limits"] == {"cpu": "2000m", "memory": str(256 * MIB)}
    assert predictor["model"]["storageUri"] == "pvc://models/iris"
    assert predictor["model"]["env"] == [{"name": "THREADS", "value": "2"}]
    assert predictor["labels"]["tune/trial"] == "7"
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 1)
    assert found["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "RawDeployment"
    assert found["metadata"]["ownerReferences"][0]["kind"] == "Lease"
    assert custom.list_namespaced_custom_object(*where)["items"] == []


def test_a_load_image_without_the_program_is_no_place_for_it(tmp_path: Path) -> None:
    one = runner(load_image=f"docker.io/library/{IMAGE}")
    with one.launch(container(one.place(tmp_path), tmp_path)) as found:
        assert found.beside is not None
        with pytest.raises(LoadJobUnavailable, match=r"small:1 does not run: .*python"):
            list(found.beside.run(Program("loadtest", (), b"x", (), 30.0), found.check))
        assert found.notes == ("The load came from outside the cluster, straight to the pod.",)
