"""The capacity search: which arrival rate is the last that holds the SLO. Pure logic over a `Prober`.

Every probe adds to one posterior over the capacity, so that no single verdict is believed for ever: on a shared machine
a hiccup looks like a miss. Near the capacity the log odds of a miss rise linearly in the logarithm of the rate (a
logistic curve, as simulated queues show); the next rate is the posterior's median: bisection, with doubt (Waeber,
Frazier and Henderson, SIAM J. Control Optim. 51, 2013).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loadtest.figures import Interval
from loadtest.judge.features import Requests
from loadtest.judge.verdict import Evidence, Failures, judge
from loadtest.judge.widening import possible_gain
from loadtest.plan import TOO_SHORT, Certainty, Outcome, Probe, Verdict

_MIN_PROBE_S, _LONGEST_PROBE_S = 1.5, 6.0
_BRACKETING, _LATER_SHARE = 3, 0.4  # after so many probes they get longer: this share of the time that is left
_MIN_PROBE_REQUESTS = 40
_SLOWEST_SHARE = 1 / 40  # of the saturated throughput; what misses there misses everywhere
_HIGHEST_SHARE = 1.5
_HELD_HIGH = 1.35  # of it: where a rate holds that is so far above it, bursts say little of the server
_MOST_SHARE = 2.0  # a rate asked for that is far beyond it is missed there already
_HOPELESS_SHARE = 0.2  # a sure miss below this share of it, with nothing that held, is the server's fault
_FAR = 3.0  # log odds from the edge; further away the curve is anybody's guess
_BENT = 0.2  # of the distance in log odds: how far from a straight line the curve may be
_FREEDOM = 8.0  # of Student's t: now and then a probe is simply wrong
# At the capacity for a p99, the slope over the log rate is about ln(100) times utilisation over idle share: exact for
# M/M/1, within a factor of 2 for the others that were simulated.
_LOG_ODDS = math.log(100)
_SLOPES = np.geomspace(1 / 4, 4, 13)
_SLOPE_SPREAD = 0.5  # of its logarithm
_GRID = 800

_MIN_REQUESTS = 8
_START = 0.7  # of the saturated throughput
_SURE = 0.98
_MAX_INVALID = 3  # probes in a row that the generator spoiled, and twice as many before any rate has held
_SLOWER = 0.6


Opinion = Callable[[tuple[Requests, ...], Sequence[Evidence], Failures | None], Verdict]


@dataclass(frozen=True)
class Probed:
    """One probe with its evidence and its requests, of each latency limit. `opinion` is the verdict of an inference
    that knows more than this probe, where there was one.
    """

    probe: Probe
    evidence: tuple[Evidence, ...]
    failures: Failures | None = None
    target: str = ""  # whose probe it is, the worst of several that are loaded at once
    fewest: int | None = None  # requests of any of them
    gain: float = 1.0  # how many times as much it might hold if its neighbours on the machine were quiet, at most
    requests: tuple[Requests, ...] = ()
    opinion: Verdict | None = None
    # By how much more requests than are allowed were later than a limit: who took less time is not the cause.
    late_by_s: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """What the evidence says; a probe that the generator spoiled stays `invalid`, and no miss is sure that the
        server's neighbours may have caused.
        """
        verdict = "invalid" if self.probe.verdict == "invalid" else self._seen
        return "undecided" if verdict == "missed" and self.gain > 1 else verdict

    @property
    def _seen(self) -> Verdict:
        return self.opinion or judge(self.evidence, self.failures)

    @property
    def missed_below_qps(self) -> float:
        """The capacity is surely below this rate, whatever neighbours did; infinite where nothing was surely missed."""
        if self.probe.verdict == "invalid" or self._seen != "missed":
            return math.inf
        return self.probe.rate_qps * self.gain

    @property
    def too_many_errors(self) -> bool:
        """Whether more requests failed than the error rate allows, sure or not."""
        return self.failures is not None and self.failures.exceeded

    @property
    def tightest(self) -> Evidence:
        """The limit that is missed most, relative to what is allowed."""
        return max(self.evidence, key=lambda evidence: evidence.distance)

    @property
    def holds(self) -> bool:
        """Whether the estimate, sure or not, is within the SLO; never from a handful of requests."""
        requests = self.probe.requests if self.fewest is None else self.fewest
        return requests >= _MIN_REQUESTS and self.tightest.distance <= 0 and not self.too_many_errors


class Prober(Protocol):
    """Loads the server. `probe` blocks until it has a verdict or `at_most_s` have passed."""

    def probe(self, rate_qps: float, at_most_s: float, edge_utilisation: float) -> Probed:
        """One stretch of load. `edge_utilisation` is the server's at its capacity, as far as it is known."""

    def remaining_s(self) -> float:
        """Time left for the whole search."""


