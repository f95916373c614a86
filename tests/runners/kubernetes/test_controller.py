"""TuningRuns: what the controller makes of one, what it reads off a log, and the whole of it in a real cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, utils
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream

from runners.kubernetes.cluster import Cluster
from runners.kubernetes.controller import GROUP, PLURAL, VERSION, PodState, TuningRuns, run_name, status_after
from runners.kubernetes.controller.objects import job, run_files
from tests.conftest import Tune
from tests.runners.engines import cluster
from tests.test_chart import SPEC, documents, render
from tuner.spec.yaml_file import read_documents

TEMPLATE: dict[str, Any] = {
    "template": {
        "spec": {
            "containers": [{"name": "tune", "args": ["--budget=auto", "--seed=0", "--output=/work/results", "--json"]}],
            "volumes": [{"name": "spec", "configMap": {"name": "x"}}, {"name": "tmp", "emptyDir": {}}],
        }
    }
}


def a_run(name: str = "demo", **spec: Any) -> dict[str, Any]:
    about = {"name": name, "namespace": "ml", "uid": "0123456789abcdef"}
    return {"metadata": about, "spec": {"service": {"version": 1}, **spec}}


def trial(number: int, best: int | None, cost: float) -> str:
    record = {"number": number, "configuration": {"workers": number}, "cost_per_million_requests": cost}
    record |= {"capacity_qps": {"value": 10.0, "low": 9.0, "high": 11.0}}
    return json.dumps({"event": "trial", "record": record, "best": best})


def test_a_run_becomes_a_job_of_the_chart_s_kind_and_owns_all_that_is_made_for_it() -> None:
    run = a_run(budget=3, parallel=2, files={"a.jsonl": "{}\n"})
    made = job(run, TEMPLATE)
    assert made["spec"]["template"]["spec"]["containers"][0]["args"] == [
        "--seed=0", "--json", "--output=/work/results/demo-tune-01234567", "--budget=3", "--parallel=2"
    ]  # fmt: skip
    assert made["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] == run_name(run)
    assert TEMPLATE["template"]["spec"]["volumes"][0]["configMap"] == {"name": "x"}, "the template stays as it is"
    beside = run_files(run)
    assert beside["data"]["a.jsonl"] == "{}\n"
    for one in (made, beside):
        [owner] = one["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("TuningRun", "0123456789abcdef")
        assert "blockOwnerDeletion" not in owner, "it needs a right that the controller has not"
    with pytest.raises(ValueError, match=r"spec\.yaml is the service spec itself"):
        run_files(a_run(files={"spec.yaml": ""}))
    with pytest.raises(ValueError, match="no volume called spec"):
        job(run, {"template": {"spec": {"containers": [{}]}}})


def test_a_long_name_is_cut_to_what_a_label_can_be() -> None:
    names = {run_name(a_run(name)) for name in ("x" * 253, "a.b", "x" * 43 + ".y")}
    assert all(len(name) <= 63 and name.strip("-.") == name for name in names)
    assert "a-b-tune-01234567" in names


def test_a_service_spec_arrives_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC, encoding="utf-8")
    given = read_documents(path)[0]
    path.write_text(run_files(a_run() | {"spec": {"service": given}})["data"]["spec.yaml"], encoding="utf-8")
    assert read_documents(path)[0] == given


def test_the_status_says_the_phase_the_best_trial_and_the_decision() -> None:
    assert status_after({}, None, None)["phase"] == "Pending"
    waiting = status_after({"job": "j"}, None, PodState(waiting="ImagePullBackOff: no such image"))
    assert waiting == {"job": "j", "phase": "Pending", "message": "ImagePullBackOff: no such image"}
    log = "\n".join([trial(0, 0, 5.0), trial(1, 1, 3.0), trial(2, 1, 9.0), '{"event": "phase", "cut'])
    running = status_after(waiting, None, PodState(log))
    assert (running["phase"], running["trials"]) == ("Running", 3)
    assert running["best"] == {
        "trial": 1, "configuration": {"workers": 1}, "capacityQps": 10.0, "costPerMillionRequests": 3.0
    }  # fmt: skip
    result = {"schema": 1, "configuration": {"workers": 1}, "trials": {"complete": 3}, "alternatives": [1]}
    done = status_after(running, "Complete", PodState(f"{log}\n{json.dumps(result)}", exit_code=0))
    assert done["phase"] == "Succeeded"
    assert done["decision"] == {"schema": 1, "configuration": {"workers": 1}, "trials": {"complete": 3}}
    kept = status_after(running, None, PodState("only a later line"))
    assert kept["best"] == running["best"], "what was read stays, where a log no longer has it"


def test_the_best_trial_has_the_percentiles_that_were_measured() -> None:
    record = {
        "number": 0, "configuration": {}, "p95_ms": 31.5, "p99_ms": {"value": 40.0, "low": 38.0, "high": 42.0},
        "language": {"output_tokens": 9, "ttft": {"p95_ms": 12.5, "p999_ms": None}, "tpot": None},
    }  # fmt: skip
    best = status_after({}, None, PodState(json.dumps({"event": "trial", "best": 0, "record": record})))["best"]
    assert (best["p95Ms"], best["p99Ms"], best["ttft"]) == (31.5, 40.0, {"p95Ms": 12.5})
    assert not {"p50Ms", "tpot", "itl"} & best.keys()


def test_a_failed_run_says_why_in_tune_s_own_words() -> None:
    log = '{"event": "notice", "text": "x"}\ntune: slo: is missing (spec.yaml:1)\nadd one\n{"event": "y"}\n'
    failed = status_after({}, "BackoffLimitExceeded: it failed", PodState(log, exit_code=2))
    assert failed == {"phase": "Failed", "message": "slo: is missing (spec.yaml:1) add one"}
    assert status_after({}, "x", PodState("", exit_code=3))["message"] == "no configuration met the SLO"
    assert status_after({}, "DeadlineExceeded: too long", None)["message"] == "DeadlineExceeded: too long"
    assert status_after({}, "Complete", PodState("", exit_code=0))["phase"] == "Failed", "no decision is no success"


def test_a_pod_that_was_killed_says_why_and_one_that_begins_anew_has_nothing_of_the_last() -> None:
    ended = "BackoffLimitExceeded: it failed"
    killed = status_after({}, ended, PodState(trial(0, 0, 5.0), exit_code=137, killed="OOMKilled"))
    assert killed["message"].startswith("the tuner's pod was killed: OOMKilled; what it was measuring runs until")
    assert status_after({}, ended, PodState("", exit_code=137))["message"].startswith(
        "the tuner was killed by signal 9"
    )
    assert "Evicted: no memory" in status_after({}, ended, PodState(killed="Evicted: no memory"))["message"]
    before = status_after({"job": "j"}, None, PodState("\n".join(trial(number, 0, 5.0) for number in range(4))))
    assert (before["trials"], before["best"]["trial"]) == (4, 0)
    anew = status_after(before, None, PodState('{"event": "study", "finished": 0}'))
    assert anew["trials"] == 0
    assert "best" not in anew
    on = status_after(before, None, PodState('{"event": "study", "finished": 4}\n' + trial(4, 0, 9.0)))
    assert (on["trials"], on["best"]) == (5, before["best"]), "it goes on where its results are on a volume"
    cut = status_after(before, None, PodState(trial(3, 0, 9.0)))
    assert cut["trials"] == 4, "a log that has no beginning counts fewer than there were"


@pytest.mark.parametrize("text", ["a: 1\n", "- 1\n", "template: {spec: {containers: []}}\n"])
def test_a_file_that_holds_no_job_is_refused_in_a_line(tune_in_process: Tune, tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yaml").write_text(text, encoding="utf-8")
    done = tune_in_process("controller", "--job", "job.yaml")
    assert done.returncode == 2
    assert "job.yaml: holds no Job's `spec`" in done.stderr


class _InCluster:
    """The chart's controller in a namespace of its own, and the TuningRuns there."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self.core, self.batch, self.custom = client.CoreV1Api(api), client.BatchV1Api(api), client.CustomObjectsApi(api)
        self.leases = client.CoordinationV1Api(api)

    def create(self, name: str, **spec: Any) -> None:
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "TuningRun", "metadata": {"name": name}, "spec": spec}
        self.custom.create_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, body)

    def delete(self, name: str) -> None:
        self.custom.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)

    def status(self, name: str) -> dict[str, Any]:
        found = self.custom.get_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)
        status: dict[str, Any] = found.get("status") or {}
        return status

    def left(self) -> list[str]:
        """All that a run makes, of the controller's and of its trials'."""
        items = [
            *self.batch.list_namespaced_job(self.namespace).items,
            *self.core.list_namespaced_pod(self.namespace).items,
            *self.core.list_namespaced_service(self.namespace).items,
            *self.core.list_namespaced_config_map(self.namespace).items,
            *self.leases.list_namespaced_lease(self.namespace).items,
        ]
        theirs = ("kube-root-ca", "tune-tune")  # the cluster's, the chart's
        return [one.metadata.name for one in items if not one.metadata.name.startswith(theirs)]

    def replaced(self, pod: Any) -> bool:
        """Whether the only pod is another one; for a moment after a deletion there is none, or both."""
        uids = [one.metadata.uid for one in self.core.list_namespaced_pod(self.namespace).items]
        return len(uids) == 1 and uids[0] != pod.metadata.uid


