"""The capacity search: which arrival rate is the last that holds the SLO. Pure logic over a `Prober`.

Every probe adds to one posterior over the capacity, so that no single verdict is believed for ever: on a shared machine
a hiccup looks like a miss. The share of misses is modelled as logistic in the logarithm of the rate, which it is close
to where it matters, around the allowed share; what misses by far says only that the capacity is below. The next
rate is the posterior's median: bisection, with doubt (Waeber, Frazier and Henderson, SIAM J. Control Optim. 51, 2013).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from loadtest.plan import Interval, Outcome, Probe, Verdict
from loadtest.verdict import Evidence, FailureEvidence, judge

_LEAST_PROBE_S, _LONGEST_PROBE_S = 1.5, 5.0
_SLOWEST_SHARE = 1 / 40  # of the saturated throughput; what misses there misses everywhere
_HOPELESS_SHARE = 0.2  # a sure miss below this share of it, with nothing that held, is the server's fault
_FAR = 5.0  # times the allowed share; misses beyond say no more about where the edge is
_STEEPNESS = np.geomspace(3, 100, 12)  # of the logit over the log rate: queues near saturation are steep
_GRID = 400
_LEAST_REQUESTS = 8
_START = 0.7  # of the saturated throughput
_DOUBT = 1.5  # the design effect is itself unsure; without this 78 to 90% of simulated intervals held the truth
_SURE = 0.98
_MOST_SPOILED = 3  # probes in a row that the generator spoiled


@dataclass(frozen=True)
class Probed:
    """One probe with its evidence, a sample per latency limit. `allowed` is the share of misses per limit."""

    probe: Probe
    evidence: tuple[Evidence, ...]
    allowed: tuple[float, ...]
    failures: FailureEvidence | None = None

    @property
    def verdict(self) -> Verdict:
        """What the evidence says; a probe that the generator spoiled stays `invalid`."""
        return "invalid" if self.probe.verdict == "invalid" else judge(self.evidence, self.allowed, self.failures)

    @property
    def too_many_errors(self) -> bool:
        """Whether more requests failed than the error rate allows, sure or not."""
        return self.failures is not None and self.failures.exceeded

    @property
    def tightest(self) -> tuple[Evidence, float]:
        """The sample that misses most, relative to what is allowed, and what is allowed."""
        pairs = zip(self.evidence, self.allowed, strict=True)
        return max(pairs, key=lambda pair: pair[0].share / pair[1])

    @property
    def holds(self) -> bool:
        """Whether the estimate, sure or not, is within the SLO; never from a handful of requests."""
        sample, allowed = self.tightest
        return self.probe.requests >= _LEAST_REQUESTS and sample.share <= allowed and not self.too_many_errors


class Prober(Protocol):
    """Loads the server. `probe` blocks until it has a verdict or `at_most_s` have passed."""

    def probe(self, rate_qps: float, at_most_s: float) -> Probed:
        """One stretch of load on a server that is done with the earlier ones."""

    def remaining_s(self) -> float:
        """Time left for the whole search."""


@dataclass(frozen=True)
class Found:
    """The search's result; `best` is the highest probe within the capacity that held, `probes` are all, in order."""

    outcome: Outcome
    reason: str = ""
    capacity: Interval | None = None
    bound_qps: float | None = None
    best: Probe | None = None
    client_limited: bool = False
    probes: tuple[Probe, ...] = ()


class Posterior:
    """What the probes say about the capacity: a density over log-spaced rates, with the steepness integrated out.

    The prior is broad (a factor of 1.6 either way) around 70% of the saturated throughput, where latency limits bite.
    """

    def __init__(self, saturated_qps: float) -> None:
        self._rates = np.geomspace(_SLOWEST_SHARE / 2 * saturated_qps, 1.5 * saturated_qps, _GRID)
        prior = -0.5 * (np.log(self._rates / (_START * saturated_qps)) / 0.5) ** 2
        self._log_density = np.repeat(prior[:, None], len(_STEEPNESS), axis=1)

    def add(self, found: Probed) -> None:
        """Multiply by the binomial likelihood of a probe, at its effective sample size."""
        sample, allowed = found.tightest
        total = float(sample.requests.sum()) / (_DOUBT * sample.design_effect)
        share = min(max(sample.share, 2 * allowed if found.too_many_errors else 0.0), _FAR * allowed)
        distance = np.log(found.probe.rate_qps / self._rates)[:, None]
        expected = np.clip(expit(logit(allowed) + _STEEPNESS[None, :] * distance), 1e-9, 1 - 1e-9)
        # Beyond `_FAR` every steepness says the same, or far probes would decide where the edge is.
        expected = np.minimum(expected, _FAR * allowed)
        self._log_density += total * (share * np.log(expected) + (1 - share) * np.log1p(-expected))

    def quantile(self, *shares: float) -> list[float]:
        """Rates below which the capacity lies with these probabilities."""
        weights = self._weights()
        return [float(self._rates[int(np.searchsorted(weights, share))]) for share in shares]

    def below(self, rate_qps: float) -> float:
        """The probability that the capacity is below a rate."""
        position = int(np.searchsorted(self._rates, rate_qps))
        return 0.0 if position == 0 else float(self._weights()[min(position, _GRID) - 1])

    def _weights(self) -> NDArray[np.float64]:
        density = np.exp(self._log_density - self._log_density.max()).sum(axis=1)
        cumulated = np.cumsum(density)
        return np.asarray(cumulated / cumulated[-1])