class OpinionatedProber(Protocol):
    """A `Prober` that ends a probe when an opinion about it is sure: of its requests, a sample per limit, its evidence
    and its failures so far.
    """

    def probe(
        self, rate_qps: float, at_most_s: float, edge_utilisation: float, *, opinion: Opinion | None = None
    ) -> Probed:
        """See `Prober`."""

    def remaining_s(self) -> float:
        """Time left for the whole search."""


@dataclass(frozen=True)
class CapacityResult:
    """The search's result; `best` is the highest probe within the capacity that held, `probes` are all, in order."""

    outcome: Outcome
    reason: str = ""
    capacity: Interval | None = None
    bound_qps: float | None = None
    best: Probe | None = None
    client_limited: bool = False
    probes: tuple[Probe, ...] = ()
    certainty: Certainty = "sure"
    at_least_qps: float | None = None
    at_most_qps: float | None = None
    unlike_known: bool = False


class Posterior:
    """What the probes say about the capacity: a density over log-spaced rates, with the slope integrated out.

    The prior is broad (a factor of 1.6 either way) around 70% of the saturated throughput, where latency limits bite.
    """

    def __init__(self, saturated_qps: float, highest: float = _HIGHEST_SHARE) -> None:
        self.unit_qps = saturated_qps
        self._rates = np.geomspace(_SLOWEST_SHARE / 2 * saturated_qps, highest * saturated_qps, _GRID)
        busy = np.clip(self._rates / saturated_qps, 0.2, 0.95)
        self._slopes = (_LOG_ODDS * busy / (1 - busy))[:, None] * _SLOPES[None, :]
        prior = -0.5 * (np.log(self._rates / (_START * saturated_qps)) / 0.5) ** 2
        self._log_density = prior[:, None] - 0.5 * (np.log(_SLOPES)[None, :] / _SLOPE_SPREAD) ** 2

    def add(self, found: Probed) -> None:
        """Multiply by the likelihood of a probe's estimate. What lies beyond `_FAR` says only on which side it is."""
        evidence = found.tightest
        if not math.isfinite(evidence.error):
            return
        distance = max(evidence.distance, 1.0) if found.too_many_errors else evidence.distance
        expected = self._slopes * np.log(found.probe.rate_qps / self._rates)[:, None]
        gap = np.clip(distance, -_FAR, _FAR) - np.clip(expected, -_FAR, _FAR)
        variance = evidence.error**2 + (_BENT * np.clip(expected, -_FAR, _FAR)) ** 2
        log_t = -0.5 * (_FREEDOM + 1) * np.log1p(gap**2 / variance / _FREEDOM) - 0.5 * np.log(variance)
        self._log_density = self._log_density + log_t

    def quantile(self, *shares: float) -> list[float]:
        """Rates below which the capacity lies with these probabilities."""
        weights = self._weights()
        return [float(np.interp(share, weights, self._rates)) for share in shares]

    def below(self, rate_qps: float) -> float:
        """The probability that the capacity is below a rate."""
        return float(np.interp(rate_qps, self._rates, self._weights()))

    def below_all(self, rates_qps: NDArray[np.float64]) -> NDArray[np.float64]:
        """`below` of many rates."""
        return np.interp(rates_qps, self._rates, self._weights())

    def _weights(self) -> NDArray[np.float64]:
        density = np.exp(self._log_density - self._log_density.max()).sum(axis=1)
        cumulated = np.cumsum(density)
        return np.asarray(cumulated / cumulated[-1])


def likely_saturated_qps(held_qps: float) -> float:
    """The most that a server can do at all of which a rate held."""
    return held_qps / _START


