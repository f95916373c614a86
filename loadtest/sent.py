"""What became of the requests of one probe: plain arrays, so that recording costs little and judging is one pass."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.intp]


class Sent:
    """Requests by their number, in the order of their schedule. Times are seconds; latency is from the schedule."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.scheduled = np.full(size, np.inf)
        self.latency = np.full(size, np.nan)
        self.late = np.zeros(size)
        self.failed = np.zeros(size, dtype=bool)
        self.kinds: dict[int, str] = {}

    def schedule(self, due: float) -> int:
        """The number of the next request, due at that time. Room is made when the arrivals outrun what was planned."""
        number = self.count
        if number == len(self.scheduled):
            more = len(self.scheduled)
            self.scheduled = np.concatenate([self.scheduled, np.full(more, np.inf)])
            self.latency = np.concatenate([self.latency, np.full(more, np.nan)])
            self.late = np.concatenate([self.late, np.zeros(more)])
            self.failed = np.concatenate([self.failed, np.zeros(more, dtype=bool)])
        self.scheduled[number] = due
        self.count += 1
        return number

    def finish(self, number: int, latency_s: float, failure: str | None) -> None:
        """The answer is complete, or the request was given up."""
        self.latency[number] = latency_s
        if failure is not None:
            self.failed[number] = True
            self.kinds[number] = failure

    def between(self, since: float, until: float) -> Numbers:
        """Which requests were scheduled in that stretch."""
        first, last = np.searchsorted(self.scheduled[: self.count], (since, until))
        return np.arange(first, last)

    def missed(self, counted: Numbers, limit_s: float, *, as_sent: bool = False) -> NDArray[np.bool_]:
        """Of the counted: answered too late, wrongly or not at all. `as_sent` forgives the generator's lateness."""
        latency = self.latency[counted] - self.late[counted] if as_sent else self.latency[counted]
        return self.failed[counted] | ~(latency <= limit_s)

    def waited(self, counted: Numbers, now: float) -> NDArray[np.float64]:
        """Latencies, where a request that has no answer yet has waited until now."""
        latency = self.latency[counted]
        return np.asarray(np.where(np.isnan(latency), now - self.scheduled[counted], latency))

    def kinds_of(self, counted: Numbers) -> dict[str, int]:
        """How many of the counted failed, and how, the most frequent first."""
        numbers = set(counted.tolist())
        return dict(Counter(kind for number, kind in self.kinds.items() if number in numbers).most_common())