def until(true: Callable[[], Any], seconds: float, say: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, say()
        time.sleep(0.5)


@pytest.fixture
def in_cluster(tmp_path: Path, needs_engine: None) -> Iterator[_InCluster]:
    path, namespace = cluster(), "tune-controller"
    resources = {"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {"memory": "3Gi"}}
    values = {
        "controller": {"enabled": True}, "budget": 2, "image": {"repository": "docker.io/library/tune"},
        "tuner": {"resources": resources},
    }  # fmt: skip
    config.load_kube_config(path)
    with client.ApiClient() as api:
        found = _InCluster(api, namespace)
        found.core.create_namespace({"metadata": {"name": namespace}})
        rbac, kinds = client.RbacAuthorizationV1Api(api), client.ApiextensionsV1Api(api)
        made = [one for one in documents(render(tmp_path, values, namespace)) if one["kind"] != _KIND]
        [kind] = [one for one in documents(render(tmp_path, values, namespace)) if one["kind"] == _KIND]
        try:
            kinds.create_custom_resource_definition(kind, _preload_content=False).close()
            for one in made:
                utils.create_from_dict(api, one, namespace=namespace)
            yield found
        finally:
            kinds.delete_custom_resource_definition(kind["metadata"]["name"], _preload_content=False).close()
            found.core.delete_namespace(namespace, _preload_content=False).close()
            rbac.delete_cluster_role(f"{namespace}-tune-tune", _preload_content=False).close()
            rbac.delete_cluster_role_binding(f"{namespace}-tune-tune", _preload_content=False).close()


_KIND = "CustomResourceDefinition"
_TUNER = """import signal, time
signal.signal(signal.SIGUSR1, lambda *_: bytearray(10**9))
print('{"event": "study", "finished": 0}', flush=True)
for _ in range(600): time.sleep(1)
"""


@pytest.mark.usefixtures("needs_engine")
def test_a_run_is_begun_by_a_look_and_outlives_its_pod_but_not_its_tuner(tmp_path: Path) -> None:
    path, namespace = cluster(), "tune-look"
    config.load_kube_config(path)
    [kind] = [one for one in documents(render(tmp_path, {"controller": {"enabled": True}})) if one["kind"] == _KIND]
    image = {"image": "docker.io/library/small:1", "imagePullPolicy": "Never"}
    tuner = {**image, "name": "tune", "command": ["python3", "-c", _TUNER], "resources": {"limits": {"memory": "64Mi"}}}
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [tuner], "volumes": []}
    pod["volumes"] = [{"name": "spec", "configMap": {"name": "x"}}]
    with client.ApiClient() as api:
        found, kinds = _InCluster(api, namespace), client.ApiextensionsV1Api(api)
        found.core.create_namespace({"metadata": {"name": namespace}})
        try:
            kinds.create_custom_resource_definition(kind, _preload_content=False).close()
            runs = TuningRuns(Cluster(None, namespace, path), {"backoffLimit": 0, "template": {"spec": pod}})

            def after(look: Callable[[], None]) -> dict[str, Any]:
                look()
                return found.status("a")

            def becomes(phase: str) -> None:
                until(lambda: after(runs.look).get("phase") == phase, 40, lambda: found.status("a"))

            until(lambda: _created(found, "a"), 20, lambda: "the kind is not served")
            becomes("Running")
            body = {"spec": {"budget": 3}}
            found.custom.patch_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, "a", body)  # before 1.25
            found.custom.patch_namespaced_custom_object_status(
                GROUP, VERSION, namespace, PLURAL, "a", {"status": {"best": {"trial": 7}, "trials": 9}}
            )
            [first] = found.core.list_namespaced_pod(namespace).items
            found.core.delete_namespaced_pod(first.metadata.name, namespace, grace_period_seconds=0)
            until(lambda: found.replaced(first), 30, lambda: f"no pod took the place of {first.metadata.name}")
            until(lambda: after(runs.look).get("trials") == 0, 30, lambda: found.status("a"))
            assert "best" not in found.status("a"), "what the gone pod had found is gone with it"
            assert "its spec was changed" in found.status("a")["message"]
            [second] = found.core.list_namespaced_pod(namespace).items
            stream(
                found.core.connect_get_namespaced_pod_exec, second.metadata.name, namespace, stdout=True, stderr=True,
                command=["python3", "-c", "import os, signal; os.kill(1, signal.SIGUSR1)"],
            )  # fmt: skip
            becomes("Failed")
            assert "OOMKilled" in found.status("a")["message"]
        finally:
            kinds.delete_custom_resource_definition(kind["metadata"]["name"], _preload_content=False).close()
            found.core.delete_namespace(namespace, _preload_content=False).close()


