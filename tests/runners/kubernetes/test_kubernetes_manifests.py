"""People's own manifests: what is there is replaced or merged as Kubernetes would, never doubled."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from runners.kubernetes.forward import url_of
from runners.kubernetes.load_job import load_job
from runners.kubernetes.manifest import (
    model_of,
    needs_command,
    pod_of,
    server_container,
    server_port,
    shared_of,
    workload_of,
    workload_port,
)
from runners.kubernetes.objects import LAUNCH, claim_template, laid_over, patched
from runners.kubernetes.observed import Seen, is_alone, refused, why_waiting
from runners.kubernetes.options import PRESETS, ClusterGpus, KubernetesOptions
from runners.kubernetes.owned import _is_dead
from runners.leftovers.ownership import state_folder, this_place
from runners.protocol import Container, Placement, Program, Readiness, Resources

HERE = Placement("0.0.0.0", 8000, "/f")


def deployment(name: str = "llm", **server: Any) -> dict[str, Any]:
    pod = {"containers": [{"name": "s", "image": "i:1", **server}]}
    return {"kind": "Deployment", "metadata": {"name": name}, "spec": {"template": {"spec": pod}}}


def test_a_server_beside_a_sidecar_is_not_alone_in_its_pod() -> None:
    def pod(*names: str, before: str | None = None) -> client.V1Pod:
        init = client.V1Container(name="init", restart_policy=before)
        spec = client.V1PodSpec(containers=[client.V1Container(name=name) for name in names], init_containers=[init])
        return client.V1Pod(spec=spec)

    assert is_alone(pod("server"))
    assert is_alone(client.V1Pod(spec=client.V1PodSpec(containers=[client.V1Container(name="server")])))
    assert not is_alone(pod("server", "proxy"))
    assert not is_alone(pod("server", before="Always")), "a sidecar since Kubernetes 1.28"


def made(
    workload: dict[str, Any], resources: Resources | None = None, *, command: tuple[str, ...] = ("python", "srv.py"),
    **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """The pod (or predictor) of the workload, patched with a command of ours."""
    before = copy.deepcopy(workload)
    container = Container(
        "study", 1, Path(), Path(), {}, resources or Resources(), HERE, Readiness(None, 1.0, None),
        command=command,
    )  # fmt: skip
    found = patched(workload, "tune-1", container, KubernetesOptions(**options), {LAUNCH: "x"}, None)
    assert workload == before, "what is patched stays as it was"
    return pod_of(found)


@pytest.mark.parametrize(
    ("theirs", "command", "args"),
    [
        ({"command": ["/bin/sh", "-c"], "args": ["exec python x"]}, ["python", "srv.py"], None),
        ({"command": ["/bin/sh", "-c", "exec python x"]}, ["python", "srv.py"], None),
        ({"command": ["bash", "-lc"], "args": []}, ["python", "srv.py"], None),
        ({"args": ["--port", "1"]}, None, ["python", "srv.py"]),
        ({}, ["python", "srv.py"], None),
    ],
)
def test_a_shells_words_are_no_part_of_our_command(
    theirs: dict[str, Any], command: list[str] | None, args: list[str] | None
) -> None:
    [server] = made(deployment(**theirs))["containers"]
    assert (server.get("command"), server.get("args")) == (command, args)


@pytest.mark.parametrize("theirs", [{"command": ["vllm", "serve"]}, {"command": ["vllm"], "args": ["--x"]}, {}])
def test_a_command_that_begins_with_an_option_is_arguments_to_the_program(theirs: dict[str, Any]) -> None:
    [server] = made(deployment(**theirs), command=("--model", "m"))["containers"]
    assert (server.get("command"), server.get("args")) == (theirs.get("command"), ["--model", "m"])


@pytest.mark.parametrize("path", ["/dev/shm", "/dev/shm/"])
def test_shared_memory_is_mounted_once(path: str) -> None:
    workload = deployment(volumeMounts=[{"name": "dshm", "mountPath": path}, {"name": "w", "mountPath": "/w"}])
    pod = workload["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "dshm", "emptyDir": {"medium": "Memory"}}, {"name": "w", "emptyDir": {}}]
    found = made(workload, shm_bytes=2**31)
    paths = [one["mountPath"].rstrip("/") for one in found["containers"][0]["volumeMounts"]]
    assert sorted(paths) == ["/dev/shm", "/w"]
    assert [one["name"] for one in found["volumes"]] == ["w", "tune-shm"]
    pod["initContainers"] = [{"name": "first", "volumeMounts": [{"name": "dshm", "mountPath": "/cache"}]}]
    assert [one["name"] for one in made(workload, shm_bytes=2**31)["volumes"]] == ["dshm", "w", "tune-shm"]


def test_a_gpu_type_is_required_of_nodes_beside_what_the_manifest_requires() -> None:
    workload = deployment()
    zones = [{"key": "zone", "operator": "In", "values": ["a"]}]
    terms = {"nodeSelectorTerms": [{"matchExpressions": zones}, {"matchFields": [{"key": "metadata.name"}]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}, "podAffinity": {"x": 1}}
    workload["spec"]["template"]["spec"]["affinity"] = affinity
    gpus = ClusterGpus(types={"A100": ("A100-40GB", "A100-80GB")})
    found = made(workload, Resources(gpu_type="A100"), gpus=gpus)["affinity"]
    wanted = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["A100-40GB", "A100-80GB"]}
    first, second = found["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert first["matchExpressions"] == [*zones, wanted]
    assert second == {"matchFields": [{"key": "metadata.name"}], "matchExpressions": [wanted]}
    assert found["podAffinity"] == {"x": 1}
    again = made(deployment(), Resources(gpu_type="A100"), gpus=gpus)["affinity"]["nodeAffinity"]
    assert len(again["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]) == 1


def test_a_toleration_that_is_there_is_not_added_again() -> None:
    workload, toleration = deployment(), {"key": "nvidia.com/gpu", "operator": "Exists"}
    workload["spec"]["template"]["spec"]["tolerations"] = [toleration]
    assert made(workload, tolerations=(toleration, {"key": "spot"}))["tolerations"] == [toleration, {"key": "spot"}]


def test_of_several_workloads_one_is_chosen_by_its_name_or_its_container() -> None:
    redis = deployment("redis")
    redis["spec"]["template"]["spec"]["containers"][0]["name"] = "redis"
    documents = [{"kind": "ConfigMap"}, {"kind": "StatefulSet"}, deployment(), redis]
    assert workload_of(documents, container="s") is documents[2]
    assert workload_of(documents, name="redis") is redis
    assert workload_of([{"kind": "List", "items": documents}], name="redis") is redis
    assert shared_of([{"kind": "List", "items": documents}]) == [{"kind": "ConfigMap"}]
    with pytest.raises(ValueError, match=r"2 workloads \(llm, redis\); say which in runner\.kubernetes\.workload"):
        workload_of(documents)
    with pytest.raises(ValueError, match="named web; there is llm, redis"):
        workload_of(documents, name="web")
    with pytest.raises(ValueError, match=r"needs a Deployment, a StatefulSet, .* and there is: ConfigMap"):
        workload_of([{"kind": "ConfigMap"}])


@pytest.mark.parametrize("framework", ["model", "sklearn", "triton", "pytorch", "huggingface"])
def test_a_predictor_of_any_framework_is_tuned_like_a_model(framework: str) -> None:
    predictor = {framework: {"storageUri": "s3://m", "env": [{"name": "A", "value": "b"}]}, "minReplicas": 0}
    found = made({"kind": "InferenceService", "metadata": {"name": "iris"}, "spec": {"predictor": predictor}})
    assert found[framework]["args"] == ["python", "srv.py"]
    assert found[framework]["storageUri"] == "s3://m"
    assert model_of({"containers": [{"name": "x"}], **predictor}) is None


@pytest.mark.parametrize(
    ("server", "port"),
    [
        ({"ports": [{"containerPort": 9090, "name": "metrics"}, {"containerPort": 8001, "name": "http"}]}, 8001),
        ({"ports": [{"containerPort": 9090, "name": "metrics"}, {"containerPort": 8001, "name": "tcp"}]}, 8001),
        ({"ports": [{"containerPort": 8001, "name": "grpc"}, {"containerPort": 8002}]}, 8002),
        ({"ports": [{"containerPort": 7}, {"containerPort": 8}], "readinessProbe": {"httpGet": {"port": 8}}}, 8),
        (
            {
                "ports": [{"containerPort": 7}, {"containerPort": 8, "name": "x"}],
                "livenessProbe": {"httpGet": {"port": "x"}},
            },
            8,
        ),
        ({"ports": [{"containerPort": 9090, "name": "metrics"}]}, 9090),
        ({"ports": [{"containerPort": 7}, {"containerPort": 8}]}, 7),
        ({}, 8000),
    ],
)  # fmt: skip
def test_the_port_is_the_one_that_serves(server: dict[str, Any], port: int) -> None:
    assert server_port(server) == port


def test_an_inference_service_listens_where_kserve_sends_requests_unless_it_says_otherwise() -> None:
    model: dict[str, Any] = {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://m"}
    service = {"kind": "InferenceService", "metadata": {"name": "iris"}, "spec": {"predictor": {"model": model}}}
    assert workload_port(workload_of([service]), None) == 8080
    model["ports"] = [{"containerPort": 9000}]
    assert workload_port(workload_of([service]), None) == 9000
    assert workload_port(workload_of([deployment()]), None) == 8000


@pytest.mark.parametrize(
    ("asked", "slices", "left"),
    [
        (Resources(gpu_type="A100", gpu_memory="1g.10gb"), "mig", {"nvidia.com/mig-1g.10gb": "1"}),
        (Resources(gpus=2), "mig", {"nvidia.com/gpu": "2"}),
        (Resources(gpus=1), "dra", {}),
        (Resources(gpu_memory="4"), "shared", {"nvidia.com/gpu.shared": "4"}),
        (Resources(), "mig", {"nvidia.com/gpu": "1"}),
        (Resources(gpus=0), "mig", {}),
    ],
)
def test_a_manifests_own_gpus_make_room_for_those_of_the_configuration(
    asked: Resources, slices: str, left: dict[str, str]
) -> None:
    theirs = {"limits": {"nvidia.com/gpu": "1", "memory": "8Gi", "example.com/nic": "1"}, "requests": {"cpu": "1"}}
    found = made(deployment(resources=theirs), asked, gpus=ClusterGpus(slices=PRESETS[slices]))
    resources = found["containers"][0]["resources"]
    assert resources["limits"] == {"memory": "8Gi", "example.com/nic": "1", **left}
    assert resources["requests"] == {"cpu": "1", **({} if asked == Resources() else left)}


def test_the_load_tests_pod_is_allowed_where_pods_are_restricted() -> None:
    program = Program("loadtest", (), b"", (), 10.0)
    job = load_job(program, KubernetesOptions(), "load", "server", {}, {"kind": "Lease", "name": "l"}, ())
    [container] = job["spec"]["template"]["spec"]["containers"]
    restricted = {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}
    assert restricted.items() <= container["securityContext"].items()
    assert container["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize(("host", "url"), [("10.1.2.3", "http://10.1.2.3:80"), ("fd00::7", "http://[fd00::7]:80")])
def test_a_pods_address_may_be_of_either_kind(host: str, url: str) -> None:
    assert url_of("http", host, 80) == url


@pytest.mark.parametrize(
    ("place", "renewed_s", "dead"),
    [
        ("{node}/another-boot/pid:[1]", 5, False),  # a machine of the same name
        ("{node}/another-boot/pid:[1]", 400, True),
        ("elsewhere/boot/pid:[1]", 5, False),
        ("elsewhere/boot/pid:[1]", 400, True),
        ("{here}", 5, True),
    ],
)
def test_a_lease_that_is_renewed_is_never_that_of_a_dead_run_elsewhere(place: str, renewed_s: int, dead: bool) -> None:
    here = this_place()
    notes = {
        "tune/owner": "4194304-1", "tune/state": str(state_folder()),
        "tune/place": place.format(node=here.split("/", 1)[0], here=here),
    }  # fmt: skip
    renewed = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=renewed_s)
    lease = client.V1Lease(
        metadata=client.V1ObjectMeta(annotations=notes), spec=client.V1LeaseSpec(renew_time=renewed)
    )  # fmt: skip
    assert _is_dead(lease) is dead


def test_a_pod_that_will_never_be_admitted_is_not_waited_for() -> None:
    restricted = 'pods "a-b" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false'
    policy = 'admission webhook "validate.kyverno.svc-fail" denied the request: limits are required'
    for said in (restricted, policy):
        assert refused(Seen({}, {"FailedCreate": said})) == said
    quota = 'pods "a-b" is forbidden: exceeded quota: q, requested: cpu=2, used: cpu=3, limited: cpu=4'
    assert refused(Seen({}, {"FailedCreate": quota})) is None
    assert refused(Seen({"p": client.V1Pod()}, {"FailedCreate": policy})) is None, "it was made after all"


def test_what_comes_before_the_server_says_why_it_does_not_end() -> None:
    def waits(name: str, reason: str, message: str = "") -> client.V1ContainerStatus:
        state = client.V1ContainerState(waiting=client.V1ContainerStateWaiting(reason=reason, message=message))
        return client.V1ContainerStatus(name=name, image="i", image_id="", ready=False, restart_count=0, state=state)

    server = waits("server", "PodInitializing")
    status = client.V1PodStatus(
        container_statuses=[server], init_container_statuses=[waits("fetch", "CrashLoopBackOff", "back-off 10s")]
    )
    assert why_waiting(Seen({"p": client.V1Pod(status=status)}, {})) == "CrashLoopBackOff: back-off 10s"
    status = client.V1PodStatus(container_statuses=[server], init_container_statuses=[waits("x", "PodInitializing")])
    assert why_waiting(Seen({"p": client.V1Pod(status=status)}, {})) == "PodInitializing"


def test_a_pod_without_containers_says_so() -> None:
    with pytest.raises(ValueError, match="no container at all; there is none"):
        server_container({}, None)


def test_lists_merge_by_the_key_that_kubernetes_merges_them_by() -> None:
    before = {"volumeMounts": [{"name": "a", "mountPath": "/dev/shm"}], "ports": [{"containerPort": 80, "name": "x"}]}
    patch = {"volumeMounts": [{"name": "b", "mountPath": "/dev/shm"}], "ports": [{"containerPort": 80, "name": "y"}]}
    assert laid_over(before, patch) == patch


def asked(preset: str, **wanted: Any) -> tuple[dict[str, str], dict[str, str]]:
    return ClusterGpus(slices=PRESETS[preset]).asked(Resources(gpu_type="A100", **wanted))


def test_a_share_of_the_compute_is_asked_for_beside_that_of_the_memory() -> None:
    assert asked("hami-gpumem", gpu_memory="8Gi", gpu_compute=0.25) == (
        {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "8192", "nvidia.com/gpucores": "25"}, {}
    )  # fmt: skip
    assert asked("hami-gpumem", gpu_compute=0.25) == ({"nvidia.com/gpu": "1", "nvidia.com/gpucores": "25"}, {})
    assert asked("hami-gpumem", gpu_memory="8Gi", gpu_compute=1.0) == asked("hami-gpumem", gpu_memory="8Gi")
    limits = {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=8192M", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "12.5"}
    assert asked("mps", gpu_memory="8Gi", gpu_compute=0.125) == ({"nvidia.com/gpu.shared": "1"}, limits)
    for preset in ("mig", "dra"):
        with pytest.raises(ValueError, match="25% of a GPU's compute cannot be asked for by these slices"):
            asked(preset, gpu_memory="1g.10gb", gpu_compute=0.25)


CLAIMED = (
    (Resources(gpu_type="A10", gpus=2), "gpu.nvidia.com", 2),
    (Resources(gpu_type="H100", gpu_memory="1g.10gb"), "mig.nvidia.com", 1),
    (Resources(gpu_type="H100", gpu_memory="8Gi"), "gpu.nvidia.com", 1),
    (Resources(gpu_type="MI300X"), "gpu.amd.com", 1),
    (Resources(gpus=1), "gpu.nvidia.com", 1),
)


@pytest.mark.parametrize(("resources", "device_class", "count"), CLAIMED)
def test_a_claim_is_as_the_api_has_it(resources: Resources, device_class: str, count: int) -> None:
    """Its schema, of the release that this package's newest has."""
    import kubernetes_validate

    gpus = ClusterGpus(
        slices=PRESETS["dra"], types={"H100": ("NVIDIA H100 80GB HBM3",)}, resources={"MI300X": "gpu.amd.com"}
    )
    claim = gpus.claim(resources)
    assert claim is not None
    template = claim_template("tune-llm-3-abc", claim, {"a": "b"}, None)
    kubernetes_validate.validate(template, "1.37", strict=True)
    [request] = template["spec"]["spec"]["devices"]["requests"]
    assert (request["exactly"]["deviceClassName"], request["exactly"]["count"]) == (device_class, count)
    pod = made(deployment(), resources, gpus=gpus)
    assert pod["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": "tune-1-gpu"}]
    assert pod["containers"][0]["resources"]["claims"] == [{"name": "gpu"}]
    assert "nodeSelector" not in pod
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "spec": pod}, "1.37", strict=True)


