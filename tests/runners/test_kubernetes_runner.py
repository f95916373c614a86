"""The Kubernetes runner against a real cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes import client, config

from runners import Container, Placement, Resources
from runners.kubernetes import KubernetesOptions, KubernetesRunner
from runners.testing import RunnerCase, RunnerContract
from tests.runners import support
from tests.runners.engines import IMAGE, cluster

SERVER = ("python3", "misbehaving.py", "--host", "{host}", "--port", "{port}", "--mode")
MIB = 2**20
NAMESPACE = "tune-tests"
_RUNNERS: list[KubernetesRunner] = []


@pytest.fixture(autouse=True)
def core(monkeypatch: pytest.MonkeyPatch) -> Iterator[client.CoreV1Api]:
    path = cluster()
    monkeypatch.setenv("KUBECONFIG", path)
    config.load_kube_config(path)
    api = client.CoreV1Api()
    with contextlib.suppress(client.ApiException):
        api.create_namespace({"metadata": {"name": NAMESPACE}})
    yield api
    while _RUNNERS:
        _RUNNERS.pop().close()
    api.api_client.close()


def runner(**options: Any) -> KubernetesRunner:
    given = {"image": f"docker.io/library/{IMAGE}", "namespace": NAMESPACE, "load_image": f"docker.io/library/{IMAGE}"}
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
        )


def test_a_pod_is_as_the_configuration_says(tmp_path: Path, core: client.CoreV1Api) -> None:
    asked = Resources(cpu_cores=0.5, memory_bytes=256 * MIB)
    one = runner(shm_bytes=32 * MIB, node_selector={"kubernetes.io/hostname": "node1"})
    given = container(
        one.place(tmp_path), tmp_path, resources=asked, files={"a/config.txt": "threads=3"}, env={"THREADS": "3"}
    )
    with one.launch(given) as endpoint:
        [pod] = pods(core)
        [server] = pod.spec.containers
        assert server.resources.requests == server.resources.limits == {"cpu": "500m", "memory": str(256 * MIB)}
        assert {one.name: one.value for one in server.env} == {"THREADS": "3"}
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
