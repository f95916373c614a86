"""Measures again what neighbours disturbed, as long as there is hope and time, and marks what stays disturbed.

Neighbours only take: a disturbed stretch in which the SLO held says what it says. One in which it did not may be their
doing, so it is never a sure miss.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from loadtest.judge.capacity import Probed
from loadtest.judge.widening import despite_neighbours, gain_of, taken_in, widened
from loadtest.neighbours.calibration import MachineClock
from loadtest.neighbours.documents import Neighbours
from loadtest.neighbours.watch import CounterSample, NeighbourWatch
from loadtest.plan import JointPlan, LoadPlan, Measurement, Probe
from loadtest.request.reply import is_refusal

_MAX_REPEATS = 2  # of one stretch
_MAX_SHARE = 0.3  # of the load test's time, for waits and for what was thrown away
_PROBES_SHARE = 0.6  # of it, that repeating what comes before the probes leaves to them
_MAX_WAIT_S, _WAIT_SHARE = 2.0, 0.05  # for a quiet moment, and at most this share of what time is left
_HOPELESS = 2  # stretches in a row that stayed disturbed however often they were repeated

_HARM = 0.01  # of its speed: a server that lost no more is to blame for its misses itself
_ELSEWHERE = 0.5  # cores that are not the server's
_STARVED = 0.1  # of the time: the generator waited for a core that others used

T = TypeVar("T")


def _nothing() -> None:
    """Nothing is to be forgotten."""


class MachineWatch(Protocol):
    """What looks at the machine: `NeighbourWatch`, or a made-up one in simulated time."""

    def look(self) -> CounterSample | None:
        """See `NeighbourWatch.look`."""

    def since(self, before: CounterSample | None) -> Neighbours | None:
        """See `NeighbourWatch.since`."""

    def await_quiet(self, at_most_s: float) -> bool:
        """See `NeighbourWatch.await_quiet`."""


@dataclass
class RetryBudget:
    """What may still be spent on repeating, in one load test of `max_s`."""

    max_s: float
    spent_s: float = 0.0
    in_vain: int = 0

    def allows(self, duration_s: float, remaining_s: float, *, before_probes: bool) -> bool:
        """Whether a stretch that took so long may be measured once more: a part of what comes before the probes only
        where enough time is left for them.
        """
        return (
            self.in_vain < _HOPELESS
            and self.spent_s + duration_s <= _MAX_SHARE * self.max_s
            and remaining_s > 2 * duration_s
            and (not before_probes or remaining_s - duration_s >= _PROBES_SHARE * self.max_s)
        )


@dataclass
class Quiet:
    """Runs stretches of load and repeats the disturbed ones. Without a `watch` it runs each once and says nothing.

    `allowed` is the share of requests that may miss every limit, `begun` what the watch saw first, `clock` tells how
    fast the machine is before each stretch.
    """

    watch: MachineWatch | None
    retries: RetryBudget
    remaining_s: Callable[[], float]
    allowed: float = 0.0
    begun: CounterSample | None = None
    clock: MachineClock | None = None
    token_limits: bool = False  # a generator that waits for a core sees tokens come faster than they do

    @classmethod
    def of(cls, plan: LoadPlan | JointPlan, remaining_s: Callable[[], float]) -> Quiet:
        """For one load test, which is about to begin: the servers have nothing to do yet."""
        watch = NeighbourWatch.of([one.server for one in plan.plans])
        retries = RetryBudget(plan.max_s)
        if watch is None:
            return cls(None, retries, remaining_s)
        clock = MachineClock.of(watch.cores, watch.copy_s)
        allowed = min(1 - limit.percentile / 100 for one in plan.judged for limit in one.slo.latency)
        tokens = any(limit.flattered for one in plan.judged for limit in one.slo.latency)
        return cls(watch, retries, remaining_s, allowed, watch.look(), clock, tokens)

    def said(self, measurement: Measurement, most_qps: float = math.inf) -> Measurement:
        """The measurement with what neighbours did all the while, in figures and in a note, and the machine's speed.

        What rests on disturbed probes is widened, up to `most_qps`: what the load could have brought at most.
        """
        seen = None if self.watch is None else self.watch.since(self.begun)
        if seen is None:
            return measurement
        blind = self.token_limits and any(one.generator_starved > _STARVED for one in measurement.probes)
        if measurement.outcome == "invalid" and not blind and _held_up(measurement.probes):
            measurement = despite_neighbours(measurement, self.allowed)
        else:
            measurement = widened(measurement, most_qps)
        notes = list(_notes(measurement.probes, seen))
        speed = None if self.clock is None else self.clock.speed
        update = {"neighbours": seen, "machine": speed, "notes": (*measurement.notes, *notes)}
        return measurement.model_copy(update=update)

    def measured(
        self, job: Callable[[], T], repeat: Callable[[], T] | None = None, *,
        may_stand: Callable[[T], bool] = lambda _: False, before_probes: bool = True,
    ) -> tuple[T, Neighbours | None]:  # fmt: skip
        """What the job (`repeat`: its repetition) returns, the last time it ran, and what neighbours did meanwhile.

        What `may_stand` is not repeated though it was disturbed, nor what cost the server nothing.
        """
        if self.watch is None:
            return job(), None
        for repeats in range(_MAX_REPEATS + 1):
            before, left_s = self._look(self.watch), self.remaining_s()
            result = repeat() if repeats and repeat is not None else job()
            seen = self.watch.since(before)
            if seen is None:
                return result, None
            seen = seen.model_copy(update={"repeats": repeats})
            if not _harmed(seen):
                self.retries.in_vain = 0
                break
            if may_stand(result):
                break
            took_s = left_s - self.remaining_s()
            if repeats == _MAX_REPEATS or not self.retries.allows(
                took_s, self.remaining_s(), before_probes=before_probes
            ):
                self.retries.in_vain += repeats > 0
                break
            self.watch.await_quiet(min(_MAX_WAIT_S, _WAIT_SHARE * self.remaining_s()))
            self.retries.spent_s += left_s - self.remaining_s()
        return result, seen

    def _look(self, watch: MachineWatch) -> CounterSample | None:
        """The counters before a stretch, after a look at the machine's speed."""
        before = watch.look()
        if self.clock is None:
            return before
        self.clock.look()
        now = watch.look()
        if before is not None and now is not None:
            self.clock.beside(now.server_s - before.server_s, now.cores.at - before.cores.at)
        return now


