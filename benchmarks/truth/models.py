"""Servers of known behaviour, each written once: run by a simulated clock they say what is true, run by asyncio's they
answer HTTP (`benchmarks.truth.serve`).

Times are in seconds. `speed` is the most requests a second that a server can answer; the other lengths follow from it.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Answer = Callable[[float], None]  # told when the answer is due

_ROUGH, _FINE, _DROPPED, _STEPS = 60_000, 1_000_000, 4_000, 9
_AROUND = (0.97, 0.99, 1.01, 1.03)


class Clock(Protocol):
    """What a server needs of time."""

    def at(self, moment: float, call: Callable[[float], None]) -> None:
        """Call at that moment, and tell it the moment."""
        ...


class Model(Protocol):
    """A server."""

    def take(self, now: float, answer: Answer) -> None:
        """A request arrives."""
        ...


class Workers:
    """One queue before workers; `draw` gives service times. Where there are pauses, all workers stand still in them."""

    def __init__(
        self, clock: Clock, count: int, draw: Callable[[], float], every_s: float = math.inf, pause_s: float = 0.0
    ) -> None:
        self._clock, self._draw, self._every_s, self._pause_s = clock, draw, every_s, pause_s
        self._free = [0.0] * count

    def take(self, now: float, answer: Answer) -> None:
        """The end is known on arrival."""
        begin = max(now, heapq.heappop(self._free))
        end = self._worked(begin, self._draw())
        heapq.heappush(self._free, end)
        self._clock.at(end, answer)

    def _worked(self, begin: float, work_s: float) -> float:
        """When so much work is done; a pause is at the end of each `every_s`."""
        if math.isinf(self._every_s):
            return begin + work_s
        awake = self._every_s - self._pause_s
        turns, within = divmod(begin, self._every_s)
        done = turns * awake + min(within, awake) + work_s
        turns, within = divmod(done, awake)
        return turns * self._every_s + within


class Batches:
    """Takes up to `size` waiting requests once an instance is idle and they are so many, or the first has waited
    `delay_s`. `draw` gives what a request takes in its batch, in `item_s`.
    """

    def __init__(
        self, clock: Clock, size: int, fixed_s: float, item_s: float, delay_s: float = 0.0, instances: int = 1,
        draw: Callable[[], float] = lambda: 1.0,
    ) -> None:  # fmt: skip
        self._clock, self._size, self._fixed_s, self._item_s, self._delay_s = clock, size, fixed_s, item_s, delay_s
        self._waiting: list[tuple[float, float, Answer]] = []
        self._idle, self._draw = instances, draw

    def take(self, now: float, answer: Answer) -> None:
        """Begin a batch, or wait."""
        self._waiting.append((now, self._item_s * self._draw(), answer))
        self._look(now)
        if self._delay_s and self._idle and len(self._waiting) == 1:
            self._clock.at(now + self._delay_s, self._look)

    def _look(self, now: float) -> None:
        if not self._idle or not self._waiting:
            return
        due = self._waiting[0][0] + self._delay_s
        if len(self._waiting) < self._size and now < due:
            return
        batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
        self._idle -= 1

        def ended(end: float) -> None:
            self._idle += 1
            for _, _, answer in batch:
                answer(end)
            self._look(end)
            if self._waiting and self._idle:
                self._clock.at(self._waiting[0][0] + self._delay_s, self._look)

        self._clock.at(now + self._fixed_s + sum(work for _, work, _ in batch), ended)
        if self._waiting and self._idle:
            self._clock.at(max(now, self._waiting[0][0] + self._delay_s), self._look)


class SharedProcessor:
    """All requests share one processor equally, however many there are."""

    def __init__(self, clock: Clock, draw: Callable[[], float]) -> None:
        self._clock, self._draw = clock, draw
        self._ends: list[tuple[float, int, Answer]] = []  # by the work that each will have been given by then
        self._given, self._since, self._number = 0.0, 0.0, 0

    def take(self, now: float, answer: Answer) -> None:
        """Everybody's share shrinks."""
        self._pass(now)
        self._number += 1
        heapq.heappush(self._ends, (self._given + self._draw(), self._number, answer))
        self._next()

    def _pass(self, now: float) -> None:
        if self._ends:
            self._given += (now - self._since) / len(self._ends)
        self._since = now

    def _next(self) -> None:
        first, changes = self._ends[0], len(self._ends)
        number = self._number

        def look(now: float) -> None:
            if not self._ends or self._ends[0] is not first or len(self._ends) != changes or self._number != number:
                return  # somebody came or left since
            self._given, self._since = first[0], now
            heapq.heappop(self._ends)
            first[2](now)
            if self._ends:
                self._next()

        self._clock.at(self._since + max(0.0, first[0] - self._given) * changes, look)


