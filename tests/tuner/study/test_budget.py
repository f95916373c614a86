"""What a run may spend: time and money of trials at once, of processes that share a study, and of the final."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from results import TrialRecord
from search_spaces import Parameter
from tests.conftest import Tune, recommendation
from tests.tuner.test_replay_run import write_table
from tuner import Observer, Study, UsageError, load_spec, load_study, tune
from tuner.search.stopping import max_trials, why_give_up, why_no_more
from tuner.study.budget import Limits, Spent, why_not
from tuner.study.plan import StudyPlan
from tuner.study.storage.begin import create_study, join_study

SPEC = """\
version: 1
service: {name: x, command: [python3, -m, http.server, "{port}"]}
request: {path: /}
slo: {p99: 50ms}
space: {parameters: {cpu_cores: [1], backlog: [1, 2]}}
prices: {cpu_core_hour: 0.04}
load: {max_trial: 20s}
"""


def test_trials_at_once_take_time_together_and_money_each() -> None:
    spent = Spent(seconds=50.0, cost=1.0, longest_s=30.0)
    assert why_not(Limits(seconds=85.0), spent, 20.0, None, currency="USD", beside_per_hour=9.0) is None
    assert why_not(Limits(seconds=75.0), spent, 20.0, None, currency="USD") is not None
    assert why_not(Limits(cost=1.02), spent, 20.0, 1.2, currency="USD") is None
    assert why_not(Limits(cost=1.02), spent, 20.0, 1.2, currency="USD", beside_per_hour=2.4) is not None


def test_what_ran_at_once_took_its_time_together_however_many_run_at_once_now() -> None:
    """As where a run of four at once is resumed with one, or a worker that runs four joins."""
    records = [
        TrialRecord.model_validate({"number": 0, "state": "failed", "configuration": {}, "wall_s": 40.0, **more})
        for more in ({"at_once": 4}, {"at_once": 1}, {})
    ]
    assert Spent.by(records, 1).seconds == pytest.approx(10 + 40 + 40)
    assert Spent.by(records, 4).seconds == pytest.approx(10 + 40 + 10)


def test_a_budget_of_time_is_used_by_trials_at_once_and_leaves_the_final_its_part(
    tmp_path: Path, tune_in_process: Tune
) -> None:
    write_table(tmp_path)
    done = tune_in_process("--service", "spec.yaml", "--budget", "2m", "--parallel", 4)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "tuning" / "recorded"
    assert len(pd.read_csv(folder / "trials.csv")) >= 7  # of 30 s each, four at once, in 86 s
    assert {one.timing.at_once for one in load_study(folder).summary.records} == {4}
    assert recommendation(folder)["confirmed"]


def test_a_budget_of_time_or_money_makes_more_trials_than_none_and_says_its_bound(
    tmp_path: Path, tune_in_process: Tune
) -> None:
    write_table(tmp_path)
    text = (tmp_path / "spec.yaml").read_text(encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(
        text.replace("[1, 2, 3, 4, 5]", "[1]").replace("[1, 2, 4, 8]", "[1]"), encoding="utf-8"
    )
    done = tune_in_process("spec.yaml", "--budget", "6m", "--output", "new")
    assert done.returncode == 0, done.stderr
    assert "up to 300 trials to go" in done.stderr
    assert "[  1 done]" in done.stderr
    assert max_trials(None, limited=False) == 100
    assert max_trials(2000, limited=True) == 2000
    assert "`budget` beside it allows more" in why_no_more(300, limited=True)


def test_a_time_of_which_the_search_gets_too_little_for_a_trial_is_refused(
    tmp_path: Path, tune_in_process: Tune
) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    done = tune_in_process("spec.yaml", "--budget", "25s")
    assert done.returncode == 2
    assert (
        "a budget of 25 s buys no trial: one may take 20 s of load alone, and the final has 7 s of them" in done.stderr
    )


def test_money_that_buys_no_trial_of_any_configuration_is_refused(tmp_path: Path, tune_in_process: Tune) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    done = tune_in_process("spec.yaml", "--max-cost", "0.0003")
    assert done.returncode == 2
    assert (
        "--max-cost of $0.000300 buys no trial: the cheapest may take $0.000222 for its load alone, and the final has "
        "$0.0000857 of it" in done.stderr
    )
    assert not (tmp_path / "tuning").exists()


def test_python_is_told_of_numbers_that_no_run_can_have(tmp_path: Path) -> None:
    write_table(tmp_path)
    spec, output = tmp_path / "spec.yaml", tmp_path / "out"
    with pytest.raises(UsageError, match="`budget` is a number of trials, at least 1, not 0"):
        tune(spec, budget=0, output=output)
    with pytest.raises(UsageError, match="`parallel` is a number of trials"):
        tune(spec, budget=1, parallel=0, output=output)
    with pytest.raises(UsageError, match="`seed` is a whole number"):
        tune(spec, budget=1, seed=-1, output=output)
    with pytest.raises(UsageError, match="`max_cost` of -1 buys no trial"):
        tune(spec, max_cost=-1, output=output)
    with pytest.raises(UsageError, match="a budget of 0 s buys no trial"):
        tune(spec, max_time_s=0, output=output)
    assert not output.exists()


def test_who_comes_second_to_what_waits_gets_nothing_that_was_drawn_blindly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes see one trial waiting, and both ask: Optuna draws for the second, of values that may not go
    together.
    """
    write_table(tmp_path)
    text = (tmp_path / "spec.yaml").read_text(encoding="utf-8")
    text = text.replace("prices:", '  constraints: ["threads == 8", "workers == 5"]\nprices:')
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    loaded, url = load_spec(tmp_path / "spec.yaml"), f"sqlite:///{tmp_path / 'study.db'}"
    ours = create_study(url, loaded, StudyPlan(loaded.content))
    others = join_study(url, loaded)
    first, second = ({"cpu_cores": cores, "batch_size": 1, "threads": 8, "workers": 5} for cores in (1, 2))
    ours.enqueue(first)
    ask = ours._study.ask

    def late(distributions: object) -> object:
        monkeypatch.setattr(ours._study, "ask", ask)
        assert others.ask(9, lambda *_: second) == (0, first)
        return ask(distributions)  # type: ignore[arg-type]

    monkeypatch.setattr(ours._study, "ask", late)
    asked = ours.ask(9, lambda *_: second)
    assert asked is not None
    assert asked[1] == second
    assert ours.claims.trials.keys() == {asked[0]}
    assert ours.under_way({asked[0]}) == [first]


