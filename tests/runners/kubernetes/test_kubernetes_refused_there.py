"""What a real cluster refuses, or cannot pull: whom it concerns, and how soon that is known. No image is needed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from runners import Infeasible, Resources, ServerFailed
from runners.kubernetes import KubernetesOptions, KubernetesRunner
from runners.kubernetes.observed import NoImage
from tests.runners import support
from tests.runners.core_api import core_api

NAMESPACE, NONE = "tune-refused", "localhost:1/none:1"
MANIFEST = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "theirs"},
    "spec": {"template": {"spec": {"containers": [{"name": "s", "image": "localhost:1/other:1", "args": ["x"]}]}}},
}  # fmt: skip


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch, needs_engine: None) -> Iterator[client.CoreV1Api]:
    with core_api(NAMESPACE, monkeypatch) as api:
        yield api


@contextlib.contextmanager
def launching(folder: Path, kind: type[Exception], said: str, resources: Resources | None = None,
              patch: Any = None, **options: Any) -> Iterator[None]:  # fmt: skip
    """A launch fails so, after the block has begun; nothing of it is left."""
    given = {"namespace": NAMESPACE, "image": NONE, "room_timeout_s": 4.0, **options}
    with contextlib.closing(KubernetesRunner(KubernetesOptions(**given))) as runner:
        made = support.container(runner.place(folder), folder, timeout_s=8.0, resources=resources, command=("serve",))
        with pytest.raises(kind, match=said) as caught:
            runner.launch(replace(made, patch=patch or {})).__enter__()
        assert type(caught.value) is kind
    yield


def test_an_image_whose_registry_is_away_is_waited_for_and_is_every_trials_or_one_trials_own(
    tmp_path: Path, core: client.CoreV1Api
) -> None:
    begun = time.monotonic()
    with launching(tmp_path, NoImage, "did not start within 8 s: (ErrImagePull|ImagePullBackOff): "):
        assert time.monotonic() - begun > 8, "the registry may be away for a moment"
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "s", "image": NONE}]}}}}
    with launching(tmp_path, ServerFailed, "did not start within 8 s: ", patch=patch, manifest=(MANIFEST,), image=None):
        assert not core.list_namespaced_pod(NAMESPACE).items


def holds(core: client.CoreV1Api, hard: dict[str, str]) -> None:
    """Block until the cluster has counted what there is against the quota."""
    end = time.monotonic() + 60
    while True:
        status = core.read_namespaced_resource_quota_status("few", NAMESPACE).status
        if status and status.hard == hard and (status.used or {}).get("count/services") == "1":
            return
        assert time.monotonic() < end, status
        time.sleep(0.2)


def test_a_quota_of_objects_is_waited_for_and_one_that_never_allows_them_is_not(
    tmp_path: Path, core: client.CoreV1Api
) -> None:
    hard = {"count/services": "1"}
    core.create_namespaced_service(NAMESPACE, {"metadata": {"name": "taken"}, "spec": {"ports": [{"port": 80}]}})
    core.create_namespaced_resource_quota(NAMESPACE, {"metadata": {"name": "few"}, "spec": {"hard": hard}})
    try:
        holds(core, hard)
        begun = time.monotonic()
        with launching(tmp_path, ServerFailed, "the cluster refuses the launch: .*exceeded quota: few"):
            assert time.monotonic() - begun > 4
        core.patch_namespaced_resource_quota("few", NAMESPACE, {"spec": {"hard": {"count/services": "0"}}})
        holds(core, {"count/services": "0"})
        begun = time.monotonic()
        with launching(tmp_path, Infeasible, "the cluster refuses the launch: .*exceeded quota: few"):
            # A kubelet that was about to start a pod may look at its end a minute later.
            assert time.monotonic() - begun < 80, "the pod that was made first is not left to the garbage collector"
    finally:
        core.delete_namespaced_resource_quota("few", NAMESPACE, _preload_content=False).close()
        core.delete_namespaced_service("taken", NAMESPACE, _preload_content=False).close()


def test_what_a_namespaces_limits_never_allow_is_infeasible_at_once(tmp_path: Path, core: client.CoreV1Api) -> None:
    limit = {"type": "Container", "max": {"cpu": "200m"}}
    core.create_namespaced_limit_range(NAMESPACE, {"metadata": {"name": "small"}, "spec": {"limits": [limit]}})
    try:
        begun = time.monotonic()
        with launching(
            tmp_path, Infeasible, "FailedCreate: .*maximum cpu usage per Container is 200m",
            Resources(cpu_cores=0.5), room_timeout_s=300.0,
        ):  # fmt: skip
            assert time.monotonic() - begun < 60
    finally:
        core.delete_namespaced_limit_range("small", NAMESPACE, _preload_content=False).close()