@dataclass(frozen=True)
class QuietProber:
    """A `Prober` whose disturbed probes are repeated, and marked where they stay so. `drain` empties the server, so
    that nothing but the probe is watched; `forget` is called when the last probe does not count.
    """

    ask: Callable[..., Probed]
    remaining_s: Callable[[], float]
    quiet: Quiet
    drain: Callable[[], None]
    forget: Callable[[], object] = _nothing

    def probe(self, rate_qps: float, at_most_s: float, edge_utilisation: float, **how: Any) -> Probed:
        """As a `Prober`'s. What was met may stand, and what the generator itself spoiled is repeated by the search."""

        def job() -> Probed:
            return self.ask(rate_qps, at_most_s, edge_utilisation, **how)

        def repeat() -> Probed:
            self.forget()
            return job()

        self.drain()
        found, seen = self.quiet.measured(
            job, repeat, may_stand=lambda one: one.verdict in ("met", "invalid"), before_probes=False
        )
        return found if seen is None else marked(found, seen)


def marked(found: Probed, seen: Neighbours) -> Probed:
    """The probe with what neighbours did in it; a miss that they may have caused is not sure.

    No request is later than by all the time that the server lost: a queue passes a delay on, it does not multiply it.
    Where more requests than are allowed were later still, or were refused as wrong, the miss is the server's own.
    """
    update: dict[str, Any] = {"neighbours": seen}
    lost_s = (seen.lost_cores + seen.slowness.lost) * seen.duration_s
    own = found.late_by_s > lost_s or _refused_too_many(found)
    gain = gain_of(taken_in(found.probe, seen)) if _harmed(seen) and not own else 1.0
    if gain > 1 and found.probe.verdict == "missed":
        update |= {"verdict": "undecided", "reason": seen.reason}
    return dataclasses.replace(found, probe=found.probe.model_copy(update=update), gain=gain)


def _refused_too_many(found: Probed) -> bool:
    """Whether so many requests were refused as wrong that this alone is a sure miss."""
    refused = sum(count for kind, count in found.probe.error_kinds.items() if is_refusal(kind))
    return found.failures is not None and dataclasses.replace(found.failures, failed=refused).verdict == "missed"


def _held_up(probes: Sequence[Probe]) -> bool:
    """Whether neighbours took the time of the server in some probe, or that of the generator."""
    return any(
        (one.neighbours is not None and _harmed(one.neighbours)) or one.generator_starved > _STARVED for one in probes
    )


def _harmed(seen: Neighbours) -> bool:
    return seen.disturbed and seen.taken > _HARM


def _notes(probes: Sequence[Probe], seen: Neighbours) -> Iterator[str]:
    disturbed = [probe.neighbours.reason for probe in probes if probe.neighbours and probe.neighbours.disturbed]
    if disturbed:
        main_reason = Counter(disturbed).most_common(1)[0][0] if not seen.disturbed else seen.reason
        yield (
            f"Neighbours disturbed {len(disturbed)} of {len(probes)} probes: {main_reason} while this was measured. "
            "The server may hold more; no miss among them counts as sure, and the interval allows for it."
        )
    elif seen.disturbed:
        yield f"Neighbours were there, though not in the probes that count: {seen.reason}."
    if seen.elsewhere_cores > _ELSEWHERE:
        yield (
            f"Others used {seen.elsewhere_cores:.2g} of the machine's other cores meanwhile: they share its memory and "
            "caches with the server, which may be slower for it."
        )