@dataclass
class CapacitySearch:
    """`saturated_qps` is the throughput of a saturating burst: about the most that the server can do at all.

    `precision` is the relative half-width of the interval at which the search may stop.
    """

    prober: Prober
    saturated_qps: float
    precision: float
    first_rate_qps: float | None = None
    min_share: float = 1.0  # of the rate that the least loaded endpoint gets, where there are several
    _probes: list[Probed] = field(default_factory=list)
    _client_limited: bool = False

    def run(self) -> CapacityResult:
        """Probe until the capacity is known as well as asked for, or the time is over."""
        slowest = _SLOWEST_SHARE * self.saturated_qps
        posterior, invalid = Posterior(self.saturated_qps), 0
        rate = min(self.first_rate_qps or _START * self.saturated_qps, _MOST_SHARE * self.saturated_qps)
        while self.prober.remaining_s() > _MIN_PROBE_S:
            low, middle, high = posterior.quantile(0.025, 0.5, 0.975)
            found = self._probe(rate, middle)
            if found.verdict == "invalid":
                invalid += 1
                held = any(probed.holds for probed in self._probes if probed.verdict != "invalid")
                self._client_limited = invalid >= (_MAX_INVALID if held else 2 * _MAX_INVALID)
                if self._client_limited:
                    break
                # Once more at the same rate; then, until there is a rate to report, at lower ones.
                rate *= 1.0 if held or invalid < 2 else _SLOWER
                continue
            invalid = 0
            posterior.add(found)
            if found.holds and rate >= _HELD_HIGH * posterior.unit_qps:
                posterior = self._around(rate)
            if self._pruned(found, posterior):
                return self._found("pruned", bound_qps=self.first_rate_qps, reason=missed_by(found))
            low, middle, high = posterior.quantile(0.025, 0.5, 0.975)
            if self._narrow(low, high) or (rate <= slowest and found.verdict == "missed"):
                break
            # Until some rate has held there is nothing to report, so go down faster than the evidence asks for.
            none_held = not any(probed.holds for probed in self._probes)
            rate = max(min(posterior.quantile(0.1)[0], 0.6 * rate) if none_held else self._next_rate(middle), slowest)
        return self._conclude(posterior)

    def _around(self, rate_qps: float) -> Posterior:
        """What is known, seen from a rate that held: a capacity so far above the bursts' was nowhere likely."""
        found = Posterior(likely_saturated_qps(rate_qps))
        for one in self._probes:
            if one.verdict != "invalid":
                found.add(one)
        return found

    def _pruned(self, found: Probed, posterior: Posterior) -> bool:
        """The first rate was given from outside and is missed: by its own probe, or by all of them together."""
        if self.first_rate_qps is None:
            return False
        if found.holds and self.first_rate_qps > _HIGHEST_SHARE * self.saturated_qps:
            return False  # more than the bursts say, and so beyond all rates that the posterior knows of
        quiet_qps = self.first_rate_qps / possible_gain(one.probe for one in self._probes)
        at_once = len(self._probes) == 1 and found.missed_below_qps <= self.first_rate_qps
        tried_qps = max(one.probe.rate_qps for one in self._probes if one.verdict != "invalid")
        # The first rate is not one of them where bursts promised less.
        return at_once or posterior.below(min(quiet_qps, tried_qps)) > _SURE

    def _probe(self, rate: float, middle: float) -> Probed:
        remaining = self.prober.remaining_s()
        # At least four probes, however short the time; longer ones for slow servers.
        longest_s = max(
            _LONGEST_PROBE_S,
            _MIN_PROBE_REQUESTS / (rate * self.min_share),
            _LATER_SHARE * remaining * (len(self._probes) >= _BRACKETING),
        )
        longest_s = max(min(longest_s, _LATER_SHARE * remaining), _MIN_PROBE_S)
        if remaining < 2 * longest_s:
            longest_s = remaining
        edge = max(middle, self.first_rate_qps or 0.0) / self.saturated_qps
        found = self.prober.probe(rate, longest_s, edge)
        self._probes.append(found)
        return found

    def _next_rate(self, middle: float) -> float:
        """The median; after a first rate from outside, rather what the burst suggests, if that is still open."""
        start = _START * self.saturated_qps
        if len(self._probes) == 1 and self.first_rate_qps is not None and self._probes[0].holds:
            return max(start, 1.1 * self._probes[0].probe.rate_qps)
        return middle

    def _narrow(self, low: float, high: float) -> bool:
        """Known well enough, and seen from both sides, or the interval would rest on the model alone."""
        sides = {found.holds for found in self._probes if found.verdict != "invalid"}
        return high / low <= (1 + self.precision) ** 2 and len(sides) == 2

    def _conclude(self, posterior: Posterior) -> CapacityResult:
        valid = [found for found in self._probes if found.verdict != "invalid"]
        held = [found for found in valid if found.holds]
        if not held:
            slowest = min(valid, key=lambda found: found.missed_below_qps, default=None)
            if slowest is not None and slowest.missed_below_qps <= _HOPELESS_SHARE * self.saturated_qps:
                return self._found("infeasible", reason=missed_by(slowest))
            return self._found("invalid", reason=why_not(self._probes, client_limited=self._client_limited))
        low, value, high = posterior.quantile(0.025, 0.5, 0.975)
        fastest = max(found.probe.rate_qps for found in held)
        if not any(found.probe.rate_qps >= value and not found.holds for found in valid):
            value = min(value, fastest)  # beyond every rate that was tried there is only the model
            low = min(low, value)
        if self._client_limited and len(held) == len(valid):
            # Nothing was missed, but the generator could send no more: the highest rate that held is a lower bound.
            value = fastest
            low = min(low, value)
        else:
            self._client_limited = False
        within = [found for found in held if found.probe.rate_qps <= value] or held
        best = max(within, key=lambda found: found.probe.rate_qps)
        return self._found("measured", capacity=Interval(value=value, low=low, high=max(high, value)), best=best.probe)

    def _found(
        self, outcome: Outcome, *, reason: str = "", capacity: Interval | None = None, bound_qps: float | None = None,
        best: Probe | None = None,
    ) -> CapacityResult:  # fmt: skip
        probes = tuple(found.probe for found in self._probes)
        met = max((found.probe.rate_qps for found in self._probes if found.verdict == "met"), default=None)
        missed = min((found.probe.rate_qps for found in self._probes if found.verdict == "missed"), default=None)
        sure = met is not None and (missed is not None or self._client_limited)
        return CapacityResult(
            outcome, reason, capacity, bound_qps, best, self._client_limited, probes, "sure" if sure else "uncertain",
            met or (capacity.low if capacity else None), missed or (capacity.high if capacity else None),
        )  # fmt: skip