def make(kind: str, speed: float, clock: Clock, seed: int) -> Model:
    """One of KINDS that answers `speed` requests a second at most."""
    mean, generator = 1 / speed, random.Random(seed)

    def exponential() -> float:
        return generator.expovariate(speed)

    def bimodal() -> float:
        return mean / 1.4 * (5 if generator.random() < 0.1 else 1)

    if kind == "constant":
        return Workers(clock, 1, lambda: mean)
    if kind == "exponential":
        return Workers(clock, 1, exponential)
    if kind == "four workers":
        return Workers(clock, 4, lambda: 4 * mean)
    if kind == "bimodal":
        return Workers(clock, 1, bimodal)
    if kind == "pauses":
        return Workers(clock, 1, lambda: mean * 0.9625, 400 * mean, 15 * mean)
    if kind == "batches":
        return Batches(clock, 8, 4 * mean, mean / 2)
    if kind == "batches with delay":
        return Batches(clock, 8, 4 * mean, mean / 2, 4 * mean)
    if kind == "sharing":
        return SharedProcessor(clock, exponential)
    raise ValueError(f"no kind {kind!r}")


KINDS = ("constant", "exponential", "four workers", "bimodal", "pauses", "batches", "batches with delay", "sharing")
# Limits, in mean service times, that bring each to its edge at 70 to 90% of what it can do.
LIMITS = {
    "constant": 12.0, "exponential": 24.0, "four workers": 15.0, "bimodal": 30.0, "pauses": 25.0, "batches": 25.0,
    "batches with delay": 25.0, "sharing": 30.0,
}  # fmt: skip


class _Simulated:
    """A clock that goes from event to event."""

    def __init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = 0

    def at(self, moment: float, call: Callable[[float], None]) -> None:
        """See `Clock`."""
        self._number += 1
        heapq.heappush(self._events, (moment, self._number, call))

    def run_until(self, moment: float) -> None:
        """All that is due by then."""
        while self._events and self._events[0][0] <= moment:
            due, _, call = heapq.heappop(self._events)
            call(due)


def latencies_s(kind: str, speed: float, rate_qps: float, requests: int, seed: int) -> NDArray[np.float64]:
    """Of Poisson arrivals, those of the beginning dropped."""
    clock, generator = _Simulated(), random.Random(seed)
    model, now, found = make(kind, speed, clock, seed + 1), 0.0, np.full(requests + _DROPPED, np.nan)
    for number in range(requests + _DROPPED):
        now += generator.expovariate(rate_qps)
        clock.run_until(now)

        def answer(end: float, number: int = number, arrived: float = now) -> None:
            found[number] = end - arrived

        model.take(now, answer)
    clock.run_until(math.inf)
    return found[_DROPPED:]


@lru_cache(maxsize=256)
def capacity_qps(kind: str, allowed: float, limit: float) -> float:
    """The rate, as a share of the speed, at which that share of requests takes longer than `limit` service times: by
    long runs at four rates near it.
    """
    low, high = 0.02, 0.998
    for _ in range(_STEPS):
        middle = (low + high) / 2
        beyond = float((latencies_s(kind, 1.0, middle, _ROUGH, 1) > limit).mean())
        low, high = (middle, high) if beyond <= allowed else (low, middle)
    rates = np.minimum(middle * np.array(_AROUND), 0.998)
    found = [latencies_s(kind, 1.0, float(rate), _FINE, 11 * n) for n, rate in enumerate(rates, 1)]
    shares = np.array([(float((one > limit).sum()) + 0.5) / (len(one) + 1) for one in found])
    slope, offset = np.polyfit(rates, np.log(shares / (1 - shares)), 1)
    return float((math.log(allowed / (1 - allowed)) - offset) / slope)
