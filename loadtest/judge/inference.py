"""The posterior of a server's capacity: the network's inference and the evidence of counts, each weighed by how well it
predicted what was seen.

The network reads every latency and knows many servers; the count of late requests knows nothing but its own noise. Each
probe is predicted by both before it counts: on which side of the capacity its rate lies, and by the network also its
median and its 90th percentile. Where the network fails, weight moves to the counts, the interval widens, and the
server is called unlike any that is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.figures import Interval
from loadtest.judge.burst import BurstResult
from loadtest.judge.capacity import Posterior, Probed, likely_saturated_qps
from loadtest.judge.features import Query, Requests, scale_qps, tokens
from loadtest.judge.network import Inferred, ServerNetwork
from loadtest.judge.verdict import Evidence, Failures, judge
from loadtest.plan import Probe, Verdict

Floats = NDArray[np.float64]

SURE = 0.98  # a rate holds, or does not, with this probability: then its verdict is sure
_NEAR = 0.03  # of the capacity: the error rate of a verdict is that of rates further from it
_LOWEST, _HIGHEST, _GRID = 0.01, 3.0, 1000  # of the bursts' throughput
_HELD_HIGH = 1.8  # of it: where a rate holds that is so far above it, bursts say little of the server
_STEP = (math.log(_HIGHEST) - math.log(_LOWEST)) / (_GRID - 1)
# The log of high over low up to which counts may know more than the network: an interval that is wider than that rests
# on what was taken to be likely before any request. Chosen on VALIDATION families (`benchmarks.truth.validate`).
_COUNTS_KNOW = 1.2
_TRUSTED = 0.98  # weight of the network before anything was predicted
_WORST = math.log(0.02)  # no single prediction counts more against its model
_MIN_PREDICTED = 30  # requests, for a prediction of quantiles to be judged
_SURPRISE, _SURPRISES = 3.5, 2  # spreads off; how many of them make a server unlike the known ones
_TRAINED_QPS, _TRAINED_SHARES = 1500.0, (0.0008, 0.55)  # the fastest servers, and the shares that may miss a limit
_UNLIKE = 0.5  # weight of the network below which it is not trusted
_WIDEN = 0.35  # for each surprise, of the spreads
# Of all spreads: on families that it was not trained on the network is too sure (`benchmarks.truth.validate`).
_CAUTION = 1.3
_REFUSED = {"missed": 0.01, "undecided": 0.3}  # what is left of the density above a rate at which too many failed
_CLEAR_SHARE, _CLEAR_EXPECTED = 1 / 3, 3.0  # a percentile at a third of the limit, with three misses to be expected


@dataclass(frozen=True)
class _View:
    """What can be said with the probes so far: the distribution on the grid, and the network's own, per query."""

    below: Floats
    network_below: Floats
    counts_below: Floats
    inferred: tuple[Inferred, ...]


@dataclass(frozen=True)
class _Grid:
    """The rates at which distributions are held, and their logarithms, around a unit."""

    unit_qps: float
    logs: Floats
    rates: Floats

    @classmethod
    def around(cls, unit_qps: float) -> _Grid:
        """From far below the unit to well above it."""
        logs = math.log(unit_qps) + np.linspace(math.log(_LOWEST), math.log(_HIGHEST), _GRID)
        return cls(unit_qps, logs, np.exp(logs))

    def at(self, below: Floats, rate_qps: float) -> float:
        """The probability that the capacity is below a rate, by a distribution on this grid."""
        return float(np.interp(math.log(rate_qps), self.logs, below))

    def side(self, below: Floats, rate_qps: float) -> Verdict:
        """On which side of the capacity a rate lies, give or take `_NEAR`: a verdict so near to it is never wrong."""
        if self.at(below, rate_qps / (1 + _NEAR)) < 1 - SURE and self.at(below, rate_qps) < 0.5:
            return "met"
        if self.at(below, rate_qps / (1 - _NEAR)) > SURE and self.at(below, rate_qps) > 0.5:
            return "missed"
        return "undecided"


@dataclass
class _Predictions:
    """How well was predicted: log scores of the network and of the counts, and how often the network was far off."""

    network: float = 0.0
    counts: float = 0.0
    surprises: int = 0