def test_what_a_resumed_run_says_anew_is_what_is_looked_at_later(tmp_path: Path) -> None:
    write_table(tmp_path)
    spec, output = tmp_path / "spec.yaml", tmp_path / "out"
    assert tune(spec, budget=3, output=output).recommendation.probability_cheaper is None
    today = {"cpu_cores": 16, "batch_size": 1, "threads": 1, "workers": 1}
    with spec.open("a", encoding="utf-8") as file:
        file.write(f"current: {json.dumps(today)}\n")
    again = tune(spec, budget=5, resume=True, output=output)
    assert any(one.configuration == today for one in again.summary.records)
    assert again.recommendation.saving is not None
    later = load_study(output)
    assert later.recommendation == again.recommendation
    assert later.spec.spec.current == today


def test_what_is_stored_of_a_spec_is_on_the_runner_that_it_ran_on(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC + "runner: {type: process, reuse: false}\n", encoding="utf-8")
    loaded = load_spec(tmp_path / "spec.yaml").with_runner("docker")
    assert loaded.content["runner"] == {"type": "docker", "reuse": False}
    assert (loaded.spec.runner.type, loaded.spec.runner.reuse) == ("docker", False)


def test_how_long_a_replayed_trial_took_is_what_its_table_says() -> None:
    record = TrialRecord.model_validate(
        {"number": 0, "state": "failed", "configuration": {}, "load_s": 30.0, "wall_s": 0.01}
    )
    assert record.timing.took_s == 30.0


@pytest.mark.parametrize(
    ("reason", "alike"),
    [
        ("exited with code 1: (Engine pid={n}) ERROR 11-28 12:01:{n:02d} [core.py:388] no such file", True),
        ("exited with code 1: 2026-11-28T12:01:{n:02d},{n}23 ERROR no such file", True),
        ("the server does not listen on port 4{n:04d}, which another process answers on", True),
        ("exited with code 1: max_model_len (16384) is larger than what fits into the KV cache (1{n}000)", False),
        ('pods "tune-x-{n}-5f3a9c-5d7f8-xk2p{n}" is forbidden: violates PodSecurity "restricted:latest"', True),
        ("exited with code 1: batch size {size} is not supported", False),
        ("exited with code {n}", False),
    ],
)
def test_failures_are_alike_whatever_time_process_and_port_they_name(reason: str, alike: bool) -> None:
    records = [
        TrialRecord.model_validate(
            {"number": n, "state": "failed", "configuration": {"size": 1024 * (n + 1)},
             "reason": reason.format(n=n, size=1024 * (n + 1))}
        )
        for n in range(5)
    ]  # fmt: skip
    said = why_give_up(records)
    assert (said is not None) == alike
    assert not alike or reason.format(n=4, size=0) in (said or "").replace("'", "`")


def test_what_an_earlier_run_failed_of_does_not_end_the_next_one() -> None:
    records = [
        TrialRecord.model_validate({"number": n, "state": "failed", "configuration": {}, "reason": "no `storage`"})
        for n in range(7)
    ]
    assert "failed alike: no 'storage'. Mend that, then `resume` goes on." in (why_give_up(records[:5]) or "")
    assert why_give_up(records, before=range(5)) is None
    assert why_give_up(records, before=range(2)) is not None


