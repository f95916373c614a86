"""From a spec to what is exported: the rendered server with all that it was measured with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from results import Estimate
from results.exports import FORMATS, Deployable
from tuner.outcome.deployable import _AtCapacity, _deployable
from tuner.spec.reading import load_spec

SPEC = """\
version: 1
service: {name: digits, SERVICE}
space: {parameters: {SPACE}}
slo: {p99: 50ms}
prices: {cpu_core_hour: 0.04, gpu_hour: {A100: 2}}
runner: {RUNNER}
"""


def deployable(
    folder: Path, configuration: dict[str, Any], *, service: str = "image: 'i:1', command: [serve, --port, '{port}']",
    space: str = "workers: [1, 4]", runner: str = "type: process", format_name: str = "kubernetes",
) -> Deployable:  # fmt: skip
    text = SPEC.replace("SERVICE", service).replace("SPACE", space).replace("RUNNER", runner)
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    held = _AtCapacity(Estimate(value=100, low=90, high=110), 12.0, None, confirmed=True)
    return _deployable(load_spec(folder / "spec.yaml"), configuration, held, None, format_name=format_name)


def documents(text: str) -> list[dict[str, Any]]:
    return [one for one in YAML(typ="safe", pure=True).load_all(text) if one]


def of_kind(kind: str, text: str) -> dict[str, Any]:
    [found] = [one for one in documents(text) if one["kind"] == kind]
    return found


def pod_of(one: Deployable) -> dict[str, Any]:
    spec: dict[str, Any] = of_kind("Deployment", FORMATS["kubernetes"](one)[f"{one.name}.yaml"])["spec"]
    found: dict[str, Any] = spec["template"]["spec"]
    return found


ARCHIVED = "server: torchserve, model: {path: models/digits.mar}"


@pytest.mark.parametrize(
    ("service", "told"),
    [
        ("server: triton, model: {path: models}", "--metrics-address 0.0.0.0 --metrics-port 8002"),
        (ARCHIVED, "metrics_address=http://0.0.0.0:8002\nmetrics_mode=prometheus\n"),
    ],
)
def test_what_keda_scales_by_is_served_by_the_exported_server(tmp_path: Path, service: str, told: str) -> None:
    one = deployable(tmp_path, {"instances": 2, "workers": 2}, service=service, space="instances: [1, 2]")
    assert told in " ".join(one.program.command) + "".join(one.program.files.values())
    [server] = pod_of(one)["containers"]
    assert server["ports"] == [
        {"name": "http", "containerPort": 8000}, {"name": "metrics", "containerPort": 8002}
    ]  # fmt: skip
    scaled = FORMATS["keda"](one)["scaledobject.yaml"]
    assert "request" in of_kind("ScaledObject", scaled)["spec"]["triggers"][0]["metadata"]["query"]
    assert "Prometheus has to scrape its pods' port `metrics` (8002)." in scaled
    predictor = of_kind("InferenceService", FORMATS["kserve"](one)["digits.yaml"])["spec"]["predictor"]
    assert predictor["containers"][0]["ports"] == [{"name": "http1", "containerPort": 8000}], "it takes one alone"


def test_a_server_that_the_spec_starts_in_its_own_way_is_said_to_have_no_port_for_metrics(tmp_path: Path) -> None:
    own = "server: triton, model: {path: models}, command: [tritonserver, --http-port, '{port}']"
    assert deployable(tmp_path, {"instances": 2}, service=own, space="instances: [1, 2]").listens.metrics_port is None


SLICED = "workers: [4], slice: {choices: [VALUE], role: gpu_memory}, gpus: {choices: [2], role: gpus}"


def sliced(folder: Path, value: Any, runner: str = "type: process") -> Deployable:
    space = SLICED.replace("VALUE", str(value))
    return deployable(folder, {"workers": 4, "slice": value, "gpus": 2}, space=space, runner=runner)


@pytest.mark.parametrize(("value", "said"), [("50%", "50%"), (0.1, "10%"), ("8Gi", "8Gi")])
def test_a_share_that_the_cluster_does_not_know_is_exported_as_whole_gpus_and_said(
    tmp_path: Path, value: Any, said: str
) -> None:
    one = sliced(tmp_path, value)
    [server] = pod_of(one)["containers"]
    assert server["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    note = f"it had {said} of its GPU, which nothing here asks for: a whole one is"
    assert note in FORMATS["kubernetes"](one)["digits.yaml"]
    assert "whole ones alone" not in FORMATS["compose"](one)["compose.yaml"], "it is said already"


@pytest.mark.parametrize("value", ["100%", 1, "1.0"])
def test_a_whole_share_is_exported_as_a_whole_gpu(tmp_path: Path, value: Any) -> None:
    one = sliced(tmp_path, value)
    [server] = pod_of(one)["containers"]
    assert server["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert one.notes == ()


def test_a_slice_that_the_cluster_knows_is_exported_and_compose_says_that_it_does_not_know_it(tmp_path: Path) -> None:
    one = sliced(tmp_path, "1g.10gb")
    [server] = pod_of(one)["containers"]
    assert server["resources"]["limits"] == {"nvidia.com/mig-1g.10gb": "2"}
    text = FORMATS["compose"](one)["compose.yaml"]
    assert "; 1g.10gb of a GPU was measured, and Compose knows whole ones alone" in text


def test_a_share_of_the_compute_that_is_dropped_leaves_the_gpu(tmp_path: Path) -> None:
    space = "workers: [4], share: {choices: ['50%'], role: gpu_compute}"
    one = deployable(tmp_path, {"workers": 4, "share": "50%"}, space=space)
    [server] = pod_of(one)["containers"]
    assert server["resources"]["limits"] == {"nvidia.com/gpu": "1"}


def test_what_docker_gave_the_container_is_in_its_exports(tmp_path: Path) -> None:
    runner = "type: docker, docker: {shm_size: 1Gi, mounts: {/data: data$1}}"
    one = deployable(tmp_path, {"workers": 4}, runner=runner)
    [volume] = pod_of(one)["volumes"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert "; data$1 was mounted at /data" in FORMATS["kubernetes"](one)["digits.yaml"]
    [service] = documents(FORMATS["compose"](one)["compose.yaml"])[0]["services"].values()
    assert service["shm_size"] == 2**30
    assert service["volumes"] == [
        {"type": "bind", "source": f"{tmp_path}/data$$1", "target": "/data", "read_only": True}
    ]  # fmt: skip
    elsewhere = deployable(tmp_path, {"workers": 4}, runner=runner.replace("docker", "process", 1))
    assert (elsewhere.program.mounts, elsewhere.notes) == ({}, ())


def test_composes_containers_find_the_model_where_dockers_did(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    service = "server: tei, model: {path: models}"
    one = deployable(tmp_path, {"workers": 4}, service=service, runner="type: docker")
    assert one.program.mounts == {"/mnt/models/models": str(tmp_path / "models")}


CLUSTER = "type: TYPE, kubernetes: {image_pull_secrets: [registry, other], service_account: reader}"


@pytest.mark.parametrize("name", ["kubernetes", "patch", "kserve", "leader-worker-set"])
def test_who_pulls_the_image_and_whom_the_pod_runs_as_are_exported(name: str, tmp_path: Path) -> None:
    one = deployable(tmp_path, {"workers": 4}, runner=CLUSTER.replace("TYPE", "kubernetes"))
    text = "".join(FORMATS[name](one).values())
    assert "serviceAccountName: reader\n" in text
    words = [line.strip() for line in text.splitlines()]
    assert words[words.index("imagePullSecrets:") :][1:3] == ["- name: registry", "- name: other"]
    assert "serviceAccountName" not in "".join(
        FORMATS[name](deployable(tmp_path, {"workers": 4}, runner=CLUSTER.replace("TYPE", "process"))).values()
    )


def test_a_charts_values_name_them_too(tmp_path: Path) -> None:
    one = deployable(tmp_path, {"workers": 4}, runner=CLUSTER.replace("TYPE", "kubernetes"))
    [values] = documents(FORMATS["helm-values"](one)["values.yaml"])
    assert values["imagePullSecrets"] == [{"name": "registry"}, {"name": "other"}]
    assert values["serviceAccount"] == {"create": False, "name": "reader"}


@pytest.mark.parametrize(
    ("image", "repository", "tag"),
    [
        ("r:5000/a/b", "r:5000/a/b", "latest"),
        ("r:5000/a/b:2", "r:5000/a/b", "2"),
        ("a@sha256:" + 64 * "0", "a@sha256", 64 * "0"),
        ("a:2@sha256:" + 64 * "0", "a:2@sha256", 64 * "0"),
    ],
)
def test_a_chart_that_joins_repository_and_tag_pulls_that_image(
    tmp_path: Path, image: str, repository: str, tag: str
) -> None:
    one = deployable(tmp_path, {"workers": 4}, service=f"image: '{image}', command: [serve]")
    [values] = documents(FORMATS["helm-values"](one)["values.yaml"])
    assert values["image"] == {"repository": repository, "tag": tag}


def copied(folder: Path, runner: str, command: str) -> tuple[Deployable, Deployable]:
    """One copy and four of a server, which held 100 requests/s either way; for 200 requests/s."""
    space = "workers: [4], copies: {choices: [1, 4], role: replicas}"
    service = f"image: 'i:1', command: [serve, --port, '{{port}}'{command}]"
    held = _AtCapacity(Estimate(value=100, low=90, high=110), 12.0, 6.0, confirmed=True, knee_qps=80.0)
    deployable(folder, {"workers": 4, "copies": 4}, service=service, space=space, runner=runner)
    loaded = load_spec(folder / "spec.yaml")
    alone, four = (_deployable(loaded, {"workers": 4, "copies": count}, held, 200.0) for count in (1, 4))
    return alone, four


TOLD = ", --copies, '{copies}'"
BESIDE = {
    "replay": "type: replay, table: rows.csv",
    "command": "type: command, up: [up, '{copies}'], url: 'http://127.0.0.1:1', down: [down]",
    "attach": "type: attach, url: 'http://127.0.0.1:1'",
}


@pytest.mark.parametrize("runner", BESIDE)
def test_the_figures_of_several_servers_beside_each_other_are_exported_as_those_of_one(
    tmp_path: Path, runner: str
) -> None:
    alone, four = copied(tmp_path, BESIDE[runner], "")
    assert four.measured.capacity == Estimate(value=25, low=22.5, high=27.5)
    assert (four.measured.knee_qps, four.measured.cores_used, four.measured.p50_ms) == (20.0, 1.5, 12.0)
    assert four.target_qps == alone.target_qps / 4
    assert (alone.replicas, four.replicas) == (4, 10), "for 200 requests/s, and a spare"
    assert four.notes == ("4 replicas were measured together, and all figures are those of one",)
    assert alone.notes == ()


@pytest.mark.parametrize("command", [TOLD, ""])
@pytest.mark.parametrize("runner", ["process", "docker", "kubernetes"])
def test_one_server_that_makes_its_copies_itself_is_exported_with_all_that_it_held(
    tmp_path: Path, runner: str, command: str
) -> None:
    alone, four = copied(tmp_path, f"type: {runner}", command)
    assert (four.measured, four.replicas, four.notes) == (alone.measured, 4, ())
    assert command == "" or four.program.command[-2:] == ("--copies", "4")


@pytest.mark.parametrize("runner", BESIDE)
def test_so_is_one_that_was_measured_elsewhere_and_is_told_how_many(tmp_path: Path, runner: str) -> None:
    alone, four = copied(tmp_path, BESIDE[runner], TOLD)
    assert (four.measured, four.replicas, four.notes) == (alone.measured, 4, ())
    assert four.program.command[-2:] == ("--copies", "4")
