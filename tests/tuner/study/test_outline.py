"""What a run that goes on with a study says of it before its first trial: what earlier runs did, and what they left."""

from __future__ import annotations

import math
import socket
import urllib.request
from pathlib import Path

from results import TrialRecord
from tests.tuner.test_replay_run import write_table
from tuner import Observer, Study, load_spec, tune
from tuner.display import StudyOutline
from tuner.display.metrics import MetricsDisplay
from tuner.launch.checks.runnable import Runnable
from tuner.study.budget import Limits
from tuner.study.outline import study_outline
from tuner.study.plan import StudyPlan
from tuner.study.storage.begin import create_study

SPEC = """\
version: 1
service: {name: x, command: [python3, -m, http.server, "{port}"]}
request: {path: /}
slo: {p99: 50ms}
space: {parameters: {cpu_cores: [1, 2], backlog: {low: 1, high: 100}}}
prices: {cpu_core_hour: 36}
load: {max_trial: 20s}
"""


class Kept(Observer):
    """Keeps the outline, and what a Prometheus would read of the run as soon as it has begun."""

    def __init__(self, port: int) -> None:
        self.port, self.metrics = port, ""
        self.outline: StudyOutline | None = None

    def study_started(self, outline: StudyOutline) -> None:
        self.outline = outline
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            self.metrics = answer.read().decode()


def cost(record: TrialRecord) -> float:
    return record.cost_per_million_requests or math.inf


def watched(spec: Path, budget: int, *, resume: bool) -> tuple[Study, Kept]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = Kept(port)
    display = MetricsDisplay(kept, port)
    return tune(spec, budget=budget, output=spec.parent / "out", resume=resume, observer=display), kept


def test_metrics_after_a_resume_have_the_trials_of_earlier_runs(tmp_path: Path) -> None:
    write_table(tmp_path)
    first, kept = watched(tmp_path / "spec.yaml", 6, resume=False)
    assert 'tune_trials{state="complete"} 0.0' in kept.metrics
    found = first.trials["state"].value_counts()
    _, kept = watched(tmp_path / "spec.yaml", 7, resume=True)
    for state, count in found.items():
        assert f'tune_trials{{state="{state}"}} {count}.0' in kept.metrics
    best = min(first.summary.records, key=cost)
    assert f"tune_best_cost_per_million_requests {best.cost_per_million_requests}" in kept.metrics
    assert kept.outline is not None
    assert kept.outline.earlier.best == best
    assert kept.outline.earlier.states == dict(found)
    launches = [one for again in first.summary.launches.confirmations.values() for one in again]
    paid = sum((one.cost_per_hour or 0) * one.timing.took_s / 3600 for one in (*first.summary.records, *launches))
    assert abs(kept.outline.earlier.spent - paid) < 1e-9


def test_of_a_time_a_resume_says_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    loaded = load_spec(tmp_path / "spec.yaml")
    limits = Limits(seconds=600.0)
    store = create_study(f"sqlite:///{tmp_path / 'study.db'}", loaded, StudyPlan(loaded.content, limits=limits))
    fit = Runnable(tuple(loaded.space.sample(200, seed=0)), (), 200)

    def outline() -> StudyOutline:
        return study_outline(loaded, store, tmp_path, fit, parallel=2)

    def left() -> tuple[float | None, float | None]:
        budget = outline().budget
        return budget.max_load_s, budget.time_left_s

    assert left() == (600.0, 600.0)
    asked = store.ask(9, lambda *_: {"cpu_cores": 1, "backlog": 1})
    assert asked is not None
    record = TrialRecord.model_validate(
        {"number": 0, "state": "infeasible", "configuration": asked[1], "cost_per_hour": 36.0, "wall_s": 200.0}
    )
    assert store.tell(record)
    assert left() == (500.0, 500.0)  # two ran at once
    store.attributes.confirm(0, record)
    assert left() == (300.0, 300.0)  # the final's run one at a time
    assert outline().earlier.spent == 4.0
    store.close()


def test_the_final_that_is_still_to_come_is_that_of_all_trials(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    loaded = load_spec(tmp_path / "spec.yaml")
    store = create_study(f"sqlite:///{tmp_path / 'study.db'}", loaded, StudyPlan(loaded.content, budget=20))
    fit = Runnable(tuple(loaded.space.sample(200, seed=0)), (), 200)
    for number in range(20):
        asked = store.ask(20, lambda *_, backlog=number + 1: {"cpu_cores": 1, "backlog": backlog})
        assert asked is not None
        record = TrialRecord.model_validate({"number": number, "state": "infeasible", "configuration": asked[1]})
        store.tell(record)
    assert study_outline(loaded, store, tmp_path, fit, 1).budget.max_load_s == (8 + 2) * 30.0
    store.attributes.confirm(0, record)
    assert study_outline(loaded, store, tmp_path, fit, 1).budget.max_load_s == (7 + 2) * 30.0
    store.close()