def _created(found: _InCluster, name: str) -> bool:
    try:
        found.create(name, service={"version": 1})
    except ApiException as error:
        if error.status != 404:
            raise
        return False
    return True


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_tuning_run_ends_with_a_decision_in_its_status_and_leaves_nothing(
    in_cluster: _InCluster, tmp_path: Path
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC, encoding="utf-8")
    service = read_documents(path)[0]
    with pytest.raises(ApiException, match="budget"):
        in_cluster.create("unfit", service=service, budget="many")
    in_cluster.create("demo", service=service)
    in_cluster.create("wrong", service={**service, "slo": {"p9": "1ms"}})
    until(lambda: in_cluster.status("demo").get("phase") == "Running", 90, lambda: in_cluster.status("demo"))
    until(lambda: in_cluster.status("wrong").get("phase") == "Failed", 60, lambda: in_cluster.status("wrong"))
    assert in_cluster.status("wrong")["message"].startswith("slo.p9: unknown key")
    until(lambda: in_cluster.status("demo").get("phase") == "Succeeded", 240, lambda: in_cluster.status("demo"))
    status = in_cluster.status("demo")
    assert status["trials"] == 2
    assert status["decision"]["confirmed"] is True
    assert status["best"]["configuration"] == status["decision"]["configuration"]
    in_cluster.create("half", service=service, budget=2)
    until(lambda: any("-inside-" in name for name in in_cluster.left()), 90, in_cluster.left)
    for name in ("half", "demo", "wrong"):
        in_cluster.delete(name)
    until(lambda: not in_cluster.left(), 90, in_cluster.left)