@dataclass
class CapacitySearch:
    """`saturated_qps` is the throughput of a saturating burst: about the most that the server can do at all.

    `precision` is the relative half-width of the interval at which the search may stop.
    """

    prober: Prober
    saturated_qps: float
    precision: float
    first_rate_qps: float | None = None
    _probes: list[Probed] = field(default_factory=list)
    _client_limited: bool = False
    _longest_s: float = _LONGEST_PROBE_S
    _slowest: float = 0.0

    def run(self) -> Found:
        """Probe until the capacity is known as well as asked for, or the time is over."""
        self._slowest = _SLOWEST_SHARE * self.saturated_qps
        posterior, spoiled = Posterior(self.saturated_qps), 0
        rate = self.first_rate_qps or _START * self.saturated_qps
        while self.prober.remaining_s() > _LEAST_PROBE_S:
            found = self._probe(rate)
            if found.verdict == "invalid":
                spoiled += 1
                self._client_limited = spoiled >= _MOST_SPOILED
                if self._client_limited:
                    break
                continue  # once more at the same rate
            spoiled = 0
            posterior.add(found)
            if self.first_rate_qps is not None and posterior.below(self.first_rate_qps) > _SURE:
                return self._found("pruned", bound_qps=self.first_rate_qps, reason=_missed_by(found))
            low, middle, high = posterior.quantile(0.025, 0.5, 0.975)
            if self._narrow(low, high) or (rate <= self._slowest and found.verdict == "missed"):
                break
            # Until some rate has held there is nothing to report, so go down faster than the evidence asks for.
            none_held = not any(probed.holds for probed in self._probes)
            rate = self._next_rate(min(posterior.quantile(0.1)[0], 0.6 * rate) if none_held else middle)
        return self._conclude(posterior)

    def _probe(self, rate: float) -> Probed:
        remaining = self.prober.remaining_s()
        if not self._probes:
            # At least four probes, however short the time; longer ones where there is plenty.
            self._longest_s = max(min(_LONGEST_PROBE_S, 0.25 * remaining), 0.2 * remaining, _LEAST_PROBE_S)
        found = self.prober.probe(rate, at_most_s=min(self._longest_s, max(_LEAST_PROBE_S, remaining)))
        self._probes.append(found)
        return found

    def _next_rate(self, middle: float) -> float:
        """The median; after a first rate from outside, rather what the burst suggests, if that is still open."""
        start = _START * self.saturated_qps
        if len(self._probes) == 1 and self.first_rate_qps is not None and self._probes[0].holds:
            return max(start, 1.1 * self.first_rate_qps)
        return max(middle, self._slowest)

    def _narrow(self, low: float, high: float) -> bool:
        """Known well enough, and seen from both sides, or the interval would rest on the model alone."""
        sides = {found.holds for found in self._probes if found.verdict != "invalid"}
        return high / low <= (1 + self.precision) ** 2 and len(sides) == 2

    def _conclude(self, posterior: Posterior) -> Found:
        valid = [found for found in self._probes if found.verdict != "invalid"]
        held = [found for found in valid if found.holds]
        if not held:
            missed = [found for found in valid if found.verdict == "missed"]
            slowest = min(missed, key=lambda found: found.probe.rate_qps, default=None)
            if slowest is not None and slowest.probe.rate_qps <= _HOPELESS_SHARE * self.saturated_qps:
                return self._found("infeasible", reason=_missed_by(slowest))
            why = "the load generator itself was too slow" if self._client_limited else _nothing_held(valid)
            return self._found("invalid", reason=why)
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
    ) -> Found:  # fmt: skip
        probes = tuple(found.probe for found in self._probes)
        return Found(outcome, reason, capacity, bound_qps, best, self._client_limited, probes)


def _nothing_held(valid: list[Probed]) -> str:
    slowest = min(valid, key=lambda found: found.probe.rate_qps, default=None)
    return "the time was over before the first probe" if slowest is None else f"no rate held; {_missed_by(slowest)}"


def _missed_by(found: Probed) -> str:
    probe = found.probe
    text = f"at {probe.rate_qps:.3g} requests/s "
    if probe.errors >= 0.5 * max(1, probe.misses) or (found.too_many_errors and probe.errors):
        kind = max(probe.error_kinds, key=lambda name: probe.error_kinds[name], default="errors")
        return text + f"{probe.errors} of {probe.requests} requests failed ({kind})"
    p99 = f", p99 {probe.p99_ms.value:.3g} ms" if probe.p99_ms else ""
    return text + f"{probe.misses} of {probe.requests} requests missed the limit{p99}"