def why_not(probes: Sequence[Probed], *, client_limited: bool) -> str:
    """Why no rate was seen to hold, and none so low that the server is to blame."""
    if client_limited:
        return f"{TOO_SHORT}: no rate was seen to hold; the load generator itself was too slow"
    valid = [found for found in probes if found.verdict != "invalid"]
    slowest = min(valid, key=lambda found: found.probe.rate_qps, default=None)
    if slowest is not None:
        return f"{TOO_SHORT}: no rate was seen to hold; {missed_by(slowest)}"
    if probes:
        return f"{TOO_SHORT}: no probe counted, the last because {probes[-1].probe.reason}"
    return f"{TOO_SHORT}: the time was over before the first probe"


def digits(value: float) -> str:
    """Three significant digits without an exponent: `1,840`."""
    return f"{float(f'{value:.3g}'):,.12g}"


def missed_by(found: Probed) -> str:
    """What was seen at that rate, in words."""
    probe = found.probe
    text = f"at {digits(probe.rate_qps)} requests/s " + (f"in all, {found.target}: " if found.target else "")
    if probe.errors >= 0.5 * max(1, probe.misses) or (found.too_many_errors and probe.errors):
        kind = max(probe.error_kinds, key=lambda name: probe.error_kinds[name], default="errors")
        return text + f"{probe.errors} of {probe.requests} requests failed ({kind})"
    limit = f" {probe.limit}" if probe.limit else ""
    if not probe.requests:
        return text + "the time was over before a request could be judged"
    if not probe.completed:
        return text + f"none of {probe.requests} requests was answered: all missed the limit{limit}"
    p99 = f" (latency p99 {digits(probe.p99_ms.value)} ms)" if probe.p99_ms else ""
    if not probe.misses and found.verdict == "undecided":  # no limit is to blame
        return text + f"none of {probe.requests} requests missed the limit{limit}{p99}, which are too few to tell"
    unanswered = min(probe.misses, probe.requests - probe.completed)
    waiting = f", {unanswered} of them not answered yet" if unanswered > 0 else ""  # it may hang, not be slow
    return text + f"{probe.misses} of {probe.requests} requests missed the limit{limit}{waiting}{p99}"
