"""A workload of the user's own that was measured: an export has what was tuned of it, and says whose it is."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from results.exports import FORMATS, Deployable, NotExportable, exported, offered
from tests.tuner.outcome.test_deployable import deployable, documents, of_kind

MANIFEST = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {"name": "proxy", "image": "proxy:1"},
                    {"name": "llm", "image": "own:1", "args": ["--old"], "ports": [{"containerPort": 9000}]},
                ]
            },
        },
    },
}  # fmt: skip
PATCH = "{spec: {template: {spec: {priorityClassName: 'p{workers}', containers: [{name: llm, tty: true}]}}}}"
PODS = sorted(set(FORMATS) - {"patch", "vllm", "sglang", "json", "triton", "torchserve", "tf-serving", "mlserver"})


def measured(folder: Path, manifest: dict[str, Any] = MANIFEST, **changes: Any) -> Deployable:
    (folder / "web.yaml").write_text(json.dumps(manifest), encoding="utf-8")
    runner = f"type: kubernetes, kubernetes: {{manifest: web.yaml, container: llm, patch: {PATCH}}}"
    given = {"service": "server: vllm, model: {path: org/m}, command: [--port, '{port}', --workers, '{workers}']"}
    return deployable(folder, {"workers": 4}, **{"runner": runner, **given, **changes})


@pytest.mark.parametrize("name", PODS)
def test_a_format_of_a_whole_pod_is_refused_for_a_workload_that_is_somebodys_own(name: str, tmp_path: Path) -> None:
    one = measured(tmp_path)
    with pytest.raises(NotExportable, match=f"measured as the workload of web.yaml, and {name} knows only"):
        exported({"": one}, name)
    assert name not in offered({"": one})
    assert {"patch", "json"} <= set(offered({"": one}))


def test_the_patch_is_for_the_container_that_was_measured_and_keeps_its_image(tmp_path: Path) -> None:
    files = FORMATS["patch"](measured(tmp_path))
    [patch] = documents(files["patch.yaml"])
    assert (patch["kind"], patch["metadata"]["name"]) == ("Deployment", "web")
    [server] = patch["spec"]["template"]["spec"]["containers"]
    assert (server["name"], server["args"]) == ("llm", ["--port", "9000", "--workers", "4"]), "its own port"
    assert not {"image", "command"} & set(server)
    assert "IMAGE stands for" not in "".join(files.values())
    assert "in place of these" not in files["patch.yaml"]
    [spec_patch] = documents(files["spec-patch.yaml"])
    assert spec_patch["spec"]["template"]["spec"]["priorityClassName"] == "p4"
    [kustomization] = documents(files["kustomization.yaml"])
    assert kustomization["resources"] == ["web.yaml"]
    assert [one["path"] for one in kustomization["patches"]] == ["spec-patch.yaml", "patch.yaml"]
    [told] = FORMATS["json"](measured(tmp_path)).values()
    assert json.loads(told)["workload"]["container"] == "llm"
    assert json.loads(told)["notes"][0].startswith("it was measured as the workload of web.yaml")


def test_an_image_that_the_spec_names_is_exported(tmp_path: Path) -> None:
    one = measured(tmp_path, service="image: 'mine:2', command: [serve, '{port}', '{workers}']")
    [patch] = documents(FORMATS["patch"](one)["patch.yaml"])
    [server] = patch["spec"]["template"]["spec"]["containers"]
    assert server["image"] == "mine:2"
    assert server["args"] == ["serve", "9000", "4"], "as it was measured: the manifest has arguments alone"
    assert "command" not in server


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kustomize_lays_both_patches_over_the_manifest(tmp_path: Path) -> None:
    for name, text in FORMATS["patch"](measured(tmp_path)).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(["kubectl", "kustomize", "."], cwd=tmp_path, capture_output=True, text=True, check=True)
    [found] = documents(done.stdout)
    pod = found["spec"]["template"]["spec"]
    assert pod["priorityClassName"] == "p4"
    servers = {one["name"]: one for one in pod["containers"]}
    assert servers["proxy"] == {"name": "proxy", "image": "proxy:1"}
    assert (servers["llm"]["image"], servers["llm"]["tty"]) == ("own:1", True)
    assert servers["llm"]["args"][:2] == ["--port", "9000"]


def test_the_gpus_of_the_manifest_make_room_as_they_did(tmp_path: Path) -> None:
    manifest = json.loads(json.dumps(MANIFEST))
    manifest["spec"]["template"]["spec"]["containers"][1]["resources"] = {"limits": {"nvidia.com/gpu": 1, "cpu": 1}}
    space = "workers: [4], slice: {choices: [1g.10gb], role: gpu_memory}"
    (tmp_path / "web.yaml").write_text(json.dumps(manifest), encoding="utf-8")
    runner = "type: kubernetes, kubernetes: {manifest: web.yaml, container: llm}"
    one = deployable(tmp_path, {"workers": 4, "slice": "1g.10gb"}, space=space, runner=runner)
    [patch] = documents(FORMATS["patch"](one)["patch.yaml"])
    [server] = patch["spec"]["template"]["spec"]["containers"]
    wanted = {"nvidia.com/gpu": None, "nvidia.com/mig-1g.10gb": "1"}
    assert server["resources"] == {"requests": wanted, "limits": wanted}


def test_a_manifest_that_is_gone_leaves_what_the_spec_says_of_it(tmp_path: Path) -> None:
    measured(tmp_path)
    (tmp_path / "web.yaml").unlink()
    runner = "type: kubernetes, kubernetes: {manifest: web.yaml, container: llm, workload: web}"
    one = deployable(tmp_path, {"workers": 4}, runner=runner)
    files = FORMATS["patch"](one)
    [patch] = documents(files["patch.yaml"])
    assert patch["metadata"]["name"] == "web"
    assert patch["spec"]["template"]["spec"]["containers"][0]["name"] == "llm"
    assert "web.yaml is not beside the spec any more" in files["patch.yaml"]


@pytest.mark.parametrize(
    ("text", "runner", "said"),
    [
        (json.dumps(MANIFEST), "workload: api", "has no workload named api; there is web"),
        (json.dumps(MANIFEST), "container: api", "the manifest has no container api; there is proxy, llm"),
        ("kind: [", "container: llm", "not valid YAML: "),
        ("kind: Deployment\nspec: {template: [1]}", "container: llm", "the Deployment's spec.template is no mapping"),
    ],
)
def test_a_manifest_that_is_there_and_is_another_one_is_said_to_be(
    tmp_path: Path, text: str, runner: str, said: str
) -> None:
    (tmp_path / "web.yaml").write_text(text, encoding="utf-8")
    runner = f"type: kubernetes, kubernetes: {{manifest: web.yaml, {runner}}}"
    patch = FORMATS["patch"](deployable(tmp_path, {"workers": 4}, runner=runner))["patch.yaml"]
    assert f"web.yaml cannot be read as it was measured ({said}" in patch
    assert "): check the names and the port that stand here for its" in patch
    assert "any more" not in patch


def test_a_stateful_set_is_patched_as_one_and_an_inference_service_is_not(tmp_path: Path) -> None:
    one = measured(tmp_path, MANIFEST | {"kind": "StatefulSet"})
    assert documents(FORMATS["patch"](one)["patch.yaml"])[0]["kind"] == "StatefulSet"
    service = {"kind": "InferenceService", "metadata": {"name": "web"}, "spec": {"predictor": {"model": {}}}}
    runner = "type: kubernetes, kubernetes: {manifest: web.yaml}"
    with pytest.raises(NotExportable, match=r"measured as the InferenceService of web\.yaml, and patch is for Depl"):
        FORMATS["patch"](measured(tmp_path, service, runner=runner))


PATCHED = """{
  metadata: {annotations: {own: 'yes'}},
  spec: {template: {spec: {hostNetwork: true, containers: [{name: server, tty: true}, {name: log}]}}}
}"""


def patched(folder: Path) -> Deployable:
    """Tune's own pod, over which the spec lays a patch."""
    return deployable(folder, {"workers": 4}, runner=f"type: kubernetes, kubernetes: {{patch: {PATCHED}}}")


