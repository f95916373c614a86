"""A best-effort service takes what the others leave: how it is written, launched, measured and optimised."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from loadtest import Interval, Measurement, Probe
from loadtest.figures import BackgroundMeasurement
from results import TrialRecord
from runners import Readiness, Resources
from runners.process import ProcessRunner
from runners.protocol import Container
from tests.conftest import Tune, recommendation
from tuner.api import open_archive
from tuner.commands.dashboard import Studies
from tuner.launch.price import price_of
from tuner.search.objective import Objective
from tuner.spec.reading import load_spec
from tuner.trial.services import best_effort_qps

BURNER = Path(__file__).parent.parent.parent / "servers" / "burner.py"
SPEC = f"""\
version: 1
services:
  - service:
      name: online
      command: [{sys.executable}, {BURNER}, --port, "{{port}}", --work-ms, "{{work_ms}}"]
      ready: {{path: /healthz, timeout: 20s}}
    request: {{path: /work, json: {{x: 1}}}}
    slo: {{p99: 100ms}}
    space: {{parameters: {{work_ms: [8], cpu_cores: [1]}}}}
  - service:
      name: batch
      command: [{sys.executable}, {BURNER}, --port, "{{port}}", --work-ms, "{{work_ms}}"]
      ready: {{path: /healthz, timeout: 20s}}
    best_effort: true
    users: 4
    request: {{path: /work, json: {{x: 1}}}}
    space: {{parameters: {{work_ms: [10, 40]}}}}
