"""What a finished run's SLO, and what it did not show, mean to the gate and to the plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest import TOO_SHORT
from results import Estimate, TrialRecord
from results.gate import GateMeasurement, Setting, decide_gate
from tests.conftest import Tune, call_tune, recommendation
from tests.tuner.commands.test_results_commands import SPEC, TABLE
from tuner.api import load_study
from tuner.commands.gate import decide_on_nothing, refuse_generators_limit
from tuner.errors import UnfitEnvironmentError


@pytest.fixture
def tune(tune_in_process: Tune) -> Tune:
    return tune_in_process


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return run_in(tmp_path)


def run_in(folder: Path, slo: str = "slo: {p99: 50ms}") -> Path:
    (folder / "table.csv").write_text(TABLE, encoding="utf-8")
    (folder / "spec.yaml").write_text(SPEC.replace("slo: {p99: 50ms}", slo), encoding="utf-8")
    assert call_tune(folder, "--service", "spec.yaml", "--budget", "4", "--output", "out").returncode == 0
    return folder / "out"


def test_a_gate_compares_no_rates_that_were_held_within_two_slos(finished: Path, tune: Tune) -> None:
    assert recommendation(finished)["slo"] == ["p99 <= 50 ms"]
    stricter, earlier = finished.parent / "stricter.json", finished.parent / "earlier.json"
    stricter.write_text(json.dumps(recommendation(finished) | {"slo": ["p99 <= 25 ms"]}), encoding="utf-8")
    done = tune("gate", finished, "--baseline", stricter)
    assert done.returncode == 2
    assert "another SLO: p99 <= 25 ms, and here it is p99 <= 50 ms" in done.stderr
    earlier.write_text(json.dumps(recommendation(finished) | {"slo": None}), encoding="utf-8")
    assert tune("gate", finished, "--baseline", earlier).returncode == 0


@pytest.mark.parametrize(
    ("reasons", "outcome"),
    [((), "inconclusive"), ((f"{TOO_SHORT}: nothing was decided",) * 2, "inconclusive"),
     ((f"{TOO_SHORT}: nothing was decided", "the server exited"), "regressed")],
)  # fmt: skip
def test_a_gate_on_a_run_that_has_shown_nothing_cannot_tell(
    finished: Path, reasons: tuple[str, ...], outcome: str
) -> None:
    records = tuple(
        TrialRecord(number=number, state="failed", configuration={"cpu_cores": 1, "batch": 1}, reason=reason)
        for number, reason in enumerate(reasons)
    )
    summary = load_study(finished).summary
    bare = replace(summary, records=records, launches=replace(summary.launches, confirmations={}, pooled={}))
    assert decide_on_nothing(bare).outcome == outcome


def test_a_lower_capacity_that_the_load_generator_limited_is_no_regression(finished: Path) -> None:
    summary = load_study(finished).summary
    found = GateMeasurement.of(summary.recommendation)
    assert found is not None
    found = replace(found, capacity=Estimate(value=80, low=78, high=82))
    number = summary.recommendation.trial
    limited = [one.model_copy(update={"bottleneck": "client"}) for one in summary.records if one.number == number]
    bare = replace(summary, records=tuple(limited), launches=replace(summary.launches, confirmations={}, pooled={}))
    hardly_less, less = (
        decide_gate(found.at_speed(share), [found], Setting(looks=1), last=True) for share in (1.001, 1.5)
    )
    refuse_generators_limit(bare, hardly_less)
    refuse_generators_limit(summary, less)
    with pytest.raises(UnfitEnvironmentError, match="the load generator did not get as far as the baseline"):
        refuse_generators_limit(bare, less)


@pytest.mark.parametrize(
    ("slo", "late", "late_ms"),
    [("p90: 50ms", 0.1, 50.0), ("p50: 20ms, p99: 80ms", 0.01, 80.0), ("tpot: {p95: 30ms}", 0.05, None),
     ("goodput: {at_least: 90%, e2e: 2s, ttft: 300ms}", 0.1, 2000.0)],
)  # fmt: skip
def test_a_plan_allows_as_many_late_requests_as_whatever_percentile_the_slo_limits(
    tmp_path: Path, slo: str, late: float, late_ms: float | None
) -> None:
    found = load_study(run_in(tmp_path, f"request: {{stream: openai}}\nslo: {{{slo}}}")).summary.question.slo
    assert found.late == pytest.approx(late)
    assert found.late_ms == late_ms
