"""A patch over a cluster's workload: what no other binding reaches."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners import Placement, Resources
from runners.kubernetes import ClusterGpus, KubernetesOptions
from runners.kubernetes.objects import LAUNCH, STUDY, TRIAL, laid_over, patched, plain_deployment, resource_section
from runners.kubernetes.options import PRESETS
from tuner.launch.checks.before_launch import check
from tuner.launch.render import TrialLaunch, render
from tuner.launch.requests import request_source
from tuner.launch.runner import kubernetes_options
from tuner.spec.reading import load_spec

SPEC = """\
version: 1
service: {name: patched, image: "small:1", command: [serve, "{port}"]}
request: {path: /p, json: {x: 1}}
slo: {p99: 50ms}
space: {parameters: {cpu_cores: [1, 2], class: [slow, fast], spare: [1, 2]}}
prices: {cpu_core_hour: 0.04}
runner:
  type: kubernetes
  kubernetes:
    patch:
      spec:
        template:
          spec:
            priorityClassName: "{class}"
            activeDeadlineSeconds: "{spare}"
            containers:
              - {name: server, env: [{name: SPARE, value: "of {spare}"}], stdin: true}
              - {name: beside, image: "beside:{class}"}
"""


def test_a_patch_merges_as_kubectl_does() -> None:
    before = {"a": {"b": 1, "c": 2}, "list": [1, 2], "named": [{"name": "x", "v": 1}, {"name": "y"}]}
    patch = {"a": {"b": None, "d": 3}, "list": [9], "named": [{"name": "x", "w": 2}, {"name": "z"}]}
    assert laid_over(before, patch) == {
        "a": {"c": 2, "d": 3}, "list": [9], "named": [{"name": "x", "v": 1, "w": 2}, {"name": "y"}, {"name": "z"}]
    }  # fmt: skip
    assert before["a"] == {"b": 1, "c": 2}, "what is patched stays as it was"


def test_parameters_reach_what_a_patch_names(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    loaded = load_spec(tmp_path / "spec.yaml")
    check(loaded)
    source, here = request_source(loaded), Placement("0.0.0.0", 8000, "/f")
    configuration: dict[str, bool | int | float | str] = {"cpu_cores": 2, "class": "fast", "spare": 2}
    container = render(loaded, configuration, here, source, TrialLaunch("patched", 0, tmp_path, tmp_path))
    labels = {"tune/launch": "abc"}
    made = patched(plain_deployment(None), "tune-1", container, kubernetes_options(loaded), labels, None)
    pod = made["spec"]["template"]["spec"]
    server, beside = pod["containers"]
    assert pod["priorityClassName"] == "fast"
    assert pod["activeDeadlineSeconds"] == 2, "a placeholder alone keeps its type"
    assert {"name": "SPARE", "value": "of 2"} in server["env"]
    assert (server["stdin"], server["command"], beside["image"]) == (True, ["serve", "8000"], "beside:fast")
    assert made["metadata"]["name"] == "tune-1"


def test_dollars_reach_the_server_as_the_spec_writes_them(tmp_path: Path) -> None:
    """A kubelet makes `$` of `$$`, and a variable's value of `$(NAME)`, in commands and in the environment."""
    text = SPEC.replace('command: [serve, "{port}"]', 'command: [sh, -c, "a $(B) $$ $C", $D], env: {E: $(F), G: $H}')
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    loaded = load_spec(tmp_path / "spec.yaml")
    configuration: dict[str, bool | int | float | str] = {"cpu_cores": 2, "class": "fast", "spare": 2}
    launch = TrialLaunch("patched", 0, tmp_path, tmp_path)
    container = render(loaded, configuration, Placement("0.0.0.0", 8000, "/f"), request_source(loaded), launch)
    labels = {"tune/launch": "abc"}
    made = patched(plain_deployment(None), "tune-1", container, kubernetes_options(loaded), labels, None)
    server = made["spec"]["template"]["spec"]["containers"][0]
    assert server["command"] == ["sh", "-c", "a $$(B) $$$$ $$C", "$D"]
    assert [one for one in server["env"] if one["name"] in "EG"] == [
        {"name": "E", "value": "$$(F)"}, {"name": "G", "value": "$H"}
    ]  # fmt: skip


def test_servers_of_one_group_share_a_node(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    loaded = load_spec(tmp_path / "spec.yaml")
    configuration: dict[str, bool | int | float | str] = {"cpu_cores": 2, "class": "fast", "spare": 2}
    launch = TrialLaunch("both", 3, tmp_path, tmp_path, group="both/0003")
    container = render(loaded, configuration, Placement("0.0.0.0", 8000, "/f"), request_source(loaded), launch)
    labels = {STUDY: "both", TRIAL: "3", LAUNCH: "abc"}
    made = patched(plain_deployment(None), "tune-1", container, kubernetes_options(loaded), labels, None)
    affinity = made["spec"]["template"]["spec"]["affinity"]["podAffinity"]
    [term] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"]["matchLabels"] == {STUDY: "both", TRIAL: "3"}, "those of its trial"
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert labels.items() <= made["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("gpu_type", "resource"),
    [
        ("H100", "nvidia.com/gpu"),
        (None, "nvidia.com/gpu"),
        ("MI300X", "amd.com/gpu"),
        ("Flex170", "gpu.intel.com/i915"),
        ("v5e", "google.com/tpu"),
    ],
)
def test_a_pod_asks_for_so_many_of_the_resource_that_its_type_is(
    count: int, gpu_type: str | None, resource: str
) -> None:
    named = {"MI300X": "amd.com/gpu", "Flex170": "gpu.intel.com/i915", "v5e": "google.com/tpu"}
    options = KubernetesOptions(image="x:1", gpus=ClusterGpus(resources=named))
    section = resource_section(Resources(gpu_type=gpu_type, gpus=count), options)
    assert section == {"requests": {resource: str(count)}, "limits": {resource: str(count)}}


def test_slices_are_asked_for_as_often_as_they_are_had() -> None:
    for preset, slice_, wanted in (
        ("mig", "1g.10gb", {"nvidia.com/mig-1g.10gb": "3"}),
        ("hami-gpumem", "8Gi", {"nvidia.com/gpu": "3", "nvidia.com/gpumem": "8192"}),
    ):
        options = KubernetesOptions(image="x:1", gpus=ClusterGpus(slices=PRESETS[preset]))
        asked = Resources(gpu_type="A100", gpu_memory=slice_, gpus=3)
        assert resource_section(asked, options)["limits"] == wanted
    assert resource_section(Resources(gpu_type="A100", gpus=0), options) == {}
