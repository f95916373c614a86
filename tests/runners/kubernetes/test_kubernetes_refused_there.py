"""What a real cluster refuses, or cannot pull: whom it concerns, and how soon that is known. No image is needed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from ruamel.yaml import YAML

from runners import Infeasible, Resources, RunnerUnavailable, ServerFailed
from runners.kubernetes import KubernetesOptions, KubernetesRunner
from runners.kubernetes.cluster import Cluster
from runners.kubernetes.in_cluster_load import LoadJobs
from runners.kubernetes.objects import LAUNCH
from runners.kubernetes.observed import NoImage
from runners.protocol import LoadJobUnavailable, Program
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


@contextlib.contextmanager
def account(core: client.CoreV1Api, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str,
            denied: dict[str, list[str]]) -> Iterator[None]:  # fmt: skip
    """The product is a service account that lacks these verbs of these resources."""
    verbs = ["get", "list", "watch", "create", "patch", "delete"]
    kinds = {
        "": ["pods", "pods/log", "services", "configmaps", "secrets", "events", "resourcequotas"],
        "apps": ["deployments", "replicasets"], "batch": ["jobs"], "coordination.k8s.io": ["leases"],
    }  # fmt: skip
    rules = [
        {"apiGroups": [group], "resources": [one], "verbs": [verb for verb in verbs if verb not in denied.get(one, ())]}
        for group, plurals in kinds.items()
        for one in plurals
    ]
    rights, named = client.RbacAuthorizationV1Api(), {"metadata": {"name": name}}
    with contextlib.ExitStack() as made:
        for create, delete, body in (
            (core.create_namespaced_service_account, core.delete_namespaced_service_account, named),
            (rights.create_namespaced_role, rights.delete_namespaced_role, {**named, "rules": rules}),
            (rights.create_namespaced_role_binding, rights.delete_namespaced_role_binding, {
                **named,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
            }),
        ):  # fmt: skip
            create(NAMESPACE, body)
            made.callback(delete, name, NAMESPACE, _preload_content=False)
        token = core.create_namespaced_service_account_token(name, NAMESPACE, {"spec": {}}).status.token
        theirs = YAML(typ="safe").load(Path(os.environ["KUBECONFIG"]))
        theirs["users"] = [{"name": one["name"], "user": {"token": token}} for one in theirs["users"]]
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps(theirs), encoding="utf-8")
        monkeypatch.setenv("KUBECONFIG", str(path))
        end = time.monotonic() + 60
        while True:  # until the API server has heard of the role
            with contextlib.suppress(RunnerUnavailable):
                Cluster(None, NAMESPACE)
                break
            assert time.monotonic() < end
            time.sleep(0.2)
        yield


def test_rights_that_are_missing_are_named_before_anything_is_made(
    tmp_path: Path, core: client.CoreV1Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {"label_selector": "app.kubernetes.io/managed-by=tune"}
    said = r"may not delete leases\.coordination\.k8s\.io, create deployments\.apps, delete pods in the namespace"
    denied = {"deployments": ["create"], "leases": ["delete"], "pods": ["delete"]}
    with account(core, tmp_path, monkeypatch, "few-rights", denied), launching(tmp_path, RunnerUnavailable, said):
        assert not client.CoordinationV1Api().list_namespaced_lease(NAMESPACE, **ours).items
        assert not core.list_namespaced_config_map(NAMESPACE, **ours).items


def test_a_load_test_that_may_not_be_made_in_the_cluster_comes_from_here(
    tmp_path: Path, core: client.CoreV1Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = KubernetesOptions(namespace=NAMESPACE, image=NONE, load_image=NONE)
    with account(core, tmp_path, monkeypatch, "no-jobs", {"jobs": ["create"], "secrets": ["delete"]}):
        cluster = Cluster(None, NAMESPACE)
        jobs = LoadJobs(cluster, options, "tune-1-load", {LAUNCH: "1"}, {}, "http://127.0.0.1:9", shares_cores=False)
        said = r"this account may not create jobs\.batch, delete secrets in the cluster"
        with pytest.raises(LoadJobUnavailable, match=said):
            list(jobs.run(Program("loadtest", (), b"x", ("SECRET",), 30.0), lambda: None))
        assert not core.list_namespaced_config_map(NAMESPACE, label_selector=f"{LAUNCH}=1-load").items


def test_an_interrupt_while_a_run_gives_up_its_lease_waits_for_that(tmp_path: Path, core: client.CoreV1Api) -> None:
    leases, ours = client.CoordinationV1Api(), {"label_selector": "app.kubernetes.io/managed-by=tune"}
    with contextlib.closing(KubernetesRunner(KubernetesOptions(namespace=NAMESPACE, image=NONE))) as runner:
        with pytest.raises((NoImage, ServerFailed)):  # which of them comes first does not matter here
            runner.launch(support.container(runner.place(tmp_path), tmp_path, timeout_s=1.0)).__enter__()
        assert leases.list_namespaced_lease(NAMESPACE, **ours).items
        interrupt = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            runner.close()
        interrupt.join()
        assert not leases.list_namespaced_lease(NAMESPACE, **ours).items
