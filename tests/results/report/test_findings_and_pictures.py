"""What the report finds and draws: true to the records, and silent where there is nothing to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results import (
    Choice,
    Estimate,
    Explanation,
    FurtherLaunches,
    MachineRecord,
    ProbeRecord,
    Recommendation,
    StudyQuestion,
    StudySlo,
    StudySummary,
    Surface,
    TrialCounts,
    TrialEvidence,
    TrialRecord,
    UsageSample,
    WarmupSample,
    trials_frame,
    write_report,
)
from results.dashboard import figures, parts
from results.report.chart import abbreviated
from results.report.findings import findings
from results.report.notebook import study_html
from results.report.pictures import cost_over_p99, importance_bars, latency_picture, search_picture, surface_picture
from results.report.report import sentence
from results.series import front_of_cost_and_p99, latency_curve, progress, total_spent
from tuner.search.objective import UNREADY
from tuner.trial.evidence import memory_growth

HOSTILE = "<b>x</b>\x1b[31m"


def trial(number: int, capacity: float = 100.0, p99: float = 40.0, **fields: Any) -> TrialRecord:
    base: dict[str, Any] = {
        "state": "complete", "configuration": {"cores": number}, "cost_per_hour": 0.36,
        "capacity_qps": Estimate(value=capacity, low=0.9 * capacity, high=1.1 * capacity),
        "p99_ms": Estimate.exactly(p99), "cost_per_million_requests": 100 / capacity, "wall_s": 60.0,
    }  # fmt: skip
    return TrialRecord(number=number, **{**base, **fields})


def machine(**fields: Any) -> MachineRecord:
    return MachineRecord(**{"server_cores": 1, "others_cores": 0.01, "work_ms": 2.0, **fields})


def study(*records: TrialRecord, confirmations: Mapping[int, TrialRecord] | None = None, best: int = 0) -> StudySummary:
    chosen = records[best]
    found = Recommendation(
        service="s", configuration=chosen.configuration, capacity_qps=chosen.capacity_qps, p99_ms=chosen.latency.p99_ms,
        error_rate=0.0, cost_per_hour=chosen.cost_per_hour, meets_slo=True, confirmed=True, trial=chosen.number,
        cost_per_million_requests=chosen.cost_per_million_requests, trials=TrialCounts(complete=len(records)),
    )  # fmt: skip
    return StudySummary(
        service="s", recommendation=found, records=records,
        question=StudyQuestion(("cores",), StudySlo(("p99 <= 50 ms",), 50.0), "", "9", gpu_parameters=("gpu",)),
        launches=FurtherLaunches({number: (one,) for number, one in (confirmations or {}).items()}),
        values={one.number: one.cost_per_million_requests or 0.0 for one in records},
    )  # fmt: skip


def probe(rate: float, p99: float, verdict: Any = "met") -> ProbeRecord:
    return ProbeRecord(
        rate_qps=rate, verdict=verdict, started_s=0, duration_s=5, requests=100, misses=0, errors=0, p50_ms=p99 / 3,
        p95_ms=p99 / 1.5, p99_ms=Estimate(value=p99, low=0.9 * p99, high=1.2 * p99), histogram=((10.0, 60), (20.0, 40)),
    )  # fmt: skip


EVIDENCE = TrialEvidence(
    probes=(probe(80, 20), probe(40, 12), probe(110, 70, "missed"), probe(60, 1, "invalid")),
    usage=(
        UsageSample(at_s=1, cpu_cores=0.5, memory_bytes=2**20),
        UsageSample(at_s=2, cpu_cores=1, memory_bytes=2**21),
    ),
)


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({"gpu_utilization": 0.1}, "A GPU is paid for and mostly idle"),
        ({"throttled_share": 0.4}, "The CPU quota was used up"),
        ({"memory_growth_bytes_per_s": 1e5, "memory_peak_bytes": 2**28}, "Memory grew under load"),
        ({"unsettled": tuple(WarmupSample(at_s=n, p50_ms=n, qps=1) for n in range(3))}, "A server never settled"),
        ({"bottleneck": "client"}, "The load generator was the limit"),
        (
            {"machine": machine(disturbed="others used 0.9 of the server's core")},
            "Neighbours disturbed the measurement",
        ),
        ({"machine": machine(generator_cores_shared=0.1)}, "The load generator used the server's cores"),
    ],
)
def test_each_finding_is_found_with_its_evidence(fields: dict[str, Any], title: str) -> None:
    found = findings(study(trial(0), trial(1, **fields), best=1))
    assert [one.title for one in found] == [title]
    assert found[0].trials == (1,)
    assert "trial 1" in found[0].words.lower()
    assert findings(study(trial(0), trial(1))) == ()


def test_a_machine_that_became_slower_is_said_with_the_trials_that_it_slowed_down() -> None:
    times_ms = (2.0, 2.1, 2.5, None)
    records = [trial(n, machine=None if ms is None else machine(work_ms=ms)) for n, ms in enumerate(times_ms)]
    [found] = findings(study(*records))
    assert found.title == "The machine's speed changed"
    assert found.trials == (2,)
    assert "During trial 2 the same work ran at 80% of the speed" in found.words
    slow_memory = [trial(0, machine=machine(copy_ms=1.0)), trial(1, machine=machine(copy_ms=2.5))]
    [found] = findings(study(*slow_memory))
    assert found.title == "The memory's speed changed"
    assert "Before trial 1 the same copy ran at 40%" in found.words
    assert list(trials_frame(records, ["cores"])["machine_speed"].fillna(0).round(2)) == [1.0, 0.95, 0.8, 0.0]


def test_configurations_with_fewer_cores_are_said_to_be_better_off_beside_one_that_shares_them() -> None:
    alone = trial(0, machine=machine())
    shared = trial(1, machine=machine(server_cores=2, generator_cores_shared=0.2))
    [found] = findings(study(alone, shared))
    assert "In trial 1 it took 10% of them" in found.words
    assert "Configurations with fewer cores had them for themselves" in found.words
    [found] = findings(study(shared))
    assert "fewer cores" not in found.words


def test_memory_that_a_framework_takes_is_told_from_what_it_needs() -> None:
    def held(slices: dict[str, float], *, state: str = "complete") -> tuple[str, ...]:
        records = [
            trial(
                number, configuration={"gpu": name}, gpu_memory_peak_bytes=int(gib * 2**30), gpu_utilization=0.9,
                state=state if number == 0 else "complete",
            )
            for number, (name, gib) in enumerate(slices.items())
        ]  # fmt: skip
        return tuple(f"{one.title}: {one.words}" for one in findings(study(*records, best=len(records) - 1)))

    [taken] = held({"5Gi": 4.5, "10Gi": 9.0, "20Gi": 18.2}, state="infeasible")
    assert taken.startswith(
        "GPU memory is taken as it is given: With gpu=5Gi the server held 4.50 GiB, with 20Gi it held"
    )
    assert taken.endswith("The smallest slice that served is 10Gi, found by trial.")
    assert len(held({"1g.10gb": 9.0, "3g.40gb": 36.5})) == 1
    assert len(held({"25%": 20.0, "100%": 78.0})) == 1
    assert held({"5Gi": 3.0, "20Gi": 3.1}) == (), "what is needed is the same whatever there is"
    assert held({"5Gi": 4.5}) == ()


def test_failures_that_differ_by_a_time_and_a_process_are_one_reason() -> None:
    failed = [trial(n, state="failed", reason=f"pid={n}123 ERROR 11-28 12:01:0{n} no such file") for n in (1, 2)]
    [found] = findings(study(trial(0), *failed))
    assert found.title == "Servers failed for one reason"
    assert found.words == "2 trials, for example: pid=2123 ERROR 11-28 12:01:02 no such file"
    slow = [trial(n, state="failed", reason=f"too short to tell: a lone request takes {n}.5 s") for n in (1, 2)]
    [found] = findings(study(trial(0), *slow))
    assert found.words == "2 trials, for example: too short to tell: a lone request takes 2.5 s"


def test_measurements_that_disagree_are_said() -> None:
    assert findings(study(trial(0), confirmations={0: trial(0, 70.0)}))[0].title == "Measurements disagree"
    vague: dict[str, Any] = {"capacity_qps": Estimate(value=70.0, low=50.0, high=900.0)}
    assert not findings(study(trial(0), confirmations={0: trial(0, **vague)})), "disturbed, it may hold as much"
    gone = trial(0, state="infeasible", reason="too slow", capacity_qps=None)
    assert "too slow" in findings(study(trial(0), confirmations={0: gone}))[0].words


def test_another_launch_that_had_too_little_time_is_not_said_to_have_failed() -> None:
    reason = f"{UNREADY} after 40 s, and with a longer start its load might go beyond the time of the run"
    short = trial(0, state="failed", reason=reason, capacity_qps=None)
    [found] = findings(study(trial(0), confirmations={0: short}))
    assert found.title == "A second measurement had too little time"
    assert f"another launch was {reason}. That says nothing against it." in found.words
    died = trial(0, state="failed", reason="the server exited with code 1", capacity_qps=None)
    [found] = findings(study(trial(0), confirmations={0: died}))
    assert (found.title, "on another launch: the server exited" in found.words) == ("A second measurement failed", True)


def test_memory_growth_is_a_leak_and_not_a_step() -> None:
    def samples(sizes: list[float]) -> list[UsageSample]:
        return [UsageSample(at_s=at, cpu_cores=1, memory_bytes=int(size)) for at, size in enumerate(sizes)]

    leak = memory_growth(samples([1e8 + 1e6 * at for at in range(60)]), 0.0)
    assert leak == pytest.approx(1e6, rel=0.01)
    assert memory_growth(samples([1e8 + 1e3 * (at % 7) for at in range(60)]), 0.0) is None
    assert memory_growth(samples([1e8] * 10 + [1.3e8] * 50), 0.0) is None
    assert memory_growth(samples([1e8] * 3), 0.0) is None


def test_the_sentence_has_money_and_confidence() -> None:
    assert sentence(study(trial(0))) == (
        "Deploy cores=0: it holds 100 requests/s within p99 <= 50 ms (95% sure of 90.0 to 110), for $0.360 an hour, "
        "$1.00 per million requests."
    )


def test_the_front_holds_what_nothing_beats_in_cost_and_p99() -> None:
    one = study(trial(0, 100, 40), trial(1, 80, 20), trial(2, 90, 45), trial(3, 50, 20))
    assert [point.trial for point in front_of_cost_and_p99(one)] == [1, 0]
    chart = cost_over_p99(one)
    assert chart is not None
    assert sum(mark.css.startswith("point") for mark in chart.marks) == 4
    assert cost_over_p99(study(trial(0))) is None


def test_the_curve_has_a_knee_and_leaves_spoiled_probes_out() -> None:
    curve = latency_curve(study(trial(0)), 0, EVIDENCE)
    assert curve is not None
    assert [one.rate_qps for one in curve.points] == [40, 80, 110]
    assert curve.knee_qps == 80  # 40/12, 80/20, 110/70
    words = [note.words for note in latency_picture(curve).notes]
    assert words == ["p99", "p95", "p50", "SLO: 50.0 ms", "knee 80.0", "capacity 100"]
    assert latency_curve(study(trial(0)), 0, TrialEvidence()) is None


def test_a_limit_on_another_percentile_is_drawn_by_its_name_where_p99s_are() -> None:
    one = study(trial(0, 100, 40), trial(1, 80, 20))
    of_p95 = replace(one, question=replace(one.question, slo=replace(one.question.slo, percentile=95.0)))
    for asked, name in ((one, "SLO"), (of_p95, "SLO p95")):
        chart, curve = cost_over_p99(asked), latency_curve(asked, 0, EVIDENCE)
        assert chart is not None
        assert curve is not None
        assert f"{name} 50.0 ms" in [note.words for note in chart.notes]
        assert f"{name}: 50.0 ms" in [note.words for note in latency_picture(curve).notes]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("16", "16"), ("123456789", "123456789"), ("g5.12xlarge", "g5.1…arge"), ("engine-v0.10", "engi…0.10")],
)
def test_a_long_name_is_shortened_to_what_tells_it_from_others(text: str, shown: str) -> None:
    assert abbreviated(text, 9) == shown


def test_the_search_and_what_it_spent() -> None:
    one = study(trial(0, 50), trial(1, 100), trial(2, 80))
    assert [step.best for step in progress(one)] == [2.0, 1.0, 1.0]
    assert total_spent(one) == pytest.approx((180.0, 0.018))
    assert search_picture(one) is not None


@pytest.mark.parametrize(
    ("best", "again", "said"),
    [(1, True, "found in trial 1."), (0, True, "found in trial 1, by the first launch of each."),
     (0, False, "found in trial 1.")],
)  # fmt: skip
def test_where_the_best_was_found_is_by_first_launches(tmp_path: Path, best: int, said: str, *, again: bool) -> None:
    records = (trial(0, 100), trial(1, 200))
    one = study(*records, confirmations={1: trial(1, 50)} if again else None, best=best)
    write_report(tmp_path, one)
    assert said in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_parameters_are_drawn_where_they_are_known() -> None:
    one = study(trial(0), trial(1))
    assert importance_bars(one) == []
    assert surface_picture(one) is None
    grid: Any = ((1.0, None), (2.0, 3.0))
    known = replace(
        one, explanation=Explanation(metric="cost_per_million_requests", importance={"a": 0.2, HOSTILE: 0.9}, trust=1.0,
        surface=Surface(
            x="a", y=HOSTILE, x_values=(1, 2), y_values=(HOSTILE, "z"), value=grid,
            low=grid, high=grid,
        )),
    )  # fmt: skip
    assert [bar.percent for bar in importance_bars(known)] == [90.0, 20.0]
    chart = surface_picture(known)
    assert chart is not None
    assert sum(mark.css.startswith("cell") for mark in chart.marks) == 4
    for picture in (figures.surface(known), figures.importance(known)):
        assert "<b>" not in str(picture)
        assert "\x1b" not in str(picture)


@pytest.mark.parametrize("maximised", [True, False])
def test_the_strongest_colour_is_the_best_whatever_is_predicted(maximised: bool) -> None:
    one, grid = study(trial(0), trial(1)), ((1.0, 9.0),)
    surface = Surface(x="a", y="b", x_values=(1, 2), y_values=(1,), value=grid, low=grid, high=grid)
    known = replace(
        one, explanation=Explanation(metric="best_effort_qps", importance={}, trust=1.0, surface=surface),
        question=replace(one.question, maximised=maximised),
    )  # fmt: skip
    chart = surface_picture(known)
    assert chart is not None
    shades = [int(mark.css.rpartition("-")[2]) for mark in chart.marks if mark.css.startswith("cell")]
    assert (shades[1] > shades[0]) is maximised
    [trace] = figures.surface(known)["data"]
    assert trace["reversescale"] is not maximised


def test_plotly_gets_no_markup_from_a_configuration() -> None:
    one = study(trial(0, configuration={"engine": HOSTILE}), trial(1, configuration={"engine": HOSTILE}))
    for picture in (figures.cost_over(one, "p99_ms"), figures.cost_over(one, "capacity_qps"), figures.search(one)):
        assert "<b>" not in str(picture)
    curve = latency_curve(one, 0, EVIDENCE)
    for picture in (figures.latency(curve), figures.usage(one.records[0], EVIDENCE)):
        assert picture["data"]
    assert figures.histogram(EVIDENCE.probes[0], 50.0)["data"][0]["y"] == [60, 40]


def test_thousands_of_points_are_thinned_and_the_best_stays() -> None:
    many = [trial(number, 50 + number % 97, 20 + number % 29) for number in range(5000)]
    drawn = figures.cost_over(study(*many), "p99_ms")["data"]
    assert sum(len(one["x"]) for one in drawn if one["mode"] == "markers") < 4000
    assert any(one["name"] == "recommended" for one in drawn)


def test_a_choice_is_an_alternative_in_the_picture() -> None:
    one = study(trial(0), trial(1, 80, 20))
    other = one.records[1]
    assert other.capacity_qps is not None
    choice = Choice(
        configuration=other.configuration, capacity_qps=other.capacity_qps, p99_ms=other.latency.p99_ms, error_rate=0.0,
        cost_per_hour=1.0, cost_per_million_requests=1.2, meets_slo=True, confirmed=False, trial=1,
    )  # fmt: skip
    best = one.recommendation.model_copy(update={"alternatives": (choice,)})
    names = {trace["name"] for trace in figures.cost_over(replace(one, recommendation=best), "p99_ms")["data"]}
    assert names == {"Pareto front", "alternatives", "recommended"}


def test_studies_of_two_currencies_are_each_shown_in_their_own_and_not_compared() -> None:
    one = study(trial(0), trial(1))
    other = replace(one, question=replace(one.question, currency="EUR"))
    said = str(parts.compared(("a", one), ("b", other)))
    assert "1.00 EUR" in said
    assert said.count("the same") == 2, "requests/s and p99"
    assert str(parts.compared(("a", one), ("b", one))).count("the same") == 4


def test_a_notebook_shows_the_best_by_the_objective_with_and_without_prices() -> None:
    free: dict[str, Any] = {"cost_per_hour": None, "cost_per_million_requests": None}
    one = study(trial(0, 50, **free), trial(1, 100, **free), best=1)
    one = replace(one, values={0: 50.0, 1: 100.0}, question=replace(one.question, maximised=True))
    text = study_html(one)
    assert text.index("<td>cores=1</td>") < text.index("<td>cores=0</td>")