class ServerPosterior:
    """About one server under all limits of an SLO: the capacity is the least of what each limit allows.

    `queries` are in the order of the limits, as is the evidence of each probe. Rates are requests a second.
    """

    def __init__(
        self, network: ServerNetwork, queries: Sequence[Query], lone_s: Floats, bursts: Sequence[BurstResult],
    ) -> None:  # fmt: skip
        self._network, self._queries, self._lone_s, self._bursts = network, tuple(queries), lone_s, list(bursts)
        base_s = float(np.median(lone_s)) if len(lone_s) else min(query.limit_s for query in queries)
        self.scale_qps = scale_qps(self._bursts, base_s)
        self.wait_s = max(query.limit_s for query in queries)  # how long after it was due a request is judged
        self._grid = _Grid.around(self.scale_qps)
        self._counts = Posterior(self.scale_qps, _HIGHEST)
        self._added: list[Probed] = []
        self._refused: list[tuple[float, float]] = []
        self._predictions = _Predictions()
        self._view = self._viewed(self._seen(), self._counts)

    @property
    def trust(self) -> float:
        """The weight of the network: what its predictions are worth beside those of the counts."""
        if not self._trained:
            return 0.0
        odds = math.log(_TRUSTED / (1 - _TRUSTED)) + self._predictions.network - self._predictions.counts
        return 1 / (1 + math.exp(-odds))

    @property
    def _trained(self) -> bool:
        """Whether servers that fast and percentiles like these were in its training."""
        low, high = _TRAINED_SHARES
        return self.scale_qps <= _TRAINED_QPS and all(low <= query.allowed <= high for query in self._queries)

    @property
    def unlike(self) -> bool:
        """Whether this is a server unlike any that the network knows."""
        return self._trained and (self.trust < _UNLIKE or self._predictions.surprises >= _SURPRISES)

    def add(self, found: Probed) -> None:
        """A probe that counts: first what each would have said of it, then what it says."""
        self._predict(found)
        self._counts.add(found)
        self._added.append(found)
        if found.holds and found.probe.rate_qps >= _HELD_HIGH * self._grid.unit_qps:
            self._reach(found.probe.rate_qps)
        if found.too_many_errors and found.failures is not None:
            self._refused.append((found.probe.rate_qps, _REFUSED.get(found.failures.verdict, 1.0)))
        self._view = self._viewed(self._seen(), self._counts)

    def _reach(self, rate_qps: float) -> None:
        """Begin anew around a rate that held: a capacity so far above the bursts' throughput was nowhere likely."""
        unit_qps = likely_saturated_qps(rate_qps)
        self._grid, self._counts = _Grid.around(unit_qps), Posterior(unit_qps, _HIGHEST)
        for found in self._added:
            self._counts.add(found)

    def _seen(self) -> list[tuple[Requests, ...]]:
        return [found.requests for found in self._added if found.requests]

    def quantile(self, *shares: float) -> list[float]:
        """Rates below which the capacity lies with these probabilities."""
        return [float(np.exp(np.interp(share, self._view.below, self._grid.logs))) for share in shares]

    def below(self, rate_qps: float) -> float:
        """The probability that the capacity is below a rate."""
        return self._grid.at(self._view.below, rate_qps)

    def p99_ms(self, probe: Probe) -> Interval | None:
        """The probe's p99 as it was seen, with the 95% interval of the server's in the long run at that rate.

        The network's, from all probes: at the median of searches on VALIDATION families it is 2.0 times as high as low
        and holds the truth in 96 of 100, where the probe's own requests say 15 times, in 90. Where the network is not
        trusted, or the rate is above the capacity and there is no long run, the probe's own stays.
        """
        seen, rate = probe.p99_ms, probe.rate_qps
        number = next((n for n, query in enumerate(self._queries) if query.metric == "latency"), None)
        if seen is None or number is None or self.trust < _UNLIKE or self.unlike or rate > self.quantile(0.5)[0]:
            return seen
        mean, spread = self._view.inferred[number].log_latency(rate, 0.99)
        limit_ms, half = 1e3 * self._queries[number].limit_s, 1.96 * spread
        low, high = limit_ms * math.exp(mean - half), limit_ms * math.exp(mean + half)
        return Interval(value=seen.value, low=min(low, seen.value), high=max(high, seen.value))

    def verdict(
        self, requests: tuple[Requests, ...], evidence: Sequence[Evidence], failures: Failures | None
    ) -> Verdict:
        """Of a probe that is under way: what is known without it, and what it has seen so far."""
        view = self._viewed([*self._seen(), requests], self._counts)
        return self._verdict(view, requests, evidence, failures)

    def decided(self, found: Probed) -> Verdict:
        """The verdict of a probe that was added, by all that is known now: a later probe may have decided it."""
        if not found.requests:
            return found.verdict
        return self._verdict(self._view, found.requests, found.evidence, found.failures)

    def _verdict(
        self, view: _View, requests: tuple[Requests, ...], evidence: Sequence[Evidence], failures: Failures | None
    ) -> Verdict:
        if failures is not None and failures.verdict == "missed":
            return "missed"
        if any(one.hopeless for one in evidence):
            return "missed"
        counts, inferred = judge(evidence, failures), self._grid.side(view.below, requests[0].rate_qps)
        if requests[0].rate_qps >= self._grid.rates[-1]:
            return counts  # all that is known lies below
        # A short probe a little above the capacity has few late requests, and they are not late yet by much: neither
        # counts nor latencies of this probe say that it is met where all that is known makes that improbable.
        leaning = "missed" if self._grid.at(view.below, requests[0].rate_qps) > 0.5 else "met"
        if leaning == "met" and all(_clear(one, query) for one, query in zip(requests, self._queries, strict=True)):
            inferred = "met"
        if failures is not None and failures.exceeded and inferred == "met":
            return "undecided"
        if counts == "undecided":
            return inferred
        doubtful = inferred == "met" if counts == "missed" else "met" not in (inferred, leaning)
        return "undecided" if doubtful else counts

    def _viewed(self, probes: Sequence[tuple[Requests, ...]], counts: Posterior) -> _View:
        widen = _CAUTION * (1 + _WIDEN * self._predictions.surprises)
        inferred = tuple(
            self._network.infer(tokens(query, self._lone_s, self._bursts, [probe[number] for probe in probes]))
            for number, query in enumerate(self._queries)
        )
        # What one limit allows hangs together with what another does: the tightest decides.
        network = np.max([one.below(self._grid.rates, widen) for one in inferred], axis=0)
        counted = counts.below_all(self._grid.rates)
        trust = self.trust
        if _width(counted) < min(_width(network), _COUNTS_KNOW / _STEP):
            trust = min(1 - trust, 0.005)  # many requests: their errors are known
        mixed = trust * network + (1 - trust) * counted
        for rate, left in self._refused:
            density = np.diff(mixed, prepend=0.0) * np.where(self._grid.rates > rate, left, 1.0)
            mixed = np.cumsum(density)
        mixed = np.maximum.accumulate(mixed) + np.linspace(0, 1e-9, len(mixed))  # ascending, for the quantiles
        return _View(mixed / mixed[-1], network, counted, inferred)

    def _predict(self, found: Probed) -> None:
        """Score both by the side of the capacity on which the probe turned out to be, where its counts alone decide.

        Where they do not they lean to the wrong side too often (a short probe a little above the capacity has no late
        request yet), and the network, which knows that, would lose its weight for being right.
        """
        rate, side = found.probe.rate_qps, judge(found.evidence)
        if side != "undecided" and not found.too_many_errors:
            self._predictions.network += _score(self._grid.at(self._view.network_below, rate), side)
            self._predictions.counts += _score(self._grid.at(self._view.counts_below, rate), side)
        for one, inferred, query in zip(found.requests, self._view.inferred, self._queries, strict=False):
            self._predictions.surprises += _surprised(one, inferred, query)


