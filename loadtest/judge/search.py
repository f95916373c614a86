"""The search for the capacity of one server, by what each second of load tells. Pure logic over a `Prober`.

First a bracket: a rate that holds and one that does not, so that the answer never rests on one side alone. Then the
ends of what is still possible, in turns, until the interval is as narrow as was asked for or the time is over. The last
word is a probe a little below the capacity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from loadtest.figures import Interval
from loadtest.judge.capacity import CapacityResult, OpinionatedProber, Probed, missed_by, why_not
from loadtest.judge.inference import SURE, ServerPosterior
from loadtest.judge.widening import VAGUE, possible_gain, raised
from loadtest.plan import Outcome, Probe

_MOST_SHARE = 2.0  # of the bursts' throughput: a rate asked for that is far beyond it is missed there already
_LOWEST_SHARE = 1 / 40  # of the bursts' throughput; what misses there misses everywhere
_HOPELESS_SHARE = 0.2  # a sure miss below this share of it, with nothing that held, is the server's fault
_MIN_PROBE_S, _MIN_REQUESTS = 1.5, 30
_BRACKET_SHARE, _LATER_SHARE = 0.25, 0.5  # of the time that is left, for one probe
_BRACKETING = 2  # probes, at least, that are as short as that
_STEP = (1.04, 1.1, 1.2)  # from the highest rate that held, or the lowest that missed: at least, further each time
_LONG_STEP = 1.6  # and at most
# Quantiles of the posterior to go to. At its middle no probe is ever decided, and a network that reads all latencies
# learns as much beside it: so the first rate is likely to hold, and later ones are in turns likely to hold and to miss.
_FIRST, _SIDES = 0.03, (0.03, 0.97)
_FURTHEST = 1.2  # times the middle, or a part of it
_UP = (0.95, 0.97, 0.98)  # while every rate held: further each time
_DOWN = (0.25, 0.08, 0.02)  # and while none did
_LAST = 0.03  # near the end
_WORTH = 2.0  # of the shortest probe: what is left for another one, or it is spent on this one
_MIN_COUNTED = 8
_MAX_INVALID, _SLOWER = 3, 0.6  # probes in a row that the generator spoiled; then slower
_NARROW = 1.25  # high over low, seen from both sides: then its ends are sure, whatever was tried
_NEAR, _UP_TO = 0.93, 1.02  # of the capacity: the rate at which the reported latencies were seen


def _held(found: Probed) -> bool:
    """Whether no more requests than are allowed missed any limit, sure or not; never from a handful of requests."""
    if found.verdict == "missed" or found.too_many_errors or found.probe.requests < _MIN_COUNTED:
        return False
    return all(one.misses <= one.allowed * one.requests for one in found.evidence)


@dataclass
class ServerSearch:
    """`precision` is the relative half-width of the interval at which the search may stop. `first_rate_qps` is a rate
    worth knowing first: once it is surely missed, the search ends as `pruned`.
    """

    prober: OpinionatedProber
    posterior: ServerPosterior
    precision: float
    first_rate_qps: float | None = None
    _probes: list[Probed] = field(default_factory=list)
    _invalid: int = 0
    _client_limited: bool = False

    def run(self) -> CapacityResult:
        """Probe until the capacity is known as well as asked for, or the time is over."""
        rate = min(self.first_rate_qps or _beside(self.posterior, _FIRST), _MOST_SHARE * self.posterior.scale_qps)
        while self.prober.remaining_s() > self._min_s:
            found = self._probe(rate)
            if found.verdict == "invalid":
                if self._given_up():
                    break
                # Once more at the same rate; then, until there is a rate to report, at lower ones.
                rate *= 1.0 if self._held() or self._invalid < 2 else _SLOWER
                continue
            self._invalid = 0
            self.posterior.add(found)
            if self._pruned(found):
                return self._found("pruned", bound_qps=self.first_rate_qps, reason=missed_by(found))
            if rate <= self._lowest and found.verdict == "missed":
                break
            if self._known() and self._reportable():
                break
            rate = self._next_rate()
        return self._conclude()

    @property
    def _min_s(self) -> float:
        return _MIN_PROBE_S + self.posterior.wait_s

    @property
    def _lowest(self) -> float:
        return _LOWEST_SHARE * self.posterior.scale_qps

    def _valid(self) -> list[Probed]:
        return [found for found in self._probes if found.verdict != "invalid"]

    def _held(self) -> list[Probed]:
        return [found for found in self._valid() if _held(found)]

    def _missed(self) -> list[Probed]:
        return [found for found in self._valid() if not _held(found)]

    def _probe(self, rate: float) -> Probed:
        remaining = self.prober.remaining_s()
        bracketing = len(self._valid()) < _BRACKETING or not (self._held() and self._missed())
        share = _BRACKET_SHARE if bracketing else _LATER_SHARE
        longest_s = max(share * remaining, min(_MIN_REQUESTS / rate, _LATER_SHARE * remaining), _MIN_PROBE_S)
        if remaining < longest_s + self.posterior.wait_s + _WORTH * self._min_s:
            longest_s = remaining
        edge = self.posterior.quantile(0.5)[0] / self.posterior.scale_qps
        found = self.prober.probe(rate, longest_s, min(0.95, edge), opinion=self.posterior.verdict)
        self._probes.append(found)
        return found

    def _decided(self, found: Probed) -> Probe:
        """The probe with the verdict that all probes together allow; neighbours' misses stay in doubt."""
        if found.verdict == "invalid":
            return found.probe
        verdict = replace(found, opinion=self.posterior.decided(found)).verdict
        p99_ms = self.posterior.p99_ms(found.probe)
        return found.probe.model_copy(update={"verdict": verdict, "p99_ms": p99_ms})

    def _given_up(self) -> bool:
        self._invalid += 1
        self._client_limited = self._invalid >= (_MAX_INVALID if self._held() else 2 * _MAX_INVALID)
        return self._client_limited

    def _pruned(self, found: Probed) -> bool:
        """The first rate is missed: by its own probe, or by all of them together."""
        if self.first_rate_qps is None:
            return False
        if _held(found) and self.first_rate_qps > _MOST_SHARE * self.posterior.scale_qps:
            return False  # it can do more than the bursts say, and nothing is known of rates so far above them
        quiet_qps = self.first_rate_qps / possible_gain(one.probe for one in self._probes)
        at_once = len(self._valid()) == 1 and found.missed_below_qps <= self.first_rate_qps
        tried_qps = max(one.probe.rate_qps for one in self._valid())  # not the first rate, where bursts promised less
        return at_once or self.posterior.below(min(quiet_qps, tried_qps)) > SURE

    def _next_rate(self) -> float:
        """A bracket first, then both sides of the capacity in turns."""
        turn = min(len(self._valid()), len(_UP)) - 1
        side = _SIDES[len(self._valid()) % 2]
        down, up = self.posterior.quantile(_DOWN[turn], _UP[turn])
        fastest = max((found.probe.rate_qps for found in self._held()), default=None)
        slowest = min((found.probe.rate_qps for found in self._missed()), default=None)
        if fastest is None and slowest is not None:
            return max(self._lowest, slowest / _LONG_STEP**2, min(slowest / _STEP[turn], down))
        if slowest is None and fastest is not None:
            return min(fastest * _LONG_STEP, max(fastest * _STEP[turn], up))
        # Near the end it is more likely to hold: what is reported is then what was seen.
        last = self._known() or self.prober.remaining_s() < 8 * _MIN_PROBE_S
        return _beside(self.posterior, _LAST if last else side)

    def _known(self) -> bool:
        """Known well enough, and seen from both sides, or the interval would rest on the model alone."""
        low, high = self.posterior.quantile(0.025, 0.975)
        return high / low <= (1 + self.precision) ** 2 and bool(self._held()) and bool(self._missed())

    def _reportable(self) -> bool:
        """Whether a probe near the capacity held, whose latencies can be reported."""
        value = self.posterior.quantile(0.5)[0]
        return any(_NEAR * value <= found.probe.rate_qps <= _UP_TO * value for found in self._held())

    def _conclude(self) -> CapacityResult:
        held, valid = self._held(), self._valid()
        if not held:
            slowest = min(valid, key=lambda found: found.missed_below_qps, default=None)
            if slowest is not None and slowest.missed_below_qps <= _HOPELESS_SHARE * self.posterior.scale_qps:
                return self._found("infeasible", reason=missed_by(slowest))
            return self._found("invalid", reason=why_not(self._probes, client_limited=self._client_limited))
        low, value, high = self.posterior.quantile(0.025, 0.5, 0.975)
        fastest = max(found.probe.rate_qps for found in held)
        self._client_limited &= len(held) == len(valid)
        if self._client_limited:  # nothing was missed, but the generator could send no more: it is a lower bound
            low, value, high = min(low, fastest), fastest, max(high, fastest)
        best = self._decided(nearest(held, value))
        capacity = Interval(value=value, low=low, high=high)
        return self._bounded(self._found("measured", capacity=capacity, best=best), low, high)

    def _bounded(self, found: CapacityResult, low: float, high: float) -> CapacityResult:
        """With the rates that surely hold, and surely do not: of those that were tried, else the interval's ends."""
        below = {one.probe.rate_qps: self.posterior.below(one.probe.rate_qps) for one in self._valid()}
        holds = max((rate for rate, share in below.items() if share < 1 - SURE), default=None)
        missed = min((rate for rate, share in below.items() if share > SURE), default=None)
        probes = [one.probe for one in self._probes]  # what neighbours may have cost in them is allowed for
        misses = None if missed is None else raised(missed, possible_gain(probes), probes, self.posterior.scale_qps)
        narrow = high / low <= _NARROW and bool(self._held()) and bool(self._missed())
        seen = holds is not None and (misses is not None or self._client_limited)
        sure = narrow or (seen and high / low <= VAGUE)
        return replace(
            found, certainty="sure" if sure else "uncertain", at_least_qps=low if holds is None else holds,
            at_most_qps=high if misses is None else misses, unlike_known=self.posterior.unlike,
        )  # fmt: skip

    def _found(
        self, outcome: Outcome, *, reason: str = "", capacity: Interval | None = None, bound_qps: float | None = None,
        best: Probe | None = None,
    ) -> CapacityResult:  # fmt: skip
        probes = tuple(self._decided(found) for found in self._probes)
        return CapacityResult(outcome, reason, capacity, bound_qps, best, self._client_limited, probes)


def nearest(held: Sequence[Probed], capacity_qps: float) -> Probed:
    """The one whose latencies are reported: the fastest up to the capacity, or else the slowest beyond it."""
    within = [found for found in held if found.probe.rate_qps <= _UP_TO * capacity_qps]
    if within:
        return max(within, key=lambda found: found.probe.rate_qps)
    return min(held, key=lambda found: found.probe.rate_qps)


def _beside(posterior: ServerPosterior, share: float) -> float:
    """That quantile of the capacity, but near its middle: far from it a probe is decided and says little."""
    middle, rate = posterior.quantile(0.5, share)
    return min(max(rate, middle / _FURTHEST), middle * _FURTHEST)
