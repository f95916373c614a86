"""The dashboard's pictures of a large study: few enough points, and drawn once however often they are asked."""

from __future__ import annotations

import json

import pytest

from results import Estimate, Latencies, StudyQuestion, StudySlo, StudySummary, TrialRecord
from results.dashboard import live, search_views
from results.records import Recommendation, TrialCounts


def large(count: int, maximised: bool = False) -> StudySummary:
    """Trials whose cost falls and rises again, each with a p99 of its own."""
    records = tuple(
        TrialRecord(
            number=number, state="complete", configuration={"threads": number % 7, "batch": number % 11},
            capacity_qps=Estimate.exactly(10.0 + number % 97), cost_per_hour=0.1,
            cost_per_million_requests=1.0 + abs(number - count / 2) / count,
            latency=Latencies(p99_ms=Estimate.exactly(20.0 + number * 7 % 101)),
        )
        for number in range(count)
    )  # fmt: skip
    nothing = Recommendation(
        service="large", configuration=None, capacity_qps=None, p99_ms=None, error_rate=None, cost_per_hour=None,
        cost_per_million_requests=None, meets_slo=False, confirmed=False, trial=None,
        trials=TrialCounts(complete=count),
    )  # fmt: skip
    return StudySummary(
        service="large", recommendation=nothing, records=records,
        values={one.number: one.cost_per_million_requests or 0.0 for one in records},
        question=StudyQuestion(
            ("threads", "batch"), StudySlo(tail_ms=50.0), "", "77", metrics=("cost_per_million_requests",),
            maximised=maximised,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("count", [12, 150, 1500, 6000])
def test_the_replay_of_any_study_has_a_bounded_number_of_points_and_ends_with_the_whole(count: int) -> None:
    found = search_views.replay(large(count))
    frames = found["frames"]
    assert len(frames) == min(count, len(frames)) and frames[-1]["name"] == str(count - 1)
    assert sum(len(trace["x"]) for frame in frames for trace in frame["data"]) < 20_500
    assert len(json.dumps(found)) < 2_000_000
    names = [int(one["name"]) for one in frames]
    assert names == sorted(set(names))


def test_a_small_replay_shows_every_trial_when_it_came_and_the_best_until_then() -> None:
    frames = search_views.replay(large(12))["frames"]
    assert [len(frame["data"][0]["x"]) for frame in frames] == list(range(12))
    costs = [1.0 + abs(number - 6) / 12 for number in range(12)]
    assert [frame["data"][1]["y"] for frame in frames] == [[min(costs[: end + 1])] for end in range(12)]
    assert [frame["data"][2]["y"] for frame in frames] == [[cost] for cost in costs]


@pytest.mark.parametrize("maximised", [False, True])
def test_shades_are_ranks_of_values_equal_ones_alike(maximised: bool) -> None:
    values = sorted([3.0, 1.0, 2.0, 2.0], reverse=not maximised)
    shades = [search_views._shade(one, values, maximised) for one in (1.0, 2.0, 3.0)]
    assert shades == ([0, 1 / 3, 1] if maximised else [1, 1 / 3, 0])


def test_pictures_are_drawn_once_for_a_summary_and_again_for_the_next() -> None:
    drawn: list[str] = []

    def draw(study: StudySummary) -> str:
        drawn.append(study.service)
        return f"picture {len(drawn)}"

    once, first, second = live._OncePerSummary(draw), large(3), large(3)
    assert [once.of("a", first), once.of("a", first), once.of("b", first)] == ["picture 1", "picture 1", "picture 2"]
    assert [once.of("a", second), once.of("a", second), once.of("b", first)] == ["picture 3", "picture 3", "picture 2"]