def test_tunes_own_pod_with_a_patch_of_the_spec_is_exported_as_patches(tmp_path: Path) -> None:
    files = FORMATS["patch"](patched(tmp_path))
    [server] = documents(files["patch.yaml"])[0]["spec"]["template"]["spec"]["containers"]
    assert (server["name"], server["image"]) == ("digits", "i:1")
    pod = documents(files["spec-patch.yaml"])[0]["spec"]["template"]["spec"]
    assert pod == {"hostNetwork": True, "containers": [{"name": "digits", "tty": True}, {"name": "log"}]}
    assert "Write your Deployment's name, and its container's, in place of these." in files["patch.yaml"]
    assert "lay it over, too" not in "".join(files.values()), "it is here"


def test_what_is_exported_of_tunes_own_pod_says_that_the_specs_patch_is_laid_over_too(tmp_path: Path) -> None:
    one = patched(tmp_path)
    names = set(offered({"": one}))
    assert {"kubernetes", "helm-values", "kserve", "compose", "leader-worker-set", "inference-pool"} <= names
    plain = deployable(tmp_path, {"workers": 4}, runner="type: kubernetes")
    assert names == set(offered({"": plain}))
    for name in names.intersection(PODS):
        text = "".join(exported({"": one}, name).values())
        assert "; runner.kubernetes.patch was laid over what was measured, and is not in this" in text, name
        assert "runner.kubernetes.patch" not in "".join(exported({"": plain}, name).values())


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_the_specs_patch_is_for_the_exported_deployment(tmp_path: Path) -> None:
    one = patched(tmp_path)
    files = FORMATS["patch"](one) | {"deployment.yaml": FORMATS["kubernetes"](one)["digits.yaml"]}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(["kubectl", "kustomize", "."], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = of_kind("Deployment", done.stdout)
    assert (found["metadata"]["name"], found["metadata"]["annotations"]) == ("digits", {"own": "yes"})
    pod = found["spec"]["template"]["spec"]
    assert pod["hostNetwork"] is True
    servers = {each["name"]: each for each in pod["containers"]}
    assert set(servers) == {"digits", "log"}
    assert (servers["digits"]["image"], servers["digits"]["tty"]) == ("i:1", True)


def test_on_another_runner_no_workload_was_measured(tmp_path: Path) -> None:
    runner = "type: docker, kubernetes: {manifest: web.yaml, container: llm}"
    assert deployable(tmp_path, {"workers": 4}, runner=runner).workload is None