def _score(below: float, side: Verdict) -> float:
    """The logarithm of what was said of the side that it turned out to be, from the probability of a miss."""
    missed = min(max(below, 0.01), 0.99)
    return max(math.log(missed if side == "missed" else 1 - missed), _WORST)


def _width(below: Floats) -> float:
    """The length of the 95% interval, in steps of the grid."""
    low, high = np.searchsorted(below, (0.025, 0.975))
    return float(high - low)


def _clear(requests: Requests, query: Query) -> bool:
    """The percentile that is bounded is far below the limit, over many requests."""
    values = requests.values_s[requests.counted]
    if len(values) * query.allowed < _CLEAR_EXPECTED or not len(values):
        return False
    return float(np.quantile(values, 1 - query.allowed, method="higher")) <= _CLEAR_SHARE * query.limit_s


def _surprised(requests: Requests, inferred: Inferred, query: Query) -> int:
    """1 where the median or the 90th percentile is far from what was predicted, else 0."""
    values = requests.values_s[requests.counted]
    if len(values) < _MIN_PREDICTED or np.mean(values > query.limit_s) > 0.05:
        return 0  # beyond the capacity latencies grow without end
    for share in (0.5, 0.9):
        mean, spread = inferred.log_latency(requests.rate_qps, share)
        seen = math.log(max(1e-3, float(np.quantile(values, share)) / query.limit_s))
        if abs(seen - mean) > _SURPRISE * math.hypot(spread, 0.05):
            return 1
    return 0
