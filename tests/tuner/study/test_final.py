"""The final in a run: launches in turns, stored as they end, and what is decided from them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from loadtest import TOO_SHORT
from results import TrialRecord
from tests.conftest import Tune, recommendation
from tuner import load_spec
from tuner import tune as tune_from_python
from tuner.outcome.surer import how_to_be_surer
from tuner.search.final import FinalRules
from tuner.search.objective import UNREADY, Objective
from tuner.spec.model import Spec
from tuner.study.final import Final
from tuner.study.outlook import Outlook

NOISE = "runner: {type: replay, table: table.csv, noise: NOISE}\n"
SPEC = """\
version: 1
service: {name: noisy}
space: {parameters: {name: [a, b, c]}}
prices: {cpu_core_hour: 1}
"""


@pytest.fixture
def tune(tune_in_process: Tune) -> Tune:
    """No server is launched: nothing here needs a process."""
    return tune_in_process


def write(folder: Path, capacities: dict[str, float], *, noise: str = "10%", more: str = "") -> None:
    rows = "\n".join(f"{name},{capacity},1,30" for name, capacity in capacities.items())
    (folder / "table.csv").write_text(f"name,capacity_qps,price_per_hour,trial_s\n{rows}\n", encoding="utf-8")
    (folder / "spec.yaml").write_text(SPEC + NOISE.replace("NOISE", noise) + more, encoding="utf-8")


def launches(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "tuning" / "noisy" / "trials").iterdir() if "again" in path.name)


def test_what_is_twice_as_cheap_is_deployed_with_the_confidence_asked_for(tmp_path: Path, tune: Tune) -> None:
    write(tmp_path, {"a": 100, "b": 220, "c": 50}, more="current: {name: a}\n")
    assert tune("--service", "spec.yaml", "--budget", 3).returncode == 0
    found = recommendation(tmp_path / "tuning" / "noisy")
    assert (found["decision"], found["configuration"], found["confirmed"]) == ("deploy", {"name": "b"}, True)
    assert 0.2 < found["saving"]["low"] < found["saving"]["value"] < found["saving"]["high"] < 0.8
    assert found["capacity_qps"]["low"] < found["capacity_qps"]["value"] < found["capacity_qps"]["high"]
    assert found["launches"] == 2
    assert found["probability_cheaper"] >= found["confidence"] == 0.95


def test_two_names_for_one_configuration_are_not_called_cheaper(tmp_path: Path, tune: Tune) -> None:
    write(tmp_path, {"a": 100, "b": 100, "c": 100}, more="current: {name: a}\n")
    for seed in range(3):
        output = tmp_path / str(seed)
        done = tune("--service", "spec.yaml", "--budget", 3, "--seed", seed, "--output", output)
        assert done.returncode == 0
        found = recommendation(output)
        assert found["decision"] != "deploy"
        report = (output / "report.html").read_text(encoding="utf-8")
        assert '<section class="hero fair">' in report
    assert "Keep what you have" in done.stdout or "uncertain" in done.stdout


def test_today_is_kept_where_it_is_best(tmp_path: Path, tune: Tune) -> None:
    write(tmp_path, {"a": 200, "b": 100, "c": 90}, more="current: {name: a}\n")
    done = tune("--service", "spec.yaml", "--budget", 3)
    found = recommendation(tmp_path / "tuning" / "noisy")
    assert (found["decision"], found["configuration"], found["saving"]) == ("keep", {"name": "a"}, None)
    assert done.stdout.startswith("Keep what you have: name=a")
    assert done.stdout.count("Keep what you have") == 1


def test_what_is_kept_for_want_of_knowledge_is_said_to_be_hardly_the_best(tmp_path: Path, tune: Tune) -> None:
    names = "abcdefghij"
    write(tmp_path, {one: 100 if one == "a" else 108 for one in names}, noise="15%", more="current: {name: a}\n")
    spec = (tmp_path / "spec.yaml").read_text(encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(spec.replace("[a, b, c]", f"[{', '.join(names)}]"), encoding="utf-8")
    tune("--service", "spec.yaml", "--budget", 10, "--seed", 0)
    found = recommendation(tmp_path / "tuning" / "noisy")
    assert found["decision"] == "keep"
    assert found["probability_best"] < 0.2
    assert "though that is the best of 10 measured with a probability of" in found["reasons"][0]
    assert any(one.startswith("To be surer, ") for one in found["reasons"])


def test_one_that_nothing_can_be_compared_with_is_called_the_only_one(tmp_path: Path, tune: Tune) -> None:
    write(tmp_path, {"a": 100, "b": 0, "c": 0})
    assert tune("--service", "spec.yaml", "--budget", 3).returncode == 0
    found = recommendation(tmp_path / "tuning" / "noisy")
    assert found["reasons"][0] == "Deploy it: it is the only one of 3 tried that served within the SLO (2 infeasible)."
    assert re.fullmatch(
        r"Measured on 2 launches: \S+ \(\S+ to \S+\) and \S+ \(\S+ to \S+\) requests/s.*", found["reasons"][2]
    )
    report = (tmp_path / "tuning" / "noisy" / "report.md").read_text("utf-8")
    assert "## Deploy: the only one of 3 tried that served within the SLO (2 infeasible)" in report
    (tmp_path / "spec.yaml").write_text(
        (tmp_path / "spec.yaml").read_text("utf-8").replace("[a, b, c]", "[a]"), encoding="utf-8"
    )
    assert "it is the only one that was tried." in tune("--service", "spec.yaml").stdout


def test_a_final_goes_on_where_an_interrupted_one_was(tmp_path: Path, tune: Tune) -> None:
    capacities = {"a": 100.0, "b": 105.0, "c": 95.0}
    write(tmp_path, capacities, more="objective: {minimize: cost_per_million_requests, final: 0%}\n")
    assert tune("--service", "spec.yaml", "--budget", 3).returncode == 0
    found = recommendation(tmp_path / "tuning" / "noisy")
    assert (found["confirmed"], found["decision"]) == (False, "uncertain")
    assert [one for one in found["reasons"] if "go on with --resume and an objective.final above 0%" in one]
    report = tmp_path / "tuning" / "noisy" / "report.md"
    assert "go on with --resume and an objective.final above 0%" in report.read_text("utf-8")
    tuned = tune_from_python(tmp_path / "spec.yaml", budget=3, output=tmp_path / "by-python")
    assert [one for one in tuned.recommendation.reasons if "go on with `resume` and an objective.final" in one]
    assert r"go on with \`resume\` and" in (tmp_path / "by-python" / "report.md").read_text("utf-8")
    assert launches(tmp_path) == []
    write(tmp_path, capacities, more="objective: {minimize: cost_per_million_requests, final: 100%}\n")
    assert tune("--service", "spec.yaml", "--budget", 3, "--resume").returncode == 0
    first = launches(tmp_path)
    assert len(first) == 4
    again = next(name for name in first if name.endswith("-again-2"))  # somebody's second turn
    assert tune("--service", "spec.yaml", "--budget", 3, "--resume").returncode == 0
    assert launches(tmp_path) == first  # its share is spent
    trials = tmp_path / "tuning/noisy/trials"
    shown = [
        json.loads((trials / name / "trial.json").read_text(encoding="utf-8"))["capacity_qps"]
        for name in (again, again.removesuffix("-2"))
    ]
    assert shown[0] != shown[1]  # launches of their own


def test_the_launches_of_a_round_are_of_different_configurations_and_say_which_round(
    tmp_path: Path, tune: Tune
) -> None:
    more = "objective: {minimize: cost_per_million_requests, final: 100%}\ncurrent: {name: a}\n"
    write(tmp_path, {"a": 100, "b": 101, "c": 99}, more=more)
    assert tune("--service", "spec.yaml", "--budget", 3).returncode == 0
    files = (tmp_path / "tuning/noisy/trials").glob("*/trial.json")
    found = {file.parent.name: json.loads(file.read_text(encoding="utf-8"))["final_round"] for file in files}
    assert [found[f"{number:04d}"] for number in range(3)] == [None, None, None]
    again = [(one, name[:4]) for name, one in found.items() if "again" in name]
    assert len(again) == len(set(again)) == 4
    assert {one for one, _ in again} == {1, 2}


def test_an_uncertain_decision_says_what_would_make_it_surer() -> None:
    def launch(low: float, high: float, **fields: object) -> TrialRecord:
        capacity = {"value": 100, "low": low, "high": high}
        return TrialRecord.model_validate(
            {"number": 0, "state": "complete", "configuration": {}, "capacity_qps": capacity, **fields}
        )

    def said(
        *launches: TrialRecord, final: str = "40%", trials: int = 20, untried: int = 9, further_launches: int = 8
    ) -> str:
        spec = Spec.model_validate(
            {"version": 1, "service": {"name": "x"}, "objective": {"maximize": "capacity_qps", "final": final}}
        )
        counts = {"trials": trials, "untried": untried, "further_launches": further_launches}
        return how_to_be_surer(spec, launches, 0.05, **counts)

    once_more = "go on with `resume` and an objective.final above 40%: the best are then launched more often"
    assert said(launch(97, 103)) == f"To be surer, {once_more}."
    assert "(the final made 3 of 8 launches)" in said(launch(97, 103), further_launches=3)
    assert "objective.final above 50%" in said(launch(97, 103), further_launches=10)  # with those of its overtime
    assert "objective.final above 80%" in said(launch(97, 103), trials=5, further_launches=4)  # it is never of fewer
    assert "a budget of more trials" in said(launch(97, 103), final="100%", further_launches=20)
    assert "make another run" in said(launch(97, 103), trials=3, untried=0, further_launches=4)
    assert "load.max_trial, 90 s, show its capacity to within 41% only" in said(launch(71, 141))
    disturbed = launch(97, 103, machine={"server_cores": 2, "others_cores": 0.9, "disturbed": "others used 0.9"})
    assert "Other programs disturbed 1 of its 2 launches" in said(launch(97, 103), disturbed)


def test_an_exact_table_needs_one_more_launch_of_the_best_alone(tmp_path: Path, tune: Tune) -> None:
    write(tmp_path, {"a": 100, "b": 101, "c": 102}, noise="0%")
    assert tune("--service", "spec.yaml", "--budget", 3).returncode == 0
    found = recommendation(tmp_path / "tuning" / "noisy")
    assert (found["decision"], found["configuration"], found["probability_best"]) == ("deploy", {"name": "c"}, 1.0)
    assert len(launches(tmp_path)) == 1


def test_noise_is_for_replays_alone(tmp_path: Path, tune: Tune) -> None:
    write(tmp_path, {"a": 100})
    text = (
        (tmp_path / "spec.yaml").read_text(encoding="utf-8").replace("type: replay, table: table.csv", "type: process")
    )
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    done = tune("validate", "spec.yaml")
    assert done.returncode == 2
    assert "noise is for type: replay alone" in done.stderr


def spent(folder: Path) -> tuple[float, float]:
    """Seconds and money of all launches, by their records."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("trials/*/trial.json")]
    seconds = [max(one["wall_s"], one["load_s"] or 0) for one in records]
    return sum(seconds), sum(one["cost_per_hour"] * took / 3600 for one, took in zip(records, seconds, strict=True))


def test_a_budget_of_time_or_money_is_never_overrun_and_has_room_for_the_final(tmp_path: Path, tune: Tune) -> None:
    write(tmp_path, {"a": 100, "b": 110, "c": 90})
    many = "\n".join(f"{number},{100 + number % 7},{1 + number / 50},30" for number in range(50))
    (tmp_path / "table.csv").write_text(f"n,capacity_qps,price_per_hour,trial_s\n{many}\n", encoding="utf-8")
    text = (tmp_path / "spec.yaml").read_text(encoding="utf-8").replace("{name: [a, b, c]}", "{n: {low: 0, high: 49}}")
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    assert tune("--service", "spec.yaml", "--budget", "10m", "--budget", 40, "--output", "time").returncode == 0
    seconds, _ = spent(tmp_path / "time")
    assert 480 < seconds <= 600
    assert recommendation(tmp_path / "time")["confirmed"]
    assert recommendation(tmp_path / "time")["untried_improvement"] >= 0
    done = tune("--service", "spec.yaml", "--max-cost", "$0.1", "--output", "money")
    assert done.returncode == 0
    assert (done.stderr + done.stdout).count("Stopped: ") == 1  # and in every file
    assert "Stopped: " in recommendation(tmp_path / "money")["reasons"][-1]
    _, money = spent(tmp_path / "money")
    assert 0.05 < money <= 0.1
    assert recommendation(tmp_path / "money")["confirmed"]
    assert tune("--service", "spec.yaml", "--budget", "10m", "--budget", 3, "--output", "trials").returncode == 0
    assert sum(recommendation(tmp_path / "trials")["trials"].values()) == 3


PRICED = "name,capacity_qps,price_per_hour,trial_s\n"


def of_trials(folder: Path, names: list[str]) -> list[str]:
    """The `name` that each of those launches had."""
    files = (folder / "tuning/noisy/trials" / one / "trial.json" for one in names)
    return [json.loads(file.read_text(encoding="utf-8"))["configuration"]["name"] for file in files]


@pytest.mark.parametrize(("current", "a", "c"), [("", 210, 200), ("current: {name: a}\n", 100, 90)])
def test_the_final_ends_where_the_expected_best_does_not_fit_into_the_money_and_recommends_no_other(
    tmp_path: Path, tune: Tune, current: str, a: int, c: int
) -> None:
    write(tmp_path, {}, noise="3%", more=current)
    (tmp_path / "table.csv").write_text(f"{PRICED}a,{a},1,360\nb,2300,10,360\nc,{c},1,360\n", encoding="utf-8")
    # The search takes $1.20 of the $1.28 that are its own; then $0.60 are left, and b, the best, takes $1 more.
    done = tune("--service", "spec.yaml", "--budget", 3, "--max-cost", "1.8")
    assert done.returncode == 0, done.stderr
    assert launches(tmp_path) == []
    found = recommendation(tmp_path / "tuning/noisy")
    assert (found["configuration"], found["decision"], found["confirmed"]) == ({"name": "b"}, "uncertain", False)
    assert found["probability_best"] > 0.5
    assert done.stderr.count("the final ends: ") == 1


def test_the_final_leaves_out_others_than_the_best_that_do_not_fit_into_the_money(tmp_path: Path, tune: Tune) -> None:
    write(tmp_path, {}, noise="3%")
    (tmp_path / "table.csv").write_text(f"{PRICED}a,220,1,360\nb,2100,10,360\nc,215,1,360\n", encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 3, "--max-cost", "1.8")
    assert done.returncode == 0, done.stderr
    assert set(of_trials(tmp_path, launches(tmp_path))) == {"a", "c"}
    assert spent(tmp_path / "tuning/noisy")[1] <= 1.8
    found = recommendation(tmp_path / "tuning/noisy")
    assert (found["configuration"], found["confirmed"]) == ({"name": "a"}, True)


def test_the_best_is_launched_once_more_only_where_nothing_fits_that_it_is_compared_with(
    tmp_path: Path, tune: Tune
) -> None:
    write(tmp_path, {}, noise="3%", more="current: {name: b}\n")
    (tmp_path / "table.csv").write_text(f"{PRICED}a,220,1,360\nb,500,10,360\nc,50,1,360\n", encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 3, "--max-cost", "1.8")
    assert done.returncode == 0, done.stderr
    assert of_trials(tmp_path, launches(tmp_path)) == ["a"]
    found = recommendation(tmp_path / "tuning/noisy")
    assert (found["configuration"], found["decision"]) == ({"name": "a"}, "deploy")
    assert done.stderr.count("the final ends: ") == 1


@pytest.mark.parametrize("limit", [("--budget", "50s"), ("--max-cost", "0.015")])
def test_the_first_trial_of_a_table_stays_within_the_limits_too(
    tmp_path: Path, tune: Tune, limit: tuple[str, str]
) -> None:
    write(tmp_path, {"a": 100, "b": 110, "c": 90})
    (tmp_path / "table.csv").write_text(
        (tmp_path / "table.csv").read_text("utf-8").replace(",30", ",60"), encoding="utf-8"
    )
    done = tune("--service", "spec.yaml", *limit)
    assert done.returncode == 2
    assert "buys no trial" in done.stderr
    assert done.stderr.rstrip().endswith(("Give more time.", "Give more money."))


def test_what_a_table_never_runs_takes_no_time_of_the_limits(tmp_path: Path, tune: Tune) -> None:
    write(tmp_path, {"a": 100})
    rows = "a,100,ok,30\nb,,failed,600\nc,0,ok,600\nof-another-space,100,ok,600\n"
    (tmp_path / "table.csv").write_text(f"name,capacity_qps,status,trial_s\n{rows}", encoding="utf-8")
    text = (tmp_path / "spec.yaml").read_text(encoding="utf-8").replace("prices: {cpu_core_hour: 1}\n", "")
    (tmp_path / "spec.yaml").write_text(f"{text}objective: {{maximize: capacity_qps}}\n", encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", "10m")
    assert done.returncode == 0, done.stderr
    assert recommendation(tmp_path / "tuning/noisy")["confirmed"]


def test_a_budget_that_buys_nothing_is_refused(tmp_path: Path, tune: Tune) -> None:
    write(tmp_path, {"a": 100})
    done = tune("--service", "spec.yaml", "--budget", "soon")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    (tmp_path / "table.csv").write_text("name,capacity_qps\na,100\n", encoding="utf-8")
    text = (tmp_path / "spec.yaml").read_text(encoding="utf-8").replace("prices: {cpu_core_hour: 1}\n", "")
    objective = "objective: {maximize: capacity_qps}\n"
    (tmp_path / "spec.yaml").write_text(text.replace("[a, b, c]", "[a]") + objective, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--max-cost", 5)
    assert done.returncode == 2
    assert "nothing in this spec has a price" in done.stderr


def launch(number: int, **fields: object) -> TrialRecord:
    return TrialRecord.model_validate({"number": number, "configuration": {}, "cost_per_hour": 1.0, **fields})


HELD = {"state": "complete", "capacity_qps": {"value": 100, "low": 95, "high": 105}, "cost_per_million_requests": 3}


def test_todays_configuration_is_launched_again_where_its_trial_was_too_short_to_tell(tmp_path: Path) -> None:
    write(tmp_path, {"a": 100, "b": 110, "c": 90}, more="current: {name: a}\n")
    setup = SimpleNamespace(loaded=load_spec(tmp_path / "spec.yaml"))
    short = launch(0, state="failed", reason=f"{TOO_SHORT}: no rate was seen to hold", configuration={"name": "a"})
    final = Final(setup, None, None, Objective(("cost_per_million_requests",)), None)  # type: ignore[arg-type]
    records = [short, launch(1, **HELD, configuration={"name": "b"}), launch(2, **HELD, configuration={"name": "c"})]
    assert final._next_round(records, {}, Outlook(), 4, FinalRules())[1] == 0
    assert final._next_round(records, {0: (short,)}, Outlook(), 4, FinalRules())[1] == 0
    assert 0 not in final._next_round(records, {0: (short, short)}, Outlook(), 4, FinalRules())
    slow = launch(0, state="infeasible", reason="too slow", configuration={"name": "a"})
    assert 0 not in final._next_round([slow, *records[1:]], {}, Outlook(), 4, FinalRules())


def test_what_was_too_short_to_tell_in_the_final_is_launched_again_however_sure_it_looks(tmp_path: Path) -> None:
    write(tmp_path, {"a": 100, "b": 110, "c": 90})
    setup = SimpleNamespace(loaded=load_spec(tmp_path / "spec.yaml"))
    final = Final(setup, None, None, Objective(("cost_per_million_requests",)), None)  # type: ignore[arg-type]
    best = launch(0, **HELD, configuration={"name": "a"})
    slow = HELD | {"capacity_qps": {"value": 10, "low": 9, "high": 11}, "cost_per_million_requests": 30}
    records = [best, launch(1, **slow, configuration={"name": "b"})]
    short = launch(0, state="failed", reason=f"{TOO_SHORT}: not ready after 3.0 s", configuration={"name": "a"})
    assert final._next_round(records, {0: (best,)}, Outlook(), 3, FinalRules()) == ()
    assert final._next_round(records, {0: (short,)}, Outlook(), 3, FinalRules()) == (0,)
    assert final._next_round(records, {0: (short, short)}, Outlook(), 0, FinalRules()) == (0,)


def test_what_is_too_short_to_tell_is_not_launched_for_ever() -> None:
    """Where nothing has held the SLO again, each that was measured is launched once more at most."""
    short = launch(0, state="failed", reason=f"{TOO_SHORT}: no rate was seen to hold")
    objective = Objective(("cost_per_million_requests",))
    final = Final(None, None, None, objective, None)  # type: ignore[arg-type]
    records = [launch(0, **HELD), launch(1, **HELD)]
    assert final._next_round(records, {0: (short,) * 4}, Outlook(), 0, FinalRules()) == (1,)
    assert final._next_round(records, {0: (short,) * 4, 1: (short,)}, Outlook(), -1, FinalRules()) == ()


def test_what_is_untried_is_compared_with_what_was_launched_again_and_had_the_time_to_start(tmp_path: Path) -> None:
    write(tmp_path, {"a": 100, "b": 110, "c": 90})
    kept: list[Outlook] = []
    final = Final(
        SimpleNamespace(loaded=load_spec(tmp_path / "spec.yaml")),  # type: ignore[arg-type]
        SimpleNamespace(attributes=SimpleNamespace(keep_outlook=kept.append)),  # type: ignore[arg-type]
        SimpleNamespace(untried_improvement=lambda _records, loss: loss),  # type: ignore[arg-type]
        Objective(("cost_per_million_requests",)),
        None,  # type: ignore[arg-type]
    )
    dear = HELD | {"capacity_qps": {"value": 50, "low": 49, "high": 51}, "cost_per_million_requests": 6}
    records = [launch(0, **HELD, configuration={"name": "a"}), launch(1, **dear, configuration={"name": "b"})]
    short = launch(1, state="failed", reason=f"{UNREADY} after 3.0 s", configuration={"name": "b"})
    launched: list[dict[int, tuple[TrialRecord, ...]]] = [{}, {1: (short,)}, {1: (records[1],)}]
    for confirmations in launched:
        final._keep_untried(records, confirmations, Outlook())
    alone, unready, served = [one.untried_improvement for one in kept]
    assert unready == alone, "the best is the cheap one"
    assert alone is not None
    assert served is not None
    assert served > alone + 0.5
