"""How long a server may take to start, by what is left of a run's time and money, and what a trial is worth then."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from results import TrialRecord
from tests.tuner.study.test_budget import SPEC, Told, spent_by_the_search
from tuner import load_spec, tune
from tuner.search.objective import unready
from tuner.study.budget import Limits, Spent, launch_s
from tuner.study.plan import StudyPlan
from tuner.study.starts import Starts
from tuner.study.storage.begin import create_study


def test_a_start_may_take_what_the_load_leaves_of_time_and_money() -> None:
    spent = Spent(seconds=50.0, cost=1.0, longest_s=30.0)
    assert launch_s(Limits(), spent, 20.0, 1.2) == math.inf
    assert launch_s(Limits(seconds=85.0), spent, 20.0, None) == pytest.approx(15)
    assert launch_s(Limits(seconds=85.0, cost=1.01), spent, 20.0, 1.2) == pytest.approx(10)  # 30 s of 1.2 an hour
    assert launch_s(Limits(cost=1.03), spent, 20.0, 1.2, beside_per_hour=1.2) == pytest.approx(40)  # 30 s beside it
    assert launch_s(Limits(cost=1.03), spent, 20.0, None) == math.inf


def test_trials_that_start_at_once_spend_no_more_together_than_is_left() -> None:
    """Of $1 at $1 an hour, two trials with 600 s of load each have 2,400 s to start between them."""
    starts = Starts(Limits(cost=1.0), 600.0)
    first, second = (starts.begin(number, 1.0, Spent()) for number in range(2))
    assert first(100.0) == 2400  # the other may be ready at once
    assert second(100.0) == 2300
    assert second(1100.0) == 2300
    assert first(1200.0) == 1300
    assert first(1301.0) == 1300  # it ends, and has no load any more
    assert second(1200.0) == 3600 - 1301 - 600
    starts.end(0, Spent(cost=1301 / 3600, longest_s=1301, around_s=1301))
    assert second(1600.0) == pytest.approx(3600 - 1301 - 600)
    assert starts.beside_per_hour(2, Spent(longest_s=1100.0)) == 2  # it takes 2,200 s: as if it cost twice as much


def test_a_server_that_starts_in_the_usual_time_does_not_end_for_anothers_that_is_slow() -> None:
    usual = Spent(seconds=700.0, cost=0.2, longest_s=700.0, around_s=100.0)
    starts = Starts(Limits(cost=0.6), 600.0)
    slow, fast = (starts.begin(number, 1.0, usual) for number in range(2))
    assert fast(10.0) > 10
    assert slow(200.0) < 200
    assert fast(11.0) > 130, "the slow one costs nothing more"
    assert Starts(Limits(cost=0.3), 600.0).begin(0, 1.0, usual)(99.0) == 100, "whatever is left"


def test_time_that_passes_for_all_at_once_is_not_taken_from_a_start_again() -> None:
    starts = Starts(Limits(seconds=1000.0), 100.0)
    most_s = starts.begin(0, 1.0, Spent())
    starts.end(1, Spent(seconds=300.0))
    assert most_s(600.0) == 900


@pytest.mark.usefixtures("needs_machine")
def test_a_start_that_takes_too_long_for_the_money_ends_the_trial(tmp_path: Path) -> None:
    text = SPEC.replace("20s", "6s, max_warmup: 2s").replace("[1, 2]", "[1]")
    sleeps = '[python3, -c, "import time; time.sleep(60)", "{port}"]'
    (tmp_path / "spec.yaml").write_text(
        text.replace('[python3, -m, http.server, "{port}"]', sleeps) + "objective: {maximize: capacity_qps}\n",
        encoding="utf-8",
    )
    money = 0.04 * 10 / 3600  # of one core: 6 s of load, and 4 s before it
    study = tune(tmp_path / "spec.yaml", max_cost=money, output=tmp_path / "out")
    [record] = study.summary.records
    assert record.state == "failed"
    assert unready(record)
    assert "s, and with a longer start its load might go beyond the time or the money" in (record.reason or "")
    assert not any("needs more time (load.max_trial)" in one for one in study.recommendation.reasons)
    assert 4 < record.timing.took_s < 6
    assert spent_by_the_search(study) < money


@pytest.mark.usefixtures("needs_machine")
def test_a_launch_of_the_final_that_starts_too_slowly_for_the_time_ends_and_refutes_nothing(tmp_path: Path) -> None:
    text = SPEC.replace("20s", "6s, max_warmup: 2s").replace("[1, 2]", "[1]")
    sleeps = '[python3, -c, "import time; time.sleep(60)", "{port}"]'
    (tmp_path / "spec.yaml").write_text(text.replace('[python3, -m, http.server, "{port}"]', sleeps), encoding="utf-8")
    loaded, output, told = load_spec(tmp_path / "spec.yaml"), tmp_path / "out", Told()
    output.mkdir()
    store = create_study(f"sqlite:///{output / 'study.db'}", loaded, StudyPlan(loaded.content, budget=1))
    assert store.ask(1, lambda *_: {"cpu_cores": 1, "backlog": 1}) is not None
    store.tell(TrialRecord.model_validate(
        {"number": 0, "state": "complete", "configuration": {"cpu_cores": 1, "backlog": 1}, "cost_per_hour": 0.04,
         "capacity_qps": {"value": 100, "low": 95, "high": 105}, "cost_per_million_requests": 0.11, "load_s": 6,
         "wall_s": 7}
    ))  # fmt: skip
    store.close()
    # 7 s are spent, and a launch of the final has 9 s of load: it may take 3 s to start.
    study = tune(tmp_path / "spec.yaml", max_time_s=19, budget=1, resume=True, output=output, observer=told)
    [again] = study.summary.launches.confirmations[0]
    assert unready(again)
    assert 3 < again.timing.took_s < 5
    [said] = [one for one in told.texts if one.startswith("the final ends: ")]
    assert said.startswith("the final ends: cpu_cores=1 backlog=1 was not ready after 3.")
    assert study.recommendation.trial == 0
    assert not study.recommendation.confirmed