prices: {{cpu_core_hour: 0.04}}
load: {{max_trial: 9s, max_warmup: 1s}}
objective: {{minimize: cost_per_million_requests, final: 0}}
"""


def write(folder: Path, text: str = SPEC) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_it_has_no_share_no_price_and_is_bound_by_no_budget(tmp_path: Path) -> None:
    loaded = load_spec(write(tmp_path, SPEC + "budget: {cpu_cores: 1}\n"))
    assert [(one.name, one.share, one.best_effort, one.users) for one in loaded.services] == [
        ("online", 1.0, False, 8), ("batch", 0.0, True, 4)
    ]  # fmt: skip
    assert loaded.space.size.count == 2
    assert price_of(loaded, next(iter(loaded.space))) == pytest.approx(0.04)
    assert loaded.slo_texts == ("online: p99 <= 100 ms",)
    assert loaded.p99_limit_ms == 100
    assert loaded.max_load_s(confirmation=False) == 18


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("    users: 4\n", "    slo: {p99: 1s}\n", "services.1.slo: a best-effort service has no SLO"),
        ("    users: 4\n", "    share: 20%\n", "services.1.share: a best-effort service has no share of the requests"),
        ("    users: 4\n", "    after: [online]\n", "services.1.after: a best-effort service is no part of a chain"),
        ("work_ms: [10, 40]", "cpu_cores: [1]", "cpu_cores: a best-effort service takes what the others leave"),
        ("work_ms: [10, 40]", "memory: [1Gi]", "memory: a best-effort service takes what the others leave"),
        ("    best_effort: true\n", "", "services.1.users: users ask a best-effort service; add best_effort: true"),
        ("    slo: {p99: 100ms}\n", "    best_effort: true\n", "services: all are best_effort, and one has to have"),
        ("{minimize: cost_per_million_requests", "{maximize: best_effort_qps", "best_effort_qps needs target_qps"),
        ("{minimize: cost_per_million_requests", "{pareto: [capacity_qps, best_effort_qps]", "no part of a pareto"),
        ("{minimize: cost_per_million_requests", "{maximize: capacity_qps, target_qps: 5", "goes with cost_per_hour"),
    ],
)
def test_what_it_cannot_have_is_said(tmp_path: Path, tune_in_process: Tune, before: str, after: str, said: str) -> None:
    assert before in SPEC
    done = tune_in_process("validate", write(tmp_path, SPEC.replace(before, after, 1)))
    assert done.returncode == 2, done.stdout
    assert said in done.stderr


def test_its_throughput_needs_a_service_that_gives_it(tmp_path: Path, tune_in_process: Tune) -> None:
    text = SPEC.replace("{minimize: cost_per_million_requests", "{maximize: best_effort_qps, target_qps: 20")
    assert load_spec(write(tmp_path, text)).spec.objective.held_qps == 20
    without = text.replace("    best_effort: true\n    users: 4\n", "    slo: {p99: 1s}\n").replace(
        "[10, 40]}", "[9], cpu_cores: [1]}"
    )
    done = tune_in_process("validate", write(tmp_path, without))
    assert "objective.maximize: best_effort_qps needs a service with best_effort: true" in done.stderr


def _probe(rate_qps: float, verdict: str) -> Probe:
    return Probe.model_validate(
        {
            "rate_qps": rate_qps, "verdict": verdict, "started_s": 0, "duration_s": 1, "requests": 1, "completed": 1,
            "misses": 0, "errors": 0, "achieved_qps": rate_qps, "p50_ms": 1, "p95_ms": 1, "p99_ms": None,
            "late_p99_ms": 0, "generator_cpu": 0, "histogram": "",
        }
    )  # fmt: skip


def test_its_throughput_is_what_it_answers_at_the_rate_that_is_asked_for_or_at_the_capacity() -> None:
    each = [Interval(value=one, low=one - 1, high=one + 1) for one in (30.0, 20.0, 12.0, 5.0)]
    probes = (_probe(10, "met"), _probe(50, "met"), _probe(70, "met"), _probe(90, "missed"))
    found = Measurement(
        outcome="measured", warmup_s=0, load_s=1, load_started_s=0, probes=probes, best_qps=70,
        background=(BackgroundMeasurement(name="batch", probes_qps=tuple(each)),),
    )  # fmt: skip
    at = {held: best_effort_qps(found, held) for held in (None, 8.0, 49.0, 200.0)}
    assert {held: one and one.value for held, one in at.items()} == {None: 12.0, 8.0: 30.0, 49.0: 20.0, 200.0: 12.0}
    assert best_effort_qps(found.model_copy(update={"background": ()}), None) is None


def test_a_search_sees_the_throughput_in_place_of_the_capacity() -> None:
    objective = Objective(("best_effort_qps",), 20.0)
    record = TrialRecord.model_validate(
        {
            "number": 0, "state": "complete", "configuration": {}, "cost_per_hour": 1.0,
            "capacity_qps": {"value": 100, "low": 90, "high": 110},
            "best_effort_qps": {"value": 7, "low": 6, "high": 8},
        }
    )  # fmt: skip
    more = record.model_copy(update={"number": 1, "best_effort_qps": record.capacity_qps})
    assert objective.ranked([record, more])[0].number == 1
    assert objective.values(record) == (7,)
    assert objective.modelled(record).capacity_qps == record.best_effort_qps
    assert objective.losses(more) < objective.losses(record)  # type: ignore[operator]
    assert objective.break_even_qps(1.0, record) is None


@pytest.mark.usefixtures("needs_machine")
def test_a_process_runs_only_while_nobody_else_wants_the_core(tmp_path: Path) -> None:
    runner = ProcessRunner()
    placement = runner.place(tmp_path)
    command = (sys.executable, str(BURNER), "--port", str(placement.port))
    container = Container(
        "s", 0, tmp_path, tmp_path, {}, Resources(), placement, Readiness("/healthz", 20, None), command,
        best_effort=True,
    )  # fmt: skip
    with runner.launch(container) as endpoint:
        [pid] = endpoint.processes.pids  # type: ignore[attr-defined]
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE
        assert os.getpriority(os.PRIO_PROCESS, pid) == 19
        assert endpoint.client_cores == ()
        assert "what the others left" in endpoint.notes[0]


@pytest.mark.alone  # a neighbour on its cores leaves it nothing, as is meant
@pytest.mark.usefixtures("needs_machine")
def test_it_takes_what_the_other_leaves_and_costs_it_nothing(tmp_path: Path, tune: Tune) -> None:
    text = SPEC.replace("{minimize: cost_per_million_requests", "{maximize: best_effort_qps, target_qps: 20")
    text = text.replace("[10, 40]", "[10]").replace(
        "max_trial: 9s", "max_trial: 16s"
    )  # a third of it to ask the other alone
    done = tune("--service", write(tmp_path, text), "--budget", "1", timeout=60)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "tuning" / "online-batch"
    exported = tune("export", folder, "--qps", "100", timeout=60)
    assert exported.returncode == 0, exported.stderr
    assert "tune: batch: work_ms=10 runs best effort, with what the services beside it leave" in exported.stdout
    shown = Studies({"batch": open_archive(folder, None, None)}, None)
    assert {"kubernetes", "compose", "json"} <= set(shown.formats("batch")), "the dashboard's tab"
    best = recommendation(folder)
    online, batch = best["services"]
    assert batch["best_effort"]
    assert 0 < batch["throughput_qps"]["value"] < 110, "one core's worth is 100 requests/s"
    record = json.loads((folder / "trials" / "0000" / "trial.json").read_text(encoding="utf-8"))
    alone = record["services"][0]["alone_qps"]
    assert alone is not None, "what the other holds by itself was not measured: there is nothing to compare with"
    assert best["interference"] == pytest.approx(max(0.0, 1 - record["capacity_qps"]["value"] / alone["value"]))
    assert best["interference"] < 0.35, "it yields the core: with equal weights it would take half"
    assert record["best_effort_qps"]["value"] > 2
    assert online["capacity_qps"] > 40
    assert any(one.startswith("Meanwhile batch, on what they leave, answers") for one in best["reasons"])
