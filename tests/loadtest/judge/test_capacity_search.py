"""The search on queues whose capacity is known, without a network and in simulated time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from benchmarks.truth.queues import QUICK, capacity_qps
from benchmarks.truth.sequential import SimulatedProber
from loadtest.judge.capacity import CapacityResult, CapacitySearch, Probed, missed_by
from loadtest.judge.changed import changed
from loadtest.judge.search import nearest
from loadtest.plan import TOO_SHORT, Probe

SERVICE_S, LIMIT_S = 0.004, 0.050
CAPACITY = capacity_qps("M/D/1", SERVICE_S, LIMIT_S)


def search(
    seed: int, *, kind: str = "M/D/1", first: float | None = None, seconds: float = 40.0, limit_s: float = LIMIT_S
) -> CapacityResult:
    prober = SimulatedProber(kind, SERVICE_S, limit_s, seconds, seed)
    return CapacitySearch(prober, saturated_qps=0.95 / SERVICE_S, precision=0.03, first_rate_qps=first).run()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kind", "off"), [("M/D/1", 0.03), ("M/D/4", 0.04), ("M/M/1", 0.2), ("batch", 0.2)])
def test_the_capacity_is_found_and_its_interval_covers_the_truth(kind: str, off: float) -> None:
    truth = capacity_qps(kind, SERVICE_S, LIMIT_S, count=QUICK)
    capacities = [found.capacity for found in (search(seed, kind=kind) for seed in range(10)) if found.capacity]
    assert len(capacities) == 10
    assert all(abs(one.value / truth - 1) < off for one in capacities)
    assert sum(one.low <= truth <= one.high for one in capacities) >= 8
    assert all(one.low <= one.value <= one.high for one in capacities)


def test_a_search_ends_when_it_knows_enough() -> None:
    prober = SimulatedProber("M/D/1", SERVICE_S, LIMIT_S, 100.0, 1)
    CapacitySearch(prober, 0.95 / SERVICE_S, precision=0.03).run()
    assert prober.remaining_s() > 50


def test_a_rate_far_above_capacity_prunes_at_once() -> None:
    for seed in range(10):
        found = search(seed, first=1.3 * CAPACITY)
        assert found.outcome == "pruned"
        assert found.bound_qps == pytest.approx(1.3 * CAPACITY)
        assert len(found.probes) == 1
        assert "missed the limit" in found.reason


def test_a_rate_far_below_capacity_is_never_pruned() -> None:
    for seed in range(10):
        found = search(seed, first=0.7 * CAPACITY)
        assert found.outcome == "measured"
        assert found.probes[0].rate_qps == pytest.approx(0.7 * CAPACITY)


def test_a_rate_that_held_is_not_pruned_though_bursts_say_less() -> None:
    prober = SimulatedProber("M/D/1", SERVICE_S, LIMIT_S, 20.0, 0)
    first = 0.7 * CAPACITY
    found = CapacitySearch(prober, saturated_qps=0.5 * first, precision=0.03, first_rate_qps=first).run()
    assert found.probes[0].verdict == "met"
    assert found.outcome == "measured"


@pytest.mark.parametrize(("bursts_say", "first"), [(0.3, 0.9), (0.35, 0.7), (0.5, 0.9)])
def test_a_server_that_does_far_more_than_its_bursts_is_found(bursts_say: float, first: float) -> None:
    for seed in range(3):
        prober = SimulatedProber("M/D/1", SERVICE_S, LIMIT_S, 40.0, seed)
        one = CapacitySearch(prober, bursts_say * CAPACITY, precision=0.03, first_rate_qps=first * CAPACITY)
        found = one.run()
        assert found.outcome == "measured"
        assert found.capacity is not None
        assert found.capacity.value == pytest.approx(CAPACITY, rel=0.03)
        assert found.capacity.low <= 1.005 * CAPACITY


def test_a_rate_that_no_generator_can_send_prunes_by_one_that_it_can() -> None:
    found = search(0, first=1000 * CAPACITY)
    assert found.outcome == "pruned"
    assert found.bound_qps == 1000 * CAPACITY
    assert [probe.rate_qps for probe in found.probes] == [pytest.approx(2 * 0.95 / SERVICE_S)]


def test_a_limit_that_nothing_holds_is_infeasible() -> None:
    found = search(0, limit_s=0.003)
    assert found.outcome == "infeasible"
    assert found.capacity is None
    assert "missed the limit" in found.reason


def test_without_time_nothing_is_claimed() -> None:
    found = search(0, seconds=1.0)
    assert found.outcome == "invalid"
    assert found.probes == ()
    assert found.reason.startswith(TOO_SHORT)  # by which the search for a configuration knows that it was no fault


@dataclass
class SlowGenerator:
    """It spoils every probe above a rate."""

    prober: SimulatedProber
    max_qps: float

    def probe(self, rate_qps: float, at_most_s: float, edge_utilisation: float) -> Probed:
        found = self.prober.probe(rate_qps, at_most_s, edge_utilisation)
        if rate_qps <= self.max_qps:
            return found
        return replace(found, probe=found.probe.model_copy(update={"verdict": "invalid", "reason": "late"}))

    def remaining_s(self) -> float:
        return self.prober.remaining_s()


def test_a_generator_that_is_slower_than_the_server_finds_a_lower_bound() -> None:
    prober = SlowGenerator(SimulatedProber("M/D/1", SERVICE_S, LIMIT_S, 60.0, 0), 0.4 * CAPACITY)
    found = CapacitySearch(prober, 0.95 / SERVICE_S, precision=0.03).run()
    assert found.outcome == "measured"
    assert found.client_limited
    assert found.capacity is not None
    assert 0.2 * CAPACITY < found.capacity.value <= 0.4 * CAPACITY
    useless = SlowGenerator(SimulatedProber("M/D/1", SERVICE_S, LIMIT_S, 60.0, 0), 0.0)
    nothing = CapacitySearch(useless, 0.95 / SERVICE_S, precision=0.03).run()
    assert nothing.outcome == "invalid"
    assert nothing.reason == "too short to tell: no rate was seen to hold; the load generator itself was too slow"


def test_the_p99_is_that_of_a_probe_which_held_within_the_capacity() -> None:
    found = search(3)
    assert found.best is not None
    assert found.capacity is not None
    assert found.best.rate_qps <= found.capacity.value * 1.001


def probe(rate_qps: float, started_s: float, misses: int, **more: object) -> Probe:
    return Probe.model_validate(
        {"rate_qps": rate_qps, "verdict": "undecided", "started_s": started_s, "duration_s": 2, "requests": 100,
         "completed": 100, "misses": misses, "errors": 0, "achieved_qps": rate_qps, "p50_ms": 5.0, "p95_ms": 6.0,
         "p99_ms": None, "late_p99_ms": 0, "generator_cpu": 0, "histogram": "", "limit": "p99 <= 60 ms", **more}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ((probe(147, 9, 0), probe(180, 18, 100), probe(148, 23, 95)), True),
        ((probe(147, 9, 0), probe(160, 18, 100)), False),  # a higher rate
        ((probe(147, 9, 0), probe(60, 18, 100)), False),  # a far lower one: it may wait for batches
        ((probe(147, 9, 0), probe(147, 18, 40)), False),  # its edge
        ((probe(147, 9, 100), probe(147, 18, 0)), False),  # it became faster: it may have been warming up
        ((probe(147, 9, 0, verdict="invalid"), probe(147, 18, 100)), False),
        ((probe(147, 9, 0, requests=20), probe(147, 18, 100)), False),
    ],
)
def test_a_server_that_became_slower_meanwhile_is_found_out(probes: tuple[Probe, ...], *, said: bool) -> None:
    assert (changed(probes) is not None) == said


@pytest.mark.parametrize("kind", ["M/D/1", "M/M/1", "batch"])
def test_no_steady_server_is_said_to_have_become_slower(kind: str) -> None:
    assert not any(changed(search(seed, kind=kind).probes) for seed in range(10))


@pytest.mark.parametrize(("capacity_qps", "rate_qps"), [(30, 25), (25, 25), (12, 15), (60, 50)])
def test_latencies_are_reported_of_the_rate_next_to_the_capacity(capacity_qps: float, rate_qps: float) -> None:
    held = [Probed(probe(rate, 3, 0), (), None) for rate in (25, 15, 50)]
    assert nearest(held, capacity_qps).probe.rate_qps == rate_qps


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (probe(15, 3, 100, completed=0), "none of 100 requests was answered: all missed the limit p99 <= 60 ms"),
        (probe(15, 3, 2, completed=98), "2 of 100 requests missed the limit p99 <= 60 ms, 2 of them not answered yet"),
        (probe(15, 3, 5, completed=98), "5 of 100 requests missed the limit p99 <= 60 ms, 2 of them not answered yet"),
        (probe(15, 3, 5), "5 of 100 requests missed the limit p99 <= 60 ms"),
        (probe(15, 3, 0, requests=0, completed=0), "the time was over before a request could be judged"),
    ],
)
def test_what_a_probe_missed_by_says_what_was_not_answered(seen: Probe, said: str) -> None:
    assert missed_by(Probed(seen, (), None)) == f"at 15 requests/s {said}"
