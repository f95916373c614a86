"""The Helm chart: rendered by Helm's template engine, checked against Kubernetes' schemas, run in a real cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from kubernetes import client, config, utils
from ruamel.yaml import YAML

from tests.results.exports.test_exports import accepts
from tests.runners.engines import cluster

ROOT = Path(__file__).parent.parent
RELEASES = ("1.28", "1.31", "1.34")
SPRIG = Path("/usr/share/gocode/src/github.com/Masterminds/sprig")
SPEC = """\
version: 1
service:
  name: inside
  image: docker.io/library/small:1
  command: [python3, misbehaving.py, --mode, ok, --host, "{host}", --port, "{port}", --service-ms, "{service_ms}"]
  ready: {path: /healthz, timeout: 30s}
request: {path: /predict, json: {x: 1}}
slo: {p99: 200ms}
objective: {maximize: capacity_qps}
space: {parameters: {cpu_cores: [0.5], service_ms: [5, 20]}}
load: {max_trial: 6s, max_warmup: 1s}
runner: {type: kubernetes, kubernetes: {load_cpu: 0.3}}
"""


def render(folder: Path, values: dict[str, Any], namespace: str = "tune", version: str = "v1.34.0") -> str:
    if shutil.which("go") is None or not SPRIG.is_dir():
        if os.environ.get("TUNE_TEST_ENGINES") == "required":
            pytest.fail("Go and sprig are missing, and TUNE_TEST_ENGINES=required", pytrace=False)
        pytest.skip("rendering needs golang-go, golang-github-masterminds-sprig-dev and golang-gopkg-yaml.v3-dev")
    path = folder / "values.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    command = [str(ROOT / "deploy" / "render"), "charts/tune", "tune", namespace, str(path)]
    given = os.environ | {"KUBE_VERSION": version}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=given)
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def documents(text: str) -> list[dict[str, Any]]:
    return [one for one in YAML(typ="safe", pure=True).load_all(text) if one]


@pytest.mark.usefixtures("needs_engine")
@pytest.mark.parametrize(("values", "plain"), [("values", "tune"), ("controller-values", "controller")])
def test_the_plain_manifests_are_what_the_chart_renders(tmp_path: Path, values: str, plain: str) -> None:
    given = YAML(typ="safe", pure=True).load(ROOT / "deploy" / f"{values}.yaml")
    assert (ROOT / "deploy" / f"{plain}.yaml").read_text(encoding="utf-8") == render(tmp_path, given)


@pytest.mark.usefixtures("needs_engine")
def test_the_controller_can_delete_nothing_and_a_release_need_not_bring_the_kind(tmp_path: Path) -> None:
    found = documents(render(tmp_path, {"controller": {"enabled": True}}))
    assert "Job" not in {one["kind"] for one in found}, "it tunes nothing by itself"
    [role] = [one for one in found if one["kind"] == "Role" and one["metadata"]["name"].endswith("-controller")]
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch", "patch", "create"}
    assert not any("*" in rule[key] for rule in role["rules"] for key in ("apiGroups", "resources", "verbs"))
    for release in RELEASES:
        for one in found:
            if one["kind"] != "CustomResourceDefinition":  # the validator has no schema of that
                kubernetes_validate.validate(one, release, strict=True)
    without = documents(render(tmp_path, {"controller": {"enabled": True, "crd": False}}))
    assert {one["kind"] for one in found} - {one["kind"] for one in without} == {"CustomResourceDefinition"}


@pytest.mark.usefixtures("needs_engine")
def test_a_tuner_that_was_told_to_stop_is_made_anew_and_does_not_fail_its_job(tmp_path: Path) -> None:
    [job] = [one for one in documents(render(tmp_path, {"spec": SPEC})) if one["kind"] == "Job"]
    assert job["spec"]["backoffLimit"] == 0, "what fails by itself would fail again"
    evicted, stopped = job["spec"]["podFailurePolicy"]["rules"]
    assert (evicted["action"], evicted["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (stopped["action"], stopped["onExitCodes"]["values"]) == ("Ignore", [130])
    [tuner] = job["spec"]["template"]["spec"]["containers"]
    assert stopped["onExitCodes"]["containerName"] == tuner["name"]
    old = documents(render(tmp_path, {"spec": SPEC}, version="v1.25.3"))
    assert not any("podFailurePolicy" in one.get("spec", {}) for one in old if one["kind"] == "Job")


@pytest.mark.usefixtures("needs_engine")
def test_a_databases_password_stands_in_no_command_line(tmp_path: Path) -> None:
    """Every user of the node sees those; `tune` takes it from the environment."""
    values = {"spec": SPEC, "storage": {"secret": "db"}, "dashboard": {"enabled": True, "tokenSecret": "token"}}
    pods = [
        one["spec"]["template"]["spec"] for one in documents(render(tmp_path, values))
        if one["kind"] in ("Job", "Deployment")
    ]  # fmt: skip
    assert len(pods) == 2
    for container in (one["containers"][0] for one in pods):
        assert not any("storage" in word or "$(" in word for word in container["args"])
        [given] = [one for one in container["env"] if one["name"] == "TUNE_STORAGE"]
        assert given["valueFrom"]["secretKeyRef"]["name"] == "db"


@pytest.mark.usefixtures("needs_engine")
def test_prometheus_can_scrape_a_run_where_the_values_say_so(tmp_path: Path) -> None:
    quiet = documents(render(tmp_path, {"spec": SPEC}))
    [job] = [one for one in quiet if one["kind"] == "Job"]
    assert not any("metrics" in word for word in job["spec"]["template"]["spec"]["containers"][0]["args"])
    metrics = {"enabled": True, "podMonitor": True, "podMonitorLabels": {"release": "prom"}, "grafanaDashboard": True}
    found = documents(render(tmp_path, {"spec": SPEC, "metrics": metrics}))
    [job] = [one for one in found if one["kind"] == "Job"]
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert {"--metrics-host=0.0.0.0", "--metrics-port=9000"} <= set(container["args"])
    assert container["ports"] == [{"name": "metrics", "containerPort": 9000}]
    [monitor] = [one for one in found if one["kind"] == "PodMonitor"]
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] == "metrics"
    assert monitor["metadata"]["labels"]["release"] == "prom"
    schema = ROOT / "tests" / "results" / "exports" / "schemas" / "pod-monitor.json"
    accepts(json.loads(schema.read_text(encoding="utf-8")), monitor)
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= job["spec"]["template"]["metadata"]["labels"].items()
    [grafana] = [one for one in found if one["metadata"]["name"].endswith("-grafana")]
    asked = {one["expr"] for panel in json.loads(grafana["data"]["tune.json"])["panels"] for one in panel["targets"]}
    served = (ROOT / "tuner" / "display" / "metrics.py").read_text(encoding="utf-8")
    for expression in asked:
        name = expression.removeprefix("sum(").split("{")[0].removesuffix("_total")
        assert f'"{name}"' in served, expression


@pytest.mark.usefixtures("needs_engine")
@pytest.mark.parametrize("release", RELEASES)
def test_every_manifest_fits_kubernetes_schemas(tmp_path: Path, release: str) -> None:
    values = {
        "spec": SPEC, "files": {"a.jsonl": '{"x": "{{ 1 }}"}\n'}, "storage": {"secret": "db"}, "secrets": "tokens",
        "pullSecrets": ["registry"], "dashboard": {"enabled": True, "tokenSecret": "token"},
        "tuner": {"volumeClaim": "results"},
    }  # fmt: skip
    found = documents(render(tmp_path, values))
    kinds = [one["kind"] for one in found]
    assert sorted(set(kinds)) == [
        "ClusterRole", "ClusterRoleBinding", "ConfigMap", "Deployment", "Job", "Role", "RoleBinding", "Service",
        "ServiceAccount",
    ]  # fmt: skip
    for one in found:
        kubernetes_validate.validate(one, release, strict=True)
    config_map = found[kinds.index("ConfigMap")]["data"]
    assert config_map["a.jsonl"] == '{"x": "{{ 1 }}"}\n'
    assert config_map["spec.yaml"] == SPEC


@pytest.mark.usefixtures("needs_engine")
def test_pods_have_no_more_rights_than_they_need(tmp_path: Path) -> None:
    values = {"spec": SPEC, "storage": {"secret": "db"}, "dashboard": {"enabled": True, "tokenSecret": "token"}}
    found = documents(render(tmp_path, values))
    for one in found:
        if one["kind"] not in ("Job", "Deployment"):
            continue
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is (one["kind"] == "Job")
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    rules = [rule for one in found if one["kind"] == "Role" for rule in one["rules"]]
    assert not any("*" in rule[key] for rule in rules for key in ("apiGroups", "resources", "verbs"))
    assert [rule["verbs"] for rule in rules if "secrets" in rule["resources"]] == [["create", "delete"]], "none is read"
    apart = documents(render(tmp_path, {**values, "trials": {"namespace": "tuned"}}))
    rights = [one for one in apart if one["kind"] in ("Role", "RoleBinding")]
    assert [one["metadata"]["namespace"] for one in rights] == ["tuned"] * 4, "nothing where the tuner itself runs"
    assert {one["subjects"][0]["namespace"] for one in rights if "subjects" in one} == {"tune"}
    [job] = [one for one in apart if one["kind"] == "Job"]
    given = {one["name"]: one.get("value") for one in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert given["TUNE_NAMESPACE"] == "tuned"
    alone = documents(render(tmp_path, {"spec": SPEC, "seeNodes": False}))
    assert not any(one["kind"].startswith("Cluster") for one in alone)
    with pytest.raises(ValueError, match="set the spec's text"):
        render(tmp_path, {})
    with pytest.raises(ValueError, match=r"the dashboard needs storage\.secret"):
        render(tmp_path, {"spec": SPEC, "dashboard": {"enabled": True}})


@pytest.mark.usefixtures("needs_engine")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tuner_runs_in_the_cluster_with_these_rights_alone(tmp_path: Path) -> None:
    path, namespace = cluster(), "tune-chart"
    resources = {"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {"memory": "3Gi"}}
    values = {
        "spec": SPEC, "budget": 2, "image": {"repository": "docker.io/library/tune"}, "tuner": {"resources": resources}
    }  # fmt: skip
    config.load_kube_config(path)
    with client.ApiClient() as api:
        core, batch = client.CoreV1Api(api), client.BatchV1Api(api)
        core.create_namespace({"metadata": {"name": namespace}})
        rbac = client.RbacAuthorizationV1Api(api)
        try:
            for one in documents(render(tmp_path, values, namespace)):
                utils.create_from_dict(api, one, namespace=namespace)
            deadline = time.monotonic() + 240
            job = batch.read_namespaced_job("tune-tune", namespace)
            while not (job.status.succeeded or job.status.failed) and time.monotonic() < deadline:
                time.sleep(0.5)
                job = batch.read_namespaced_job("tune-tune", namespace)
            [pod] = core.list_namespaced_pod(namespace, label_selector="app.kubernetes.io/name=tune").items
            log = core.read_namespaced_pod_log(pod.metadata.name, namespace)
            assert job.status.succeeded == 1, log
            found = json.loads(next(line for line in log.splitlines() if line.startswith('{"schema"')))
            assert found["confirmed"]
            assert sum(found["trials"].values()) == 2
            assert "did not run in the cluster" not in log
            assert not core.list_namespaced_pod(namespace, label_selector="app.kubernetes.io/managed-by=tune").items
            leases = client.CoordinationV1Api(api).list_namespaced_lease(namespace).items
            assert not leases
        finally:
            core.delete_namespace(namespace, _preload_content=False).close()
            rbac.delete_cluster_role(f"{namespace}-tune-tune", _preload_content=False).close()
            rbac.delete_cluster_role_binding(f"{namespace}-tune-tune", _preload_content=False).close()
