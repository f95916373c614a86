"""The example, tuned from end to end in real containers: on Docker's engine, and on a cluster."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Tune, recommendation
from tests.runners.engines import cluster, docker_with

pytestmark = pytest.mark.usefixtures("needs_engine")

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "minilm"
LOAD = "load: {max_trial: 20s, max_warmup: 5s}"


def the_example(folder: Path, *, load: str = "load: {max_trial: 12s, max_warmup: 3s}") -> None:
    shutil.copy(EXAMPLE / "sentences.jsonl", folder)
    text = (EXAMPLE / "spec.yaml").read_text(encoding="utf-8")
    assert LOAD in text
    (folder / "spec.yaml").write_text(text.replace(LOAD, load), encoding="utf-8")


def have_engine(runner: str, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if runner == "docker":
        docker_with(image)
    else:
        monkeypatch.setenv("KUBECONFIG", cluster())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("runner", ["docker", "kubernetes"])
def test_the_example_is_tuned_and_confirmed(
    tmp_path: Path, tune: Tune, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_engine(runner, "minilm:1", monkeypatch)
    the_example(tmp_path)
    done = tune("--service", "spec.yaml", "--budget", 3, "--runner", runner, timeout=880)
    assert done.returncode == 0, done.stderr
    found = recommendation(tmp_path / "tuning/minilm")
    assert found["confirmed"]
    assert found["meets_slo"]
    table = pd.read_csv(tmp_path / "tuning/minilm/trials.csv")
    assert len(table) == 3
    measured = table[table["state"] == "complete"]
    assert (measured["cpu_cores_used"] <= measured["cpu_cores"] * 1.1).all()
    assert (measured["memory_peak_bytes"] > 200e6).all()
    cleaned = tune("clean")
    assert cleaned.stdout == "nothing was left behind\n"


SERVICE = """\
  - service:
      name: NAME
      image: "small:1"
      command: [python3, misbehaving.py, --host, "{host}", --port, "{port}", --service-ms, "{service_ms}"]
      ready: {path: /healthz, timeout: 60s}
    request: {path: /predict, json: {x: 1}}
    slo: {p99: 80ms}
    space: {parameters: {cpu_cores: [0.5], memory: [128Mi], service_ms: [5]}}
"""


def test_services_that_need_more_whole_cores_than_there_are_are_told_so(tmp_path: Path, tune: Tune) -> None:
    docker_with("small:1")
    names = [f"s{number}" for number in range((os.cpu_count() or 1) + 1)]
    text = "version: 1\nservices:\n" + "".join(SERVICE.replace("NAME", name) for name in names)
    text += "prices: {cpu_core_hour: 0.04}\nload: {max_trial: 10s, max_warmup: 3s}\n"
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    done = tune("validate", "spec.yaml", "--runner", "docker")
    assert done.returncode == 4
    said = f"all services together, each on whole cores of its own: it asks for {len(names)} CPU cores"
    assert said in done.stderr, "half a core each is less"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("runner", ["docker", "kubernetes"])
def test_several_services_run_beside_each_other(
    tmp_path: Path, tune: Tune, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_engine(runner, "small:1", monkeypatch)
    text = "version: 1\nservices:\n" + SERVICE.replace("NAME", "left") + SERVICE.replace("NAME", "right")
    text += (
        "budget: {cpu_cores: 2, memory: 1Gi}\nprices: {cpu_core_hour: 0.04}\nload: {max_trial: 10s, max_warmup: 3s}\n"
    )
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 1, "--runner", runner, "--output", "out", timeout=500)
    assert done.returncode == 0, done.stderr
    found = recommendation(tmp_path / "out")
    assert found["confirmed"]
    assert [one["name"] for one in found["services"]] == ["left", "right"]
    assert all(one["capacity_qps"] > 20 for one in found["services"])
    assert found["interference"] is not None
    logs = tmp_path / "out" / "trials" / "0000"
    assert all("listening on" in (logs / name / "server.log").read_text() for name in ("left", "right"))
    cleaned = tune("clean")
    assert cleaned.stdout == "nothing was left behind\n"


STAGE = """\
  - service:
      name: NAME
      image: "small:1"
      command: [python3, stage.py, --host, "{host}", --port, "{port}", --workers, "{workers}", MORE]
      env: {SERVICE_MS: "10"}
      ready: {path: /healthz, timeout: 60s}
    request: {path: /work, json: {x: 1}}
    PLACE
    space: {parameters: {cpu_cores: [0.5], workers: [COUNT]}}
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("runner", ["docker", "kubernetes"])
def test_containers_of_a_chain_reach_each_other(
    tmp_path: Path, tune: Tune, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_engine(runner, "small:1", monkeypatch)
    first = STAGE.replace("NAME", "first").replace("MORE", '--next, "{url:second}"').replace("COUNT", "4")
    second = STAGE.replace("NAME", "second").replace(", MORE", "").replace("COUNT", "1")
    text = "version: 1\nservices:\n" + first.replace("PLACE", "slo: {p99: 100ms}")
    text += second.replace("PLACE", "after: [first]")
    text += "runner: {type: RUNNER, kubernetes: {load_image: docker.io/library/tune-load:1, load_cpu: 0.3}}\n"
    text = text.replace("RUNNER", runner)
    text = text.replace("small:1", "docker.io/library/small:1") if runner == "kubernetes" else text
    text += "objective: {minimize: cost_per_million_requests, final: 0}\n"
    text += "prices: {cpu_core_hour: 0.04}\nload: {max_trial: 12s, max_warmup: 3s}\n"
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 1, "--output", "out", timeout=250)
    assert done.returncode == 0, done.stderr
    found = recommendation(tmp_path / "out")
    assert found["cost_per_hour"] == pytest.approx(0.04)  # of both, half a core each
    assert found["chain"]["bottleneck"] == "second"
    assert tune("clean").stdout == "nothing was left behind\n"
