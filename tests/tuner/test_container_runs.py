"""The example, tuned from end to end in real containers: on Docker's engine, and on a cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Tune, recommendation
from tests.runners.engines import cluster, docker_with

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "minilm"
LOAD = "load: {max_trial: 20s, max_warmup: 5s}"


def the_example(folder: Path, *, load: str = "load: {max_trial: 12s, max_warmup: 3s}") -> None:
    shutil.copy(EXAMPLE / "sentences.jsonl", folder)
    text = (EXAMPLE / "spec.yaml").read_text(encoding="utf-8")
    assert LOAD in text
    (folder / "spec.yaml").write_text(text.replace(LOAD, load), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("runner", ["docker", "kubernetes"])
def test_the_example_is_tuned_and_confirmed(
    tmp_path: Path, tune: Tune, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if runner == "docker":
        docker_with("minilm:1")
    else:
        monkeypatch.setenv("KUBECONFIG", cluster())
    the_example(tmp_path)
    done = tune("--service", "spec.yaml", "--budget", 6, "--runner", runner, timeout=880)
    assert done.returncode == 0, done.stderr
    found = recommendation(tmp_path / "tuning/minilm")
    assert found["confirmed"]
    assert found["meets_slo"]
    table = pd.read_csv(tmp_path / "tuning/minilm/trials.csv")
    assert len(table) == 6
    measured = table[table["state"] == "complete"]
    assert (measured["cpu_cores_used"] <= measured["cpu_cores"] * 1.1).all()
    assert (measured["memory_peak_bytes"] > 200e6).all()
    cleaned = tune("clean")
    assert cleaned.stdout == "nothing was left behind\n"