def test_a_claim_names_its_product_and_its_slice() -> None:
    gpus = ClusterGpus(slices=PRESETS["dra"], types={"H100": ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe")})

    def exactly(resources: Resources) -> dict[str, Any]:
        claim = gpus.claim(resources)
        assert claim is not None
        found: dict[str, Any] = claim["spec"]["devices"]["requests"][0]["exactly"]
        return found

    def selected(resources: Resources) -> list[str]:
        return [one["cel"]["expression"] for one in exactly(resources)["selectors"]]

    product = "device.attributes['gpu.nvidia.com'].productName"
    assert selected(Resources(gpu_type="H100", gpu_memory="1g.10gb")) == [
        f'{product} in ["NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe"]',
        "device.attributes['gpu.nvidia.com'].profile == '1g.10gb'",
    ]
    assert selected(Resources(gpu_type="A10")) == [f'{product}.matches("(^|[^0-9A-Za-z])A10([^0-9A-Za-z]|$)")']
    assert exactly(Resources(gpu_memory="8Gi"))["capacity"] == {"requests": {"memory": str(8 * 2**30)}}
    for share in (0.25, "25%"):
        with pytest.raises(ValueError, match=r"write for example 8Gi"):
            gpus.claim(Resources(gpu_memory=share))
    assert gpus.claim(Resources(cpu_cores=1)) is None
    assert ClusterGpus().claim(Resources(gpus=1)) is None


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("StatefulSet", {"template": "POD", "serviceName": "x", "selector": {"matchLabels": {"app": "theirs"}},
                         "volumeClaimTemplates": [{"metadata": {"name": "data"}}]}),
        ("Rollout", {"template": "POD", "strategy": {"canary": {}}, "selector": {"matchLabels": {"app": "theirs"}}}),
        ("ReplicaSet", {"template": "POD"}),
        ("LeaderWorkerSet", {"leaderWorkerTemplate": {"size": 1, "workerTemplate": "POD"}}),
        ("LeaderWorkerSet", {"leaderWorkerTemplate": {"leaderTemplate": "POD", "workerTemplate": {"spec": {}}}}),
        ("RayService", {"rayClusterConfig": {"headGroupSpec": {"template": "POD"}}}),
        ("RayService", {"rayClusterConfig": {"headGroupSpec": {"template": {"spec": {}}},
                                             "workerGroupSpecs": [{"groupName": "w", "replicas": 2, "template": "POD"},
                                                                  {"groupName": "idle", "template": {"spec": {}}}]}}),
    ],
)  # fmt: skip
def test_what_makes_pods_of_a_template_is_launched_as_a_deployment_of_it(kind: str, spec: dict[str, Any]) -> None:
    server = {"name": "s", "image": "own:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    pod = {"metadata": {"labels": {"app": "theirs", "kept": "yes"}}, "spec": {"containers": [server]}}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [filled(one) for one in value]
        return copy.deepcopy(pod) if value == "POD" else value

    given = {"apiVersion": "x/v1", "kind": kind, "metadata": {"name": "mine"}, "spec": filled(spec)}
    before = copy.deepcopy(given)
    found = workload_of([given])
    assert (found["kind"], found["apiVersion"], found["spec"]["template"]["metadata"]) == (
        "Deployment", "apps/v1", pod["metadata"]
    )  # fmt: skip
    assert pod_of(found)["containers"] == [server]
    volumes = [{"name": "data", "emptyDir": {}}] if kind == "StatefulSet" else []
    assert pod_of(found).get("volumes", []) == volumes
    assert given == before
    assert made(dict(found))["containers"][0]["command"] == ["python", "srv.py"]


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("LeaderWorkerSet", {"leaderWorkerTemplate": {"size": 4, "workerTemplate": {}}}, "groups of 4 pods"),
        ("LeaderWorkerSet", {}, "the LeaderWorkerSet has no pod in it"),
        ("Rollout", {"workloadRef": {"name": "other"}}, "the Rollout has no pod in it"),
        ("RayService", {"serveConfigV2": "x"}, "the RayService has no pod in it"),
        ("RayService", {"rayClusterConfig": {"workerGroupSpecs": [{"groupName": "a", "replicas": 1},
                                                                  {"groupName": "b", "minReplicas": 1}]}},
         r"several groups of workers \(a, b\)"),
        ("RayService", {"rayClusterConfig": {"enableInTreeAutoscaling": True, "workerGroupSpecs": [
            {"groupName": "a", "replicas": 0, "numOfHosts": 4, "template": {}}]}}, "groups of 4 hosts"),
        ("StatefulSet", {"template": []}, "the StatefulSet has no pod in it"),
        ("Deployment", "text", "the Deployment's spec is no mapping"),
        ("Deployment", {"template": [1]}, r"the Deployment's spec\.template is no mapping"),
        ("RayService", {"rayClusterConfig": {"headGroupSpec": [1]}}, r"rayClusterConfig\.headGroupSpec is no mapping"),
    ],
)  # fmt: skip
def test_a_workload_without_a_pod_of_its_own_says_so(kind: str, spec: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        workload_of([{"kind": kind, "metadata": {"name": "x"}, "spec": spec}])


def test_a_container_of_another_shape_than_kubernetes_has_says_so() -> None:
    odd = {"containers": [{"name": "s", "resources": {"limits": "cpu: 1"}}]}
    with pytest.raises(ValueError, match=r"the container s's resources\.limits is no mapping of keys to values"):
        server_container(odd, None)
    odd = {"containers": [{"name": "s", "readinessProbe": {"httpGet": "/ready"}}]}
    with pytest.raises(ValueError, match=r"the container s's readinessProbe\.httpGet is no mapping"):
        server_container(odd, None)


def test_a_ray_service_serves_at_the_port_called_serve_and_needs_a_command() -> None:
    ports = [{"name": "gcs-server", "containerPort": 6379}, {"name": "serve", "containerPort": 8100}]
    server: dict[str, Any] = {"name": "ray-head", "image": "own:1", "ports": ports}
    head = {"template": {"spec": {"containers": [server]}}}
    ray = {"kind": "RayService", "metadata": {"name": "r"}, "spec": {"rayClusterConfig": {"headGroupSpec": head}}}
    assert server_port(server_container(pod_of(workload_of([ray])), None)) == 8100
    assert needs_command([ray], None, None)
    server["args"] = ["serve run app:app"]
    assert not needs_command([ray], None, None)
    assert not needs_command([deployment()], None, None)


def test_a_database_beside_the_deployment_is_not_what_is_tuned_unless_it_is_named() -> None:
    database = {**deployment("db"), "kind": "StatefulSet"}
    assert workload_of([database, deployment()])["metadata"]["name"] == "llm"
    assert workload_of([database, deployment()], name="db")["metadata"]["name"] == "db"
    assert workload_of([database])["metadata"]["name"] == "db"
