"""What takes the green from a decision whose figures are sure: what nobody measured, and what was not looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtest import TOO_SHORT
from results import Estimate, LanguageRecord, Recommendation, TrialRecord
from runners.replay import NOT_IN_TABLE
from tuner.launch.checks.runnable import NOT_HERE
from tuner.outcome.recommendation import recommend
from tuner.search.contenders import believed
from tuner.search.objective import Objective, cost_per_million_requests
from tuner.spec.reading import load_spec

SPEC = """\
version: 1
service:
  name: one
  command: [python, server.py, --port, "{port}"]
request: {path: /}
slo: {p99: 100ms}
space:
  parameters:
    workers: {choices: [1, 2, 3, 4, 5, 6, 7, 8]}
    cpu_cores: {choices: [1, 2], role: cpu_cores}
prices: {cpu_core_hour: 0.04}
"""
TODAY = "current: {workers: 8, cpu_cores: 2}\n"


def launch(number: int, capacity: float | None, *, workers: int = 1, cores: int = 1, **fields: object) -> TrialRecord:
    price = 0.04 * cores
    shared = {"number": number, "configuration": {"workers": workers, "cpu_cores": cores}, "cost_per_hour": price}
    if capacity is None:
        return TrialRecord.model_validate({"state": "infeasible", "reason": "too slow", **shared, **fields})
    estimate = Estimate(value=capacity, low=0.99 * capacity, high=1.01 * capacity)
    cost = cost_per_million_requests(price, capacity)
    found = {"state": "complete", "capacity_qps": estimate, "cost_per_million_requests": cost, **shared, **fields}
    return TrialRecord.model_validate(found)


def today(capacity: float | None, **fields: object) -> TrialRecord:
    return launch(0, capacity, workers=8, cores=2, **fields)


def decided(
    folder: Path, records: Sequence[TrialRecord], again: dict[int, list[TrialRecord]], *, named: bool = True
) -> Recommendation:
    (folder / "spec.yaml").write_text(SPEC + (TODAY if named else ""))
    return recommend(load_spec(folder / "spec.yaml"), records, again)


BEST, OTHER = launch(1, 100.0), launch(2, 50.0, workers=2)
AGAIN = {1: [launch(1, 100.0)] * 4}


def test_what_is_surely_the_best_is_deployed_where_no_current_configuration_is_named(tmp_path: Path) -> None:
    assert decided(tmp_path, [BEST, OTHER], AGAIN, named=False).decision == "deploy"


def test_the_same_is_deployed_where_the_current_configuration_was_seen_not_to_serve(tmp_path: Path) -> None:
    found = decided(tmp_path, [today(None), BEST, OTHER], AGAIN)
    assert found.decision == "deploy"
    assert any("does not serve within the SLO: too slow." in one for one in found.reasons)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (None, "was not measured."),
        (today(None, state="failed", reason=f"{TOO_SHORT}: all probes were disturbed"), "is not known: "),
        (today(None, reason=f"{NOT_IN_TABLE} table.csv"), "Nothing is known of the current configuration"),
        (today(None, reason=f"{NOT_HERE}: asks for 2 CPU cores"), "(workers=8 cpu_cores=2) cannot run here: asks"),
        (today(None, state="pruned", reason="dearer than the best"), "ended early: dearer than the best."),
        (today(90.0, cost_per_hour=None, cost_per_million_requests=None), "was measured, but not its cost"),
    ],
)  # fmt: skip
def test_a_current_configuration_of_which_nothing_is_known_leaves_the_decision_uncertain(
    tmp_path: Path, record: TrialRecord | None, said: str
) -> None:
    found = decided(tmp_path, [*([record] if record else []), BEST, OTHER], AGAIN)
    assert (found.trial, found.decision) == (1, "uncertain")
    assert found.reasons[0].startswith(f"Uncertain, since {found.doubt}"), found.reasons[0]
    assert any(said in one for one in found.reasons), found.reasons
    assert not any("does not serve" in one for one in found.reasons)


def test_a_current_configuration_that_is_surely_beaten_by_the_bound_that_it_showed_is_no_doubt(tmp_path: Path) -> None:
    cut = today(None, state="pruned", reason="dearer than the best", capacity_bound_qps=20.0)
    assert decided(tmp_path, [cut, BEST, OTHER], AGAIN).decision == "deploy"


def test_a_current_configuration_that_only_the_load_generator_held_back_may_be_the_cheaper_one(tmp_path: Path) -> None:
    held_back, free = today(100.0, bottleneck="client"), today(100.0, bottleneck="cpu")
    found = decided(tmp_path, [held_back, BEST], {**AGAIN, 0: [held_back] * 4})
    assert (found.trial, found.decision) == (1, "uncertain")
    assert "the current configuration was held back by the load generator, or by neighbours" in found.reasons[0]
    assert any("load.workers" in one for one in found.reasons), found.reasons
    assert decided(tmp_path, [free, BEST], {**AGAIN, 0: [free] * 4}).decision == "deploy"
    assert decided(tmp_path, [held_back, BEST], {**AGAIN, 0: [free] * 4}).decision == "deploy"


@pytest.mark.parametrize(("capacity", "decision"), [(60.0, "uncertain"), (10.0, "deploy")])
def test_another_one_that_was_held_back_counts_unless_it_is_far_behind(
    tmp_path: Path, capacity: float, decision: str
) -> None:
    held_back = launch(2, capacity, workers=2, bottleneck="client")
    assert decided(tmp_path, [BEST, held_back], AGAIN, named=False).decision == decision


def test_one_whose_launches_do_not_all_serve_is_not_deployed_and_the_reasons_say_why(tmp_path: Path) -> None:
    crashed = launch(1, None, state="failed", reason="the server exited with code 1")
    found = decided(tmp_path, [BEST, OTHER], {1: [*AGAIN[1], crashed]}, named=False)
    assert (found.trial, found.decision) == (1, "uncertain")
    assert found.reasons[0].startswith("Uncertain, since it did not serve in 1 of its 6 launches: "), found.reasons[0]
    assert any("Another launch did not serve: the server exited with code 1." in one for one in found.reasons)


def test_the_only_one_of_many_that_were_too_short_to_tell_is_not_deployed(tmp_path: Path) -> None:
    short = [
        launch(number, None, workers=number, state="failed", reason=f"{TOO_SHORT}: nothing was decided")
        for number in (2, 3)
    ]
    found = decided(tmp_path, [BEST, *short], AGAIN, named=False)
    assert found.decision == "uncertain"
    assert "2 of 3 trials were too short to tell" in found.reasons[0]
    assert found.trials.only_one == "the only one of 3 tried that served within the SLO (2 too short to tell)"


def test_todays_is_kept_for_now_while_what_is_probably_better_was_launched_once_only(
    tmp_path: Path,
) -> None:
    """As where the time ends before the final comes to it."""
    now = today(100.0)
    found = decided(tmp_path, [now, BEST], {0: [now] * 3})
    assert (found.trial, found.decision) == (0, "keep")
    said = "another, which was launched once only, is probably better, and nothing measured is surely better."
    assert found.reasons[0] == f"Keep what you have for now: {said}"
    assert any("go on with" in one for one in found.reasons), found.reasons
    assert any("workers=1 cpu_cores=1 may be" in one for one in found.reasons), found.reasons
    settled = decided(tmp_path, [now, launch(1, 30.0)], {0: [now] * 3})
    assert settled.decision == "keep"
    assert "for now" not in settled.reasons[0]


@pytest.mark.parametrize("metric", ["cost_per_million_output_tokens", "tokens_per_second"])
def test_what_is_decided_of_tokens_counts_the_tokens_of_each(metric: str) -> None:
    """The second answers more requests, and fewer tokens."""
    long, short = launch(0, 10.0), launch(1, 12.0, workers=2)
    long = long.model_copy(update={"language": LanguageRecord(output_tokens=200).at(10, 0.04)})
    short = short.model_copy(update={"language": LanguageRecord(output_tokens=120).at(12, 0.04)})
    pruned = launch(2, None, workers=3, state="pruned", reason="dearer", capacity_bound_qps=5.0)
    beliefs = believed(Objective((metric,)), [long, short, pruned], {0: [long] * 3, 1: [short] * 3})  # type: ignore[arg-type]
    assert beliefs is not None
    assert beliefs.best() == 0
    saving = beliefs.saving(1, 0, maximised=metric == "tokens_per_second")
    assert saving.value == pytest.approx(-0.28 if metric == "tokens_per_second" else 1 - 1 / 0.72, abs=0.03)
