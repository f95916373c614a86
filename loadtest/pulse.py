"""Keeps progress flowing while a request hangs or a server drains, so that a caller never wonders whether we live."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

import gevent

from loadtest.plan import Progress

_EVERY_S = 0.5


class Pulse:
    """Passes progress on, and repeats the last with the time brought up to date when none has come for a while."""

    def __init__(self, report: Callable[[Progress], None], started: float, max_s: float) -> None:
        self._report, self._started, self._max_s = report, started, max_s
        self._last = Progress(phase="start", elapsed_s=0.0, fraction=0.0)
        self._reported = started
        self._beats: gevent.Greenlet | None = None

    def __enter__(self) -> Pulse:
        self._beats = gevent.spawn(self._beat)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._beats is not None:
            self._beats.kill()

    def report(self, progress: Progress) -> None:
        """Pass on what is new."""
        self._last, self._reported = progress, time.perf_counter()
        self._report(progress)

    def _beat(self) -> None:
        while True:
            gevent.sleep(max(0.05, self._reported + _EVERY_S - time.perf_counter()))
            now = time.perf_counter()
            if now - self._reported >= _EVERY_S:
                elapsed = now - self._started
                moved = {"elapsed_s": elapsed, "fraction": min(1.0, elapsed / self._max_s)}
                self.report(self._last.model_copy(update=moved))
