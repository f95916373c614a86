"""Puts load on the server from this process: open-loop arrivals on schedule, or a closed loop of users."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import gevent
from gevent.pool import Group

from loadtest.arrivals.arrivals import Arrivals
from loadtest.generator.clock import Alarm
from loadtest.generator.stalls import Stall, StallWatch
from loadtest.request.reply import Send
from loadtest.request.request_log import RequestLog

_MAX_ROOM = 1_000_000  # requests, for which room is made before they come: a closed loop's rate is a guess
_FAILED_PAUSE_S = 0.02  # a closed loop against a server that refuses would spin


@dataclass(frozen=True)
class LoadSegment:
    """One stretch of load: open-loop arrivals at a rate, or with `users` a closed loop."""

    rate_qps: float
    seed: int
    longest_s: float
    users: int | None = None


@dataclass(frozen=True)
class Effort:
    """What load cost the busiest generator process: the cores that it used, and the share of time that it waited for
    one.
    """

    cores: float
    starved: float


class Load(Protocol):
    """Loads the server. One stretch at a time: `start`, any number of `sent`, `stop`, then `drain`."""

    workers: int

    def start(self, asked: LoadSegment) -> float:
        """Begin; the time on this process's clock at which the schedule starts."""

    def sent(self) -> RequestLog:
        """What has been sent so far, with the answers that came."""

    def known_until(self) -> float:
        """The time on this process's clock up to which `sent` is complete."""

    def in_flight(self) -> int:
        """Requests that were sent and not yet answered or given up."""

    def stalls(self) -> Sequence[Stall]:
        """When the generator stood still."""

    def stop(self) -> Effort:
        """No more arrivals; what is in flight goes on. Returns what the stretch cost the generator."""

    def drain(self, max_wait_s: float) -> None:
        """Wait for what is in flight, at most so long, and give up the rest."""


@dataclass(frozen=True)
class _Spent:
    """What this process has spent up to a time on its clock, in seconds: of a core, and ready to run without one."""

    at: float
    cpu_s: float
    queued_s: float

    @classmethod
    def so_far(cls) -> _Spent:
        """What this process has spent since it began."""
        cpu_s, queued_s = time.process_time(), _queued_s()
        return cls(time.perf_counter(), cpu_s, queued_s)

    def since(self, before: _Spent) -> Effort:
        """Per second between the two."""
        passed_s = max(1e-6, self.at - before.at)
        return Effort((self.cpu_s - before.cpu_s) / passed_s, (self.queued_s - before.queued_s) / passed_s)


class LocalLoad:
    """Load from this process alone. `part` of `parts` sends every so many-th arrival of the common schedule. It may
    stand still for `stall_s` without a trace.
    """

    workers = 1

    def __init__(
        self, send: Send, arrivals: Arrivals, stall_s: float, *, streaming: bool, part: int = 0, parts: int = 1
    ) -> None:
        self._send, self._arrivals, self._stall_s, self._streaming = send, arrivals, stall_s, streaming
        self._part, self._parts = part, parts
        self._in_flight = Group()
        self._sending: list[gevent.Greenlet] = []
        self._sent = RequestLog(0)
        self._stalls = StallWatch(stall_s)
        self._begun = _Spent(0.0, 0.0, 0.0)

    def start(self, asked: LoadSegment) -> float:
        """See `Load`. The schedule starts now."""
        size = int(min(_MAX_ROOM, 1.5 * asked.rate_qps * asked.longest_s / self._parts)) + 1000
        self._sent, self._in_flight = RequestLog(size, streaming=self._streaming), Group()
        self._begun = _Spent.so_far()
        self._stalls = StallWatch(self._stall_s)
        self._stalls.start()
        if asked.users is not None:
            mine = len(range(self._part, asked.users, self._parts))
            self._sending = [gevent.spawn(self._user, self._sent) for _ in range(mine)]
        else:
            times = islice(self._arrivals.schedule(asked.rate_qps, asked.seed), self._part, None, self._parts)
            self._sending = [gevent.spawn(self._arrive, times, self._sent, self._in_flight)]
        return self._begun.at

    def sent(self) -> RequestLog:
        """See `Load`."""
        return self._sent

    def known_until(self) -> float:
        """See `Load`: now."""
        return time.perf_counter()

    def in_flight(self) -> int:
        """See `Load`."""
        return len(self._in_flight)

    def stalls(self) -> Sequence[Stall]:
        """See `Load`."""
        return self._stalls.seen

    def stop(self) -> Effort:
        """See `Load`."""
        gevent.killall(self._sending)
        self._stalls.stop()
        return _Spent.so_far().since(self._begun)

    def drain(self, max_wait_s: float) -> None:
        """See `Load`."""
        self._in_flight.join(timeout=max(0.0, max_wait_s))
        self._in_flight.kill()

    def _arrive(self, times: Iterator[float], sent: RequestLog, in_flight: Group) -> None:
        """Spawn a greenlet per arrival, on schedule, whatever became of the earlier ones."""
        alarm = Alarm()
        try:
            for offset in times:
                due = self._begun.at + offset
                # Late arrivals go out together; a wait between them is only for the answers to be read meanwhile.
                alarm.wait_until(due)
                in_flight.spawn(self._one, sent, sent.schedule(due), due)
        finally:
            alarm.close()

    def _one(self, sent: RequestLog, number: int, due: float) -> None:
        sent.late[number] = time.perf_counter() - due
        reply = self._send()
        sent.finish(number, time.perf_counter() - due, reply)

    def _user(self, sent: RequestLog) -> None:
        """Sends one request after the other: each is due when the one before is answered."""
        while True:
            begun = time.perf_counter()
            number = sent.schedule(begun)
            reply = self._send()
            sent.finish(number, time.perf_counter() - begun, reply)
            if reply.failure is not None:
                gevent.sleep(_FAILED_PAUSE_S)


def _queued_s() -> float:
    """How many seconds this process has waited for a core so far, if the kernel tells (schedstats)."""
    try:
        return int(Path("/proc/self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def lone(
    send: Send, count: int, until: float, brief_s: float = 2.0, *, has_answered: bool = False
) -> tuple[list[float], Counter[str]]:
    """Requests one after the other: their latencies in seconds, and what went wrong with those that failed.

    A slow server is asked for less than `count`: no more are begun after `brief_s`, once two have ended. One that is
    cut off at `until` failed if none was answered before, here or (`has_answered`) earlier.
    """
    enough = time.perf_counter() + brief_s
    latencies: list[float] = []
    kinds: Counter[str] = Counter()
    while (ended := len(latencies) + kinds.total()) < count and (begun := time.perf_counter()) < until:
        if ended >= 2 and begun >= enough:
            break
        with gevent.Timeout(max(0.1, until - begun), False):
            kind = send().failure
            if kind is None:
                latencies.append(time.perf_counter() - begun)
            else:
                kinds[kind] += 1
                gevent.sleep(_FAILED_PAUSE_S)
            continue
        if not (latencies or has_answered):  # else it is our time that was short, not the server that was slow
            kinds["timeout"] += 1
    return latencies, kinds