@pytest.mark.parametrize(
    ("reason", "given_up"),
    [
        ("most requests of the warm-up failed: the answer is not JSON ({count})", True),
        ("most requests of the warm-up failed: http 404 ({count})", True),
        ("most requests of the warm-up failed: http 404 at /v1/connections ({count}), http 404 at /v1/a (3)", True),
        ("most requests of the warm-up failed: http 503 ({count})", False),
        ("most requests of the warm-up failed: timeout ({count})", False),
        ("most requests of the warm-up failed: grpc unavailable: Exceeds maximum queue size ({count})", False),
        ("most requests of the warm-up failed: grpc invalid argument ({count})", True),
        ("at 5 requests/s {count} of 40 requests missed the limit p99 <= 300 ms", False),
    ],
)
def test_a_service_whose_every_answer_is_wrong_is_given_up_but_none_that_is_overloaded(
    reason: str, given_up: bool
) -> None:
    records = [
        TrialRecord.model_validate(
            {"number": n, "state": "infeasible", "configuration": {"cores": n}, "reason": reason.format(count=24 + n)}
        )
        for n in range(5)
    ]  # fmt: skip
    said = why_give_up(records)
    assert (said is not None) == given_up
    assert said is None or "most requests were not answered as they should be" in said
    assert why_give_up(records, parameters=[Parameter("cores", tuple(range(5)))]) == said
    same = [one.model_copy(update={"configuration": {**one.configuration, "model": "v1"}}) for one in records]
    assert why_give_up(same, parameters=[Parameter("model", ("v1", "v2"))]) is None


class Told(Observer):
    """Keeps the notices."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


def spent_by_the_search(study: Study) -> float:
    return Spent.by(study.summary.records).cost


@pytest.mark.parametrize("parallel", [1, 3])
def test_what_still_fits_into_the_money_is_tried_and_the_end_says_that_nothing_does(
    tmp_path: Path, tune_in_process: Tune, parallel: int
) -> None:
    write_table(tmp_path)  # 30 s of 1 to 16 cores: 0.00033 to 0.0053
    with (tmp_path / "spec.yaml").open("a", encoding="utf-8") as file:
        file.write("current: {cpu_cores: 16, batch_size: 1, threads: 1, workers: 1}\n")
    done = tune_in_process("spec.yaml", "--max-cost", 0.02, "--parallel", parallel, "--output", "out")
    assert done.returncode == 0, done.stderr
    study = load_study(tmp_path / "out")
    cheapest = 0.04 * 30 / 3600
    left = 0.02 / (1 + study.spec.spec.objective.final) - spent_by_the_search(study)
    assert 0 <= left < cheapest
    assert "even the cheapest trial that is left may take $0.000333 more" in done.stderr, done.stderr[-3000:]
    assert study.recommendation.confirmed


def test_today_is_passed_over_while_it_is_too_dear_and_tried_when_there_is_more(tmp_path: Path) -> None:
    write_table(tmp_path)
    spec, output = tmp_path / "spec.yaml", tmp_path / "out"
    first = tune(spec, budget=1, output=output)
    today = {"cpu_cores": 16, "batch_size": 2, "threads": 1, "workers": 1}
    with spec.open("a", encoding="utf-8") as file:
        file.write(f"current: {json.dumps(today)}\n")
    money = (1 + first.spec.spec.objective.final) * (spent_by_the_search(first) + 0.004)
    told = Told()
    study = tune(spec, max_cost=money, resume=True, output=output, observer=told)
    assert any("cpu_cores=16 batch_size=2 threads=1 workers=1 is not tried now: " in one for one in told.texts)
    new = [one.configuration for one in study.summary.records[1:]]
    assert new
    assert max(float(one["cpu_cores"]) for one in new) < 16
    more = tune(spec, max_cost=money + 0.01, resume=True, output=output)
    assert today in [one.configuration for one in more.summary.records]


def test_what_an_earlier_final_took_is_not_spent_again(tmp_path: Path) -> None:
    write_table(tmp_path)
    loaded, output = load_spec(tmp_path / "spec.yaml"), tmp_path / "out"
    output.mkdir()
    store = create_study(f"sqlite:///{output / 'study.db'}", loaded, StudyPlan(loaded.content, budget=1))
    asked = store.ask(1, lambda *_: {"cpu_cores": 1, "batch_size": 1, "threads": 1, "workers": 1})
    assert asked is not None
    record = TrialRecord.model_validate({"number": 0, "state": "infeasible", "configuration": asked[1], "load_s": 30.0})
    store.tell(record)
    for _ in range(8):
        store.attributes.confirm(0, record)
    store.close()
    study = tune(
        tmp_path / "spec.yaml", max_time_s=390, resume=True, output=output
    )  # of which the search's part is 260 s
    launches = study.summary.launches.confirmations.values()
    assert len(study.summary.records) == 5
    assert len(study.summary.records) + sum(map(len, launches)) <= 390 / 30
