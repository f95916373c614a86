"""The search with the network's inference, on simulated servers whose capacity is known, in simulated time."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest

from benchmarks.truth.queues import QUICK, capacity_qps, quantile_s
from loadtest.judge import network
from loadtest.judge.burst import BurstResult, longest_s, next_users
from loadtest.judge.capacity import CapacityResult, Opinion, Probed
from loadtest.judge.features import Query, Requests
from loadtest.judge.inference import ServerPosterior
from loadtest.judge.search import ServerSearch
from loadtest.judge.verdict import Evidence
from training.servers.arrivals import Pattern
from training.servers.prober import ServerProber
from training.servers.server import SERVICES, Server
from training.servers.trials import Simulated

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="servers are simulated in C, which needs a compiler"),
    pytest.mark.usefixtures("needs_machine"),  # the simulator is compiled once
]

SERVICE_S = 0.012
SERVERS = {
    "M/D/1": Server(mean=SERVICE_S),
    "M/M/1": Server(mean=SERVICE_S, service=SERVICES["exponential"]),
    "M/D/4": Server(mean=4 * SERVICE_S, workers=4),
    "batch": Server(engine=1, batch=8, fixed=4 * SERVICE_S, item=SERVICE_S / 2),
}
LIMITS_S = {"M/D/1": 0.15, "M/M/1": 0.3, "M/D/4": 0.15, "batch": 0.3}


@dataclass
class Setting:
    prober: ServerProber
    posterior: ServerPosterior

    def search(self, first: float | None = None) -> CapacityResult:
        return ServerSearch(self.prober, self.posterior, 0.05, first).run()


def setting(kind: str = "M/D/1", *, seconds: float = 30.0, seed: int = 0, limit_s: float | None = None) -> Setting:
    query = Query(LIMITS_S[kind] if limit_s is None else limit_s, 0.01)
    simulated = Simulated(SERVERS[kind], Pattern(), query, np.random.default_rng(seed))
    lone_s = simulated.lone(8)
    bursts: list[BurstResult] = []
    while (users := next_users(bursts, query.limit_s)) is not None:
        bursts.append(simulated.burst(users, longest_s(seconds, float(np.median(lone_s)))))
    return Setting(ServerProber(simulated, seconds), ServerPosterior(network.load(), [query], lone_s, bursts))


def truth(kind: str) -> float:
    return capacity_qps(kind, SERVICE_S, LIMITS_S[kind], count=QUICK)


@pytest.mark.parametrize(("kind", "off"), [("M/D/1", 0.06), ("M/D/4", 0.08), ("M/M/1", 0.2), ("batch", 0.2)])
def test_the_capacity_is_found_and_its_interval_covers_the_truth(kind: str, off: float) -> None:
    searches = (setting(kind, seed=seed).search() for seed in range(12))
    capacities = [found.capacity for found in searches if found.capacity]
    assert len(capacities) == 12
    assert all(abs(one.value / truth(kind) - 1) < off for one in capacities)
    assert sum(one.low <= truth(kind) <= one.high for one in capacities) >= 10
    assert all(one.low <= one.value <= one.high for one in capacities)


def test_a_search_sees_both_sides_of_the_capacity() -> None:
    for seed in range(8):
        found = setting("batch", seed=seed, seconds=40.0).search()
        counted = [probe for probe in found.probes if probe.requests]
        missed = [probe for probe in counted if probe.verdict == "missed" or probe.misses > 0.01 * probe.requests]
        assert missed
        assert len(missed) < len(counted)


def test_a_rate_far_above_capacity_prunes_at_once() -> None:
    for seed in range(8):
        one = setting(seed=seed)
        found = one.search(first=1.3 * truth("M/D/1"))
        assert found.outcome == "pruned"
        assert len(found.probes) == 1
        assert found.probes[0].duration_s < 4


def test_a_rate_that_no_generator_can_send_prunes_by_one_that_it_can() -> None:
    """The dearest configuration may have to hold a thousand times what the cheapest does."""
    one = setting()
    found = one.search(first=1000 * truth("M/D/1"))
    assert found.outcome == "pruned"
    assert found.bound_qps == 1000 * truth("M/D/1")
    assert [probe.rate_qps for probe in found.probes] == [pytest.approx(2 * one.posterior.scale_qps)]


def test_a_rate_far_below_capacity_is_never_pruned() -> None:
    for seed in range(8):
        found = setting(seed=seed).search(first=0.7 * truth("M/D/1"))
        assert found.outcome == "measured"
        assert found.probes[0].rate_qps == pytest.approx(0.7 * truth("M/D/1"))


def eightfold(seed: int) -> Setting:
    """Eight workers, of which the one user of the only burst keeps one busy."""
    server, query = Server(mean=8 * SERVICE_S, workers=8), Query(0.3, 0.01)
    simulated = Simulated(server, Pattern(), query, np.random.default_rng(seed))
    lone_s = simulated.lone(8)
    burst = simulated.burst(1, longest_s(40.0, float(np.median(lone_s))))
    return Setting(ServerProber(simulated, 40.0), ServerPosterior(network.load(), [query], lone_s, [burst]))


_EIGHTFOLD_QPS = 73.4  # by `training.servers.truth`, give or take half a percent


@pytest.mark.parametrize("first", [None, 0.8])
def test_a_server_that_does_far_more_than_its_bursts_is_found(first: float | None) -> None:
    for seed in range(4):
        one = eightfold(seed)
        assert one.posterior.scale_qps < _EIGHTFOLD_QPS / 5
        found = one.search(None if first is None else first * _EIGHTFOLD_QPS)
        assert found.outcome == "measured"
        assert found.capacity is not None
        assert found.capacity.value == pytest.approx(_EIGHTFOLD_QPS, rel=0.2)
        assert found.capacity.low <= _EIGHTFOLD_QPS <= found.capacity.high
        assert not [probe for probe in found.probes if probe.verdict == "missed" and probe.rate_qps < _EIGHTFOLD_QPS]


def test_of_a_rate_beyond_all_that_was_thought_of_only_its_own_requests_speak() -> None:
    one = setting()
    rate = 4 * one.posterior.scale_qps
    times = np.arange(1, 61) / rate
    for late, verdict in ((0, "undecided"), (60, "missed")):
        values = np.where(np.arange(60) < late, 1.0, 0.1)
        seen = (Requests(rate, times, values, np.ones(60, dtype=bool)),)
        distance = 6.0 if late else -0.5
        evidence = Evidence(60, late, distance, 1.0, 4.0, 2.0, 6.0 if late else 0.1)
        assert one.posterior.verdict(seen, [evidence], None) == verdict


def test_where_every_request_is_late_it_is_missed_within_two_seconds() -> None:
    for seed in range(8):
        one = setting(seed=seed, limit_s=0.011)  # shorter than the service
        found = one.prober.probe(40.0, 20.0, 0.8, opinion=one.posterior.verdict)
        assert found.verdict == "missed"
        assert found.probe.duration_s <= 2


def test_a_limit_that_nothing_holds_is_infeasible() -> None:
    found = setting(limit_s=0.011).search()
    assert found.outcome == "infeasible"
    assert "missed the limit" in found.reason


def test_a_percentile_at_a_third_of_the_limit_is_met() -> None:
    """Of 1,322 requests 0 were late and the p99 was a third of the limit: that was undecided."""
    random = np.random.default_rng(0)
    one = setting("batch")
    times = np.cumsum(random.exponential(1 / 31, 1322))
    values = random.uniform(0.02, 0.1, 1322)
    requests = Requests(31.0, times, values, np.ones(1322, dtype=bool))
    assert one.posterior.verdict((requests,), [_unsure()], None) == "met"


def _unsure() -> Evidence:
    return Evidence(1322, 0, -6.0, 1.0, 4.0, 2.0, 3.0)


def test_too_short_a_time_is_said_to_be_too_short() -> None:
    found = setting(seconds=1.0).search()
    assert found.outcome == "invalid"
    assert found.reason.startswith("too short to tell")


def test_what_is_uncertain_says_at_least_and_at_most() -> None:
    for seed in range(6):
        found = setting("M/M/1", seconds=5.0, seed=seed).search()
        if found.outcome != "measured" or found.capacity is None:
            assert "too short to tell" in found.reason
            continue
        assert found.at_least_qps is not None
        assert found.at_most_qps is not None
        assert found.at_least_qps <= found.capacity.value <= found.at_most_qps
        wide = found.capacity.high > 1.25 * found.capacity.low
        assert found.certainty == "uncertain" or not wide or found.at_most_qps < 3 * found.at_least_qps


@dataclass
class SlowGenerator:
    """It spoils every probe above a rate."""

    prober: ServerProber
    max_qps: float

    def probe(
        self, rate_qps: float, at_most_s: float, edge_utilisation: float, *, opinion: Opinion | None = None
    ) -> Probed:
        found = self.prober.probe(rate_qps, at_most_s, edge_utilisation, opinion=opinion)
        if rate_qps <= self.max_qps:
            return found
        return replace(found, probe=found.probe.model_copy(update={"verdict": "invalid", "reason": "late"}))

    def remaining_s(self) -> float:
        return self.prober.remaining_s()


def test_a_generator_that_is_slower_than_the_server_finds_a_lower_bound() -> None:
    one = setting(seconds=60.0)
    found = ServerSearch(SlowGenerator(one.prober, 0.4 * truth("M/D/1")), one.posterior, 0.05).run()
    assert found.outcome == "measured"
    assert found.client_limited
    assert found.capacity is not None
    assert 0.2 * truth("M/D/1") < found.capacity.value <= 0.4 * truth("M/D/1")


def test_a_server_that_breaks_every_prediction_is_unlike_those_that_are_known() -> None:
    one = setting("M/D/1", seconds=60.0)
    assert not one.posterior.unlike
    before = one.posterior.quantile(0.025, 0.975)
    for number in range(3):  # half of the requests take twenty times as long as any lone one did, at hardly any load
        one.posterior.add(_strange(one, 10.0 + number))
    after = one.posterior.quantile(0.025, 0.975)
    assert one.posterior.unlike
    assert after[1] / after[0] > before[1] / before[0]


def _strange(one: Setting, rate: float) -> Probed:
    random = np.random.default_rng(int(rate))
    times = np.cumsum(random.exponential(1 / rate, 200))
    values = np.where(np.arange(200) % 2 == 0, 0.0005, 0.145)
    found = one.prober.probe(rate, 3.0, 0.8, opinion=one.posterior.verdict)
    return replace(found, requests=(Requests(rate, times, values, np.ones(200, dtype=bool)),))


def test_the_p99_at_the_reported_rate_has_an_interval_that_means_something() -> None:
    """Of a few hundred requests; their own last few alone say 10 to 1,000 ms."""
    covered, found = 0, [setting(seed=seed).search() for seed in range(12)]
    for one in found:
        assert one.best is not None and one.best.p99_ms is not None
        p99_ms = one.best.p99_ms
        assert p99_ms.low <= p99_ms.value <= p99_ms.high
        assert p99_ms.high < 4 * p99_ms.low, p99_ms
        covered += p99_ms.low <= 1e3 * quantile_s("M/D/1", one.best.rate_qps, SERVICE_S) <= p99_ms.high
    assert covered >= 10
