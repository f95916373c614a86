"""Capacity plans: traffic is read as it is written, fleets suffice, money adds up."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from results import (
    Estimate,
    Latencies,
    Recommendation,
    ResultsError,
    StudyQuestion,
    StudySlo,
    StudySummary,
    Timing,
    TrialCounts,
    TrialRecord,
)
from results.planning import (
    PATTERNS,
    Pattern,
    Replica,
    Scaling,
    Terms,
    Traffic,
    Wishes,
    make_plan,
    pattern,
    plan_document,
    plan_text,
    schedule,
    simulate,
    write_plan,
)
from results.planning.fleet import _Queue, _share_late, max_scheduled, missed_share
from results.planning.mixture import Kind, Need, fixed_mixture, undominated
from results.planning.money import offers
from results.trial_parts import LanguageRecord, TokenTimes
from tuner.outcome.traffic import read_traffic


def trial(number: int, capacity: float, price: float | None, **configuration: int | str) -> TrialRecord:
    return TrialRecord(
        number=number, state="complete", configuration=dict(configuration), cost_per_hour=price,
        capacity_qps=Estimate(value=capacity, low=0.95 * capacity, high=1.05 * capacity),
        timing=Timing(cold_start_s=30.0), saturated_qps=1.25 * capacity,
        latency=Latencies(base_latency_ms=8.0, p99_ms=Estimate.exactly(48.0)),
    )  # fmt: skip


def study(*records: TrialRecord, best: int = 0) -> StudySummary:
    chosen = next((one for one in records if one.number == best), None)
    found = Recommendation(
        service="planned", configuration=chosen.configuration if chosen else None, error_rate=0.0,
        capacity_qps=chosen.capacity_qps if chosen else None, p99_ms=chosen.latency.p99_ms if chosen else None,
        cost_per_hour=chosen.cost_per_hour if chosen else None, cost_per_million_requests=0.2, meets_slo=bool(chosen),
        confirmed=bool(chosen), trial=chosen.number if chosen else None, trials=TrialCounts(complete=len(records)),
    )  # fmt: skip
    return StudySummary(
        service="planned", recommendation=found, records=records,
        question=StudyQuestion(("cores",), StudySlo(tail_ms=50.0), "", "3", gpu_parameters=("gpu",)),
    )  # fmt: skip


SIZES = (trial(0, 100, 0.08, cores=1), trial(1, 190, 0.14, cores=2), trial(2, 350, 0.30, cores=4))
REPLICA = Replica(100.0, 125.0, 0.04, 30.0)


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_pattern_lasts_a_day_and_keeps_to_its_peak(kind: Pattern) -> None:
    found = pattern(kind, 900, 100)
    assert found.seconds == 86_400
    assert found.peak_qps == pytest.approx(900, rel=1e-3)
    assert kind == "steady" or found.rates.min() == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(
    ("text", "step_s", "rates"),
    [
        ("time,rate\n0,10\n60,20\n120,5\n", 60, [10, 20, 5]),
        ("timestamp,qps\n2026-01-01T00:00:00Z,10\n2026-01-01T00:01:00Z,30\n", 60, [10, 30]),
        ("time,requests\n0,600\n60,1200\n", 60, [10, 20]),
        ("\ufefftime, rate\n0,4\n30,8\n", 30, [4, 8]),
    ],
)
def test_a_trace_is_read_as_it_is_written(tmp_path: Path, text: str, step_s: float, rates: list[float]) -> None:
    (tmp_path / "trace.csv").write_text(text, encoding="utf-8")
    found = read_traffic(tmp_path / "trace.csv")
    assert found.step_s == pytest.approx(step_s)
    assert found.rates.tolist() == pytest.approx(rates)


def test_requests_in_milliseconds_over_weeks_make_no_more_steps_than_a_plan_can_take(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("timestamp\n" + "\n".join(str(n * 60_000) for n in range(10_000)), encoding="utf-8")
    assert len(read_traffic(tmp_path / "t.csv").rates) <= 100_001


def test_times_alone_are_requests(tmp_path: Path) -> None:
    lines = "\n".join(str(0.1 * number) for number in range(6000))
    (tmp_path / "trace.csv").write_text(f"time\n{lines}\n", encoding="utf-8")
    assert read_traffic(tmp_path / "trace.csv").mean_qps == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a CSV file"),
        ("rate\n5\n", "no column for the time"),
        ("time,rate\n", "nothing but a heading"),
        ("time,rate\n0,5\n60,many\n", ":3: rate is many"),
        ("time,rate\n60,5\n0,5\n", ":3: time goes back"),
        ("time,rate\nsoon,5\nlater,6\n", ":2: time is neither"),
        ("time,rate\n0,5\n60,5,\n0\n", ":4: has 1 cells"),
        ("time,rate\n0,0\n60,0\n", "no requests at all"),
        ("time,rate\n0,-1\n60,0\n", ":2: rate is -1"),
        ("time,rate\n0,5\n60,1e32\n", ":3: rate is 1e32, more than any traffic"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "trace.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError, match=said):
        read_traffic(tmp_path / "trace.csv")


def test_a_schedule_is_never_short_and_starts_early_enough() -> None:
    traffic = Traffic(10.0, np.array([50.0] * 10 + [450.0] * 10 + [50.0] * 10), "steps")
    counts = schedule(traffic, REPLICA, Scaling(None))
    assert (counts >= np.ceil(traffic.rates / 100)).all()
    assert counts[7:10].tolist() == [5, 5, 5]  # 30 s before the step
    assert counts[5] == 1


def test_a_cold_start_longer_than_the_traffic_keeps_all_of_it_served() -> None:
    traffic = Traffic(10.0, np.array([50.0, 250.0]), "short")
    assert schedule(traffic, Replica(100.0, 125.0, 0.04, 600.0), Scaling(None)).tolist() == [3, 3]


def test_replicas_that_are_starting_serve_no_sooner_because_fewer_are_wanted() -> None:
    rates = np.array([50.0] * 40 + [450.0] * 4 + [50.0] * 200)
    found = simulate(Traffic(15.0, rates, "spike"), Replica(100.0, 125.0, 0.04, 900.0), Scaling(0.9))
    assert found.ready[41:90].max() == 1  # 15 minutes are 60 steps


def test_zones_and_spares_are_kept() -> None:
    traffic = Traffic(60.0, np.full(5, 390.0), "steady")
    assert set(schedule(traffic, REPLICA, Scaling(None))) == {4}
    assert set(schedule(traffic, REPLICA, Scaling(None, spare=1))) == {5}
    assert set(schedule(traffic, REPLICA, Scaling(None, zones=3))) == {6}  # any two of three zones carry it


def test_an_overload_is_late_until_its_backlog_is_gone() -> None:
    rates = np.array([50.0] * 20 + [200.0] * 4 + [50.0] * 20)
    found = simulate(Traffic(15.0, rates, "spike"), REPLICA, Scaling(None, min_replicas=1))
    assert found.missed[21] == pytest.approx(1.0)
    assert found.missed[24] == pytest.approx(1.0)  # what has piled up
    assert found.missed[40] < 0.01
    assert found.missed[10] < 0.01


def test_an_autoscaler_follows_and_keeps_what_it_wanted_for_a_while() -> None:
    rates = np.array([50.0] * 40 + [450.0] * 40 + [50.0] * 60)
    found = simulate(Traffic(15.0, rates, "step"), REPLICA, Scaling(0.9))
    assert found.replicas[39] == 1
    assert found.ready[45] == 5
    assert found.replicas[85] == 5  # not yet removed
    assert found.replicas[110] == 1


def test_the_cheapest_fleet_that_keeps_the_slo_is_the_plan() -> None:
    plan = make_plan(study(*SIZES), pattern("steady", 900), Wishes())
    assert plan.option.keeps
    assert plan.option.configuration == {"cores": 2}  # six of them, where eleven small ones would be needed
    assert plan.option.strategy.max_replicas == 6
    assert plan.option.strategy.monthly is not None
    assert plan.option.strategy.monthly.value == pytest.approx(6 * 0.14 * 730)
    small = make_plan(study(*SIZES), pattern("steady", 900), Wishes(), every=False)
    assert small.option.configuration == {"cores": 1}


def test_of_fleets_that_cost_the_same_the_recommendation_is_the_plan() -> None:
    alike = (trial(0, 100, 0.08, cores=1), trial(1, 105, 0.08, cores=1), trial(2, 350, 0.30, cores=4))
    found = make_plan(study(*alike, best=1), pattern("steady", 50, 50), Wishes())
    assert (found.option.trial, found.notes) == (1, ())
    dearer = make_plan(study(*alike, best=2), pattern("steady", 50, 50), Wishes())
    assert "trial 0 is the cheapest, and not the recommendation (trial 2)" in dearer.notes[0]


def test_a_fleet_of_millions_is_planned_as_a_small_one_is() -> None:
    small, large = (make_plan(study(SIZES[0]), pattern("burst", qps, qps / 9), Wishes()) for qps in (1e6, 1e9))
    few, many = ({one.name: one for one in plan.option.strategies} for plan in (small, large))
    assert few.keys() == many.keys()
    for name, one in few.items():
        assert many[name].max_replicas == pytest.approx(1e3 * one.max_replicas, rel=0.01)
        assert many[name].miss_share == pytest.approx(one.miss_share, abs=1e-3)


def test_backlogs_that_are_counted_together_are_as_late_as_those_of_each_replica() -> None:
    rates = np.concatenate([np.full(30, 2e3), np.geomspace(2e3, 4e4, 30), np.full(80, 4e4), np.full(40, 2e3)])
    replica = Replica(100.0, 125.0, 30.0, 240.0)
    found = simulate(Traffic(15.0, rates, "ramp"), replica, Scaling(0.9))
    queues: list[_Queue] = []
    errors: list[float] = []
    for rate, ready, missed in zip(rates, found.ready, found.missed, strict=True):
        queues = [*queues, *[_Queue(0.0, 1.0)] * int(ready)][: int(ready)]
        growth_s = (rate / ready / 125.0 - 1) * 15.0
        after = [one.after(growth_s, 15.0) for one in queues]
        waits = [(old.wait_s, new.wait_s) for old, new in zip(queues, after, strict=True)]
        if any(map(any, waits)):
            late = (
                [_share_late(old, new, replica) for old, new in zip(queues, after, strict=True)]
                if growth_s > 0
                else [
                    np.clip((max(old, new) - 30.0) / abs(new - old), 0, 1) if new != old else float(old > 30.0)
                    for old, new in waits
                ]
            )
            steady = 0.0 if growth_s > 0 else float(replica.miss_share(np.array([rate / ready]))[0])
            errors.append(missed - np.mean(np.maximum(late, steady)))
        queues = after
    assert found.missed.max() > 0.5
    assert np.abs(errors).max() < 0.1
    assert abs(np.mean(errors)) < 0.005


def test_a_load_just_at_the_throughput_is_late_by_chance_and_one_well_beyond_it_as_a_fluid() -> None:
    replica = Replica(70.0, 100.0, 1.5, 30.0)

    def late(busy: float, steps: int) -> float:
        rates = np.full(steps, 100.0 * busy)
        return float(missed_share(rates, np.ones(steps), replica, 15.0).mean())

    assert 0.1 < late(1.001, 3) < 0.6, "a fluid that hardly grows has no backlog, and a real queue has one"
    assert late(1.001, 3) < late(1.02, 3) < late(1.1, 3)
    assert late(2.0, 3) == pytest.approx(1 - 1.5 / 45, abs=0.03), "for the first 1.5 s nobody is late"
    assert late(1.001, 1) < late(1.001, 3) < late(1.001, 30)


def test_what_came_before_a_trace_is_taken_to_be_its_first_rate() -> None:
    rates = np.concatenate([np.full(60, 900.0), np.full(60, 100.0)])  # the last is no warning of the first
    found = simulate(Traffic(15.0, rates, "falls"), REPLICA, Scaling(0.9))
    assert found.missed[:5].max() < 0.02


def test_kinds_of_hardware_are_compared() -> None:
    records = (trial(0, 100, 0.08, cores=1, gpu="none"), trial(1, 1000, 0.35, cores=1, gpu="T4"))
    plan = make_plan(study(*records), pattern("steady", 900), Wishes())
    assert [option.group for option in plan.options] == ["T4", "none"]
    assert plan.option.strategy.max_replicas == 2


def test_ways_to_pay() -> None:
    terms = Terms(spot=0.4, spot_share=0.5, reserved=0.6, purchase=2000.0, own_monthly=20.0, own_replicas=8)
    plan = make_plan(study(*SIZES), pattern("steady", 900), Wishes(terms=terms))
    offers = {offer.name: offer for offer in plan.option.strategy.offers}
    on_demand = 6 * 0.14 * 730
    assert offers["on demand"].monthly == pytest.approx(on_demand)
    assert offers["spot"].monthly == pytest.approx(on_demand * (0.5 + 0.5 * 0.4))
    assert offers["reserved"].monthly == pytest.approx(0.6 * on_demand)
    assert offers["own hardware"].upfront == 2000.0
    assert offers["own hardware"].break_even_months == pytest.approx(2000 / (on_demand - 20))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.6, 1.0])
def test_as_many_are_reserved_as_are_needed_often_enough(share: float) -> None:
    replicas = np.array([1.0, 4.0, 2.0, 2.0, 7.0, 7.0, 3.5, 0.0])
    one_by_one = sum((replicas >= count).mean() >= share for count in range(1, 8))
    [reserved] = [one for one in offers(replicas, 1.0, Terms(reserved=share)) if one.name == "reserved"]
    assert reserved.words == f"{one_by_one} of them reserved, the rest on demand"


def test_a_fleet_of_millions_is_reserved_as_quickly_as_a_small_one() -> None:
    begun = time.thread_time()
    plan = make_plan(study(*SIZES), pattern("daily", 1e9), Wishes(terms=Terms(reserved=0.6)), every=False)
    assert any(offer.name == "reserved" for offer in plan.option.strategy.offers)
    assert time.thread_time() - begun < 10


def test_to_zero_is_considered_only_where_nothing_comes_at_times() -> None:
    rates = np.concatenate([np.full(600, 80.0), np.zeros(840)])
    names = {one.name for one in make_plan(study(*SIZES), Traffic(60.0, rates, "day"), Wishes()).option.strategies}
    assert "to zero" in names
    names = {one.name for one in make_plan(study(*SIZES), pattern("daily", 90), Wishes()).option.strategies}
    assert "to zero" not in names


def test_a_plan_without_price_saves_replicas() -> None:
    plan = make_plan(study(trial(0, 100, None, cores=1)), pattern("daily", 500), Wishes())
    assert plan.option.strategy.monthly is None
    assert "has no price" in plan_text(plan)


def test_what_has_no_price_is_not_called_the_cheapest_beside_what_has_one() -> None:
    priced, free = trial(0, 100, 0.35, gpu="T4"), trial(1, 90, None, gpu="none")
    plan = make_plan(study(priced, free), pattern("daily", 500), Wishes())
    assert [one.trial for one in plan.options] == [0, 1]
    plan = make_plan(study(priced, free, best=1), pattern("daily", 500), Wishes())
    assert plan.option.trial == 0
    same_kind = make_plan(study(trial(0, 100, 0.35), trial(1, 90, None)), pattern("daily", 500), Wishes())
    assert same_kind.option.trial == 0


def test_a_limit_at_a_lower_percentile_leaves_slack_by_its_own_limit() -> None:
    slo = StudySlo(late=0.1, late_ms=50.0)
    one = study(trial(0, 100, 0.08))
    plan = make_plan(replace(one, question=replace(one.question, slo=slo)), pattern("steady", 500), Wishes(misses=0.1))
    assert plan.option.replica == Replica.measured(95.0, 125.0, 50.0, 8.0, 30.0, 0.1)


def test_nothing_is_planned_without_a_recommendation() -> None:
    with pytest.raises(ResultsError, match="nothing to plan with"):
        make_plan(study(), pattern("steady", 10), Wishes())


def test_a_plans_files_agree(tmp_path: Path) -> None:
    plan = make_plan(study(*SIZES), pattern("daily", 900), Wishes())
    write_plan(tmp_path, plan)
    document = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    with (tmp_path / "plan.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1440
    assert document["replicas"]["max"] == max(round(float(row["replicas"])) for row in rows)
    assert document["monthly_cost"]["low"] <= document["monthly_cost"]["value"] <= document["monthly_cost"]["high"]
    assert (tmp_path / "plan.svg").read_text(encoding="utf-8").startswith("<svg xmlns")
    assert "$" in plan_text(plan)


def test_several_kinds_together_are_taken_only_where_they_are_cheaper_and_carry_it_all() -> None:
    records = (trial(0, 100, 0.10, cores=1), trial(1, 1000, 0.80, cores=8))
    plan = make_plan(study(*records), pattern("steady", 1000), Wishes(spare=0))
    assert plan.option.strategy.max_replicas == 11  # at the lower bound, 95 requests/s each; two big ones cost 1.60
    assert plan.mixed is not None
    assert [(part.choice.trial, part.max_replicas) for part in plan.mixed.parts] == [(0, 1), (1, 1)]
    assert plan.mixed.monthly == pytest.approx(0.90 * 730)
    assert plan.mixed.saved == pytest.approx(1 - 0.90 / 1.10)
    assert "several kinds together" in plan_text(plan)
    assert plan_document(plan)["mixed"]["parts"][1]["weight_qps"] == pytest.approx(950)
    one = make_plan(study(*records), pattern("steady", 940), Wishes(spare=0))
    assert one.mixed is None
    assert plan_document(one)["mixed"] is None


@pytest.mark.parametrize(
    ("kind", "spare", "zones", "min_replicas"),
    [("steady", 2, 3, 1), ("daily", 1, 1, 1), ("periodic", 0, 1, 1), ("burst", 1, 1, 7)],
)
def test_a_mixed_fleet_is_never_dearer_and_keeps_what_is_wished(
    kind: Pattern, spare: int, zones: int, min_replicas: int
) -> None:
    records = (trial(0, 100, 0.11, cores=1), trial(1, 450, 0.45, cores=4), trial(2, 1000, 0.90, cores=8))
    plan = make_plan(study(*records), pattern(kind, 1300), Wishes(spare=spare, zones=zones, min_replicas=min_replicas))
    if plan.mixed is None:
        return
    assert plan.option.strategy.monthly is not None
    assert plan.mixed.monthly < plan.option.strategy.monthly.value
    assert plan.mixed.miss_share <= plan.wishes.misses
    there = np.sum([part.ready for part in plan.mixed.parts], axis=0)
    assert there.min() >= min_replicas
    if plan.mixed.name != "autoscaled":
        biggest = max(part.choice.replica.capacity_qps for part in plan.mixed.parts)
        carried = np.sum([part.ready * part.choice.replica.capacity_qps for part in plan.mixed.parts], axis=0)
        assert (carried - spare * biggest >= plan.traffic.rates - 1e-6).all()


def test_a_search_for_a_mixture_that_ran_out_of_time_says_so_and_the_plan_stands() -> None:
    hurried = make_plan(study(*SIZES), pattern("daily", 900), Wishes(), mixing_s=0.0)
    assert hurried.mixed is None
    assert "tune plan" in hurried.notes[-1]
    unhurried = make_plan(study(*SIZES), pattern("daily", 900), Wishes())
    assert hurried.options[0].strategy.monthly == unhurried.options[0].strategy.monthly
    assert not any("tune plan" in note for note in unhurried.notes)


@pytest.mark.parametrize("kind", PATTERNS)
@pytest.mark.parametrize("scaling", [Scaling(None, 1), Scaling(None, 3, spare=2), Scaling(None, 1, zones=3)])
def test_the_most_that_a_schedule_has_is_that_of_the_highest_rate(kind: Pattern, scaling: Scaling) -> None:
    for peak in (3.0, 99.9, 100.0, 12_345.6):
        traffic = pattern(kind, peak)
        assert max_scheduled(traffic, REPLICA, scaling) == schedule(traffic, REPLICA, scaling).max()


@pytest.mark.parametrize("zones", [2, 3])
def test_a_zone_may_be_lost(zones: int) -> None:
    kinds = (Kind(100.0, 0.1), Kind(400.0, 0.35))
    counts = fixed_mixture(kinds, 900.0, Need(zones=zones))
    assert counts is not None
    left = sum((count - -(-count // zones)) * kind.capacity_qps for count, kind in zip(counts, kinds, strict=True))
    assert left >= 900.0


def test_the_integer_program_finds_what_trying_everything_finds() -> None:
    kinds = (Kind(70.0, 0.10), Kind(130.0, 0.17), Kind(310.0, 0.43))
    for load in (40.0, 199.0, 333.0, 741.0):
        counts = fixed_mixture(kinds, load, Need())
        assert counts is not None
        found = sum(count * kind.price_per_hour for count, kind in zip(counts, kinds, strict=True))
        tried = [
            a * 0.10 + b * 0.17 + c * 0.43
            for a in range(12) for b in range(8) for c in range(4) if a * 70 + b * 130 + c * 310 >= load
        ]  # fmt: skip
        assert found == pytest.approx(min(tried))


def test_dominated_kinds_are_left_out_of_a_mixture() -> None:
    kinds = (Kind(100.0, 0.10), Kind(90.0, 0.10), Kind(300.0, 0.25), Kind(300.0, 0.40))
    assert undominated(kinds, 10) == [0, 2]
    assert undominated(kinds, 1) == [0, 2]  # the cheapest per request, and the smallest


def test_a_limit_on_the_first_token_alone_is_the_one_that_a_plan_counts_waiting_by() -> None:
    times = TokenTimes(p50_ms=120.0, p99_ms=390.0)
    streamed = trial(0, 100, 0.08, cores=1).model_copy(
        update={"language": LanguageRecord(ttft=times, output_tokens=32.0)}
    )
    slo = StudySlo(ttft_ms=400.0, late=0.05)
    asked = StudyQuestion(("cores",), slo, "", "3", gpu_parameters=("gpu",))
    whole = study(streamed)

    def slack_s(one: StudySummary) -> float:
        traffic = pattern("steady", 900, 900)
        return make_plan(one, traffic, Wishes()).option.replica.slack_s

    assert slack_s(replace(whole, question=asked)) == pytest.approx(0.28)
    assert slack_s(replace(whole, question=replace(asked, slo=replace(slo, ttft_ms=None)))) == 0.0, (
        "no limit, no waiting"
    )
    assert slack_s(whole) == pytest.approx((50 - 8.0) / 1e3)
