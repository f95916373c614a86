"""Keeps progress flowing while a request hangs or a server drains, so that a caller never wonders whether we live."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

import gevent

from loadtest.plan import LimitedTime, Phase, Progress

_EVERY_S = 0.5


class ProgressReporter:
    """Passes progress on, and repeats the last with the time brought up to date when none has come for a while."""

    def __init__(self, report: Callable[[Progress], None], started: float, max_s: float) -> None:
        self.started = started
        self._report, self._max_s = report, max_s
        self._last = Progress(phase="start", elapsed_s=0.0, fraction=0.0)
        self._reported = started
        self._beats: gevent.Greenlet | None = None

    def __enter__(self) -> ProgressReporter:
        self._beats = gevent.spawn(self._beat)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._beats is not None:
            self._beats.kill()

    def remaining_s(self) -> float:
        """Time left of what was given for everything."""
        return self.started + self._max_s - time.perf_counter()

    def moved(
        self, phase: Phase, rate_qps: float | None = None, p99_ms: float | None = None,
        limited: LimitedTime | None = None,
    ) -> None:  # fmt: skip
        """Say where we are; passed on about twice a second, and at once where the phase is new."""
        last, now = self._last, time.perf_counter()
        seen = {"phase": phase, "rate_qps": rate_qps, "p99_ms": p99_ms, "limited": limited}
        self._last = self._at(now).model_copy(update=seen)
        if phase != last.phase or now - self._reported >= _EVERY_S:
            self._pass_on(now)

    def _at(self, now: float) -> Progress:
        elapsed = now - self.started
        return self._last.model_copy(update={"elapsed_s": elapsed, "fraction": min(1.0, elapsed / self._max_s)})

    def _pass_on(self, now: float) -> None:
        self._reported = now
        self._report(self._last)

    def _beat(self) -> None:
        while True:
            gevent.sleep(max(0.05, self._reported + _EVERY_S - time.perf_counter()))
            now = time.perf_counter()
            if now - self._reported >= _EVERY_S:
                self._last = self._at(now)
                self._pass_on(now)
