"""One server as the generator sees it: what is sent to it, and what sends it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gevent
import numpy as np

from loadtest.arrivals.arrivals import Arrivals
from loadtest.generator.load import Load, LoadSegment, lone
from loadtest.generator.reporter import ProgressReporter
from loadtest.generator.wire.prefix_cache import CacheWatch
from loadtest.judge.burst import BurstResult, burst_is_over
from loadtest.plan import LoadPlan
from loadtest.request.reply import Send
from loadtest.request.request_log import Floats

_LOOK_S = 0.25
_RECOVERED = 2.0  # times a lone request


@dataclass
class ServerUnderTest:
    """One server and what loads it. `load` may be exchanged between probes; the rest of the first line stays.

    `cache` tells what the server's cache of prefixes answered. `reinforce` exchanges the load for more generator
    processes; None where there are no cores for them, or no longer. `probes` counts those so far, and `must_recover`
    says that what came last may have left a backlog: most servers go on with requests whose client has left, and a
    burst leaves as many as it has users. `slowest_s` is the slowest answer that was noted: of all but the very
    first, in which a server may still prepare something.
    """

    plan: LoadPlan
    send: Send
    load: Load
    arrivals: Arrivals
    reporter: ProgressReporter
    cache: CacheWatch | None = None
    reinforce: Callable[[], None] | None = None
    probes: int = 0
    must_recover: bool = False
    slowest_s: float = 0.0

    def remaining_s(self) -> float:
        """Time left for the whole search."""
        return self.reporter.remaining_s()

    def note(self, answers_s: Sequence[float] | Floats) -> None:
        """Remember how long the slowest of them took."""
        self.slowest_s = float(np.max(answers_s, initial=self.slowest_s))

    def lone(self, count: int, until: float, *, has_answered: bool = False) -> tuple[list[float], Counter[str]]:
        """Requests one after the other: their latencies, and what went wrong with those that failed. Of a server that
        `has_answered`, a request that is cut off at the end did not fail.
        """
        return lone(self.send, count, until, has_answered=has_answered)

    def recover(self, base_s: float, at_most_s: float) -> None:
        """Wait until a lone request takes about as long as it does, `base_s`, on a server that nobody else asks."""
        end = time.perf_counter() + at_most_s
        while self.must_recover and base_s and time.perf_counter() < end:
            latencies, _ = self.lone(1, end)
            if latencies and latencies[0] < _RECOVERED * base_s:
                break
        self.must_recover = False

    def burst(self, users: int, longest_s: float) -> BurstResult:
        """A closed loop until each user was answered a few times, for so long at most."""
        longest_s = min(longest_s, max(0.1, self.remaining_s()))
        begun = self.load.start(LoadSegment(1.0, 0, longest_s, users))
        passed_s, done = 0.0, 0
        while not burst_is_over(users, done, passed_s, longest_s):
            gevent.sleep(min(_LOOK_S, max(0.01, longest_s - passed_s)))
            passed_s, done = time.perf_counter() - begun, len(self.load.sent().answers_s())
        self.load.stop()
        sent = self.load.sent()
        self.load.drain(0.0)
        self.must_recover = True
        self.note(sent.answers_s())
        rows = slice(0, sent.count)
        return BurstResult.of(
            users, passed_s, sent.scheduled[rows] - begun, sent.latency[rows].copy(), sent.failed[rows].copy()
        )
