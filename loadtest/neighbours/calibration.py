"""How fast the machine is: fixed work on the server's cores, in moments in which the server has nothing to do.

A machine that others share, as most virtual ones are, changes its speed from second to second and from minute to
minute, and every server on it with it. One moment says little of a load test; the mean of a dozen says most of it.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from statistics import fmean, stdev

from loadtest.neighbours.documents import MachineSpeed

_ADDITIONS = 60_000  # 2 to 5 ms
_TIMES, _APART_S = 3, 0.02  # a moment: on a machine whose speed changes within tenths of a second
_MIN_MOMENTS = 4  # fewer do not tell how far they are apart
_COPIES, _COPY_BYTES = 20, 16 * 2**20  # of which a cache of 300 MiB needs twelve, after a server that filled it
_MAX_CORES = 4  # 100 ms a moment in all
_IDLE = 0.2  # cores, at most, that a server with nothing to do uses


class MachineClock:
    """Times the machine's work, once when it is made and at every `look`. One per load test. `copy_s` is what a `Copy`
    took before the load.
    """

    def __init__(self, cores: Sequence[int], copy_s: float) -> None:
        """OSError where the cores cannot be used."""
        self._cores = cores[:_MAX_CORES]
        self._work_s: list[float] = []
        self._looked_s, self._server_s = 0.0, 0.0
        self._copy_s = copy_s
        self._take_a_moment()

    @classmethod
    def of(cls, cores: Sequence[int], copy_s: float) -> MachineClock | None:
        """None where the cores cannot be used."""
        try:
            return cls(cores, copy_s)
        except OSError:
            return None

    def look(self) -> None:
        """Take a tenth of a second at most, while the server has nothing to do. It counts for nothing where the cores
        were taken away meanwhile.
        """
        with contextlib.suppress(OSError):
            self._take_a_moment()

    def _take_a_moment(self) -> None:
        took_s = []
        for times in range(_TIMES):
            if times:
                time.sleep(_APART_S)
            took_s += [_on(core, _work_s) for core in self._cores]
        self._work_s.append(fmean(took_s))

    def beside(self, server_s: float, took_s: float) -> None:
        """What CPU time the server used during a look that took so long, after all."""
        self._server_s += server_s
        self._looked_s += took_s

    @property
    def speed(self) -> MachineSpeed:
        """Of all moments together. It has no error where they are too few, where the kernel's clock is too coarse for
        them, or where the server kept itself busy: then it slowed the work down.
        """
        busy = self._server_s > _IDLE * self._looked_s
        error = None
        if not busy and len(self._work_s) >= _MIN_MOMENTS and min(self._work_s) > 0:
            error = stdev(map(math.log, self._work_s)) / math.sqrt(len(self._work_s))
        return MachineSpeed(work_ms=fmean(self._work_s) * 1e3, work_error=error, copy_ms=self._copy_s * 1e3)


def _on(core: int, measure: Callable[[], float]) -> float:
    """What is measured while this thread runs on that core only; after that it has its own cores back."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return measure()
    finally:
        os.sched_setaffinity(0, own)


def _work_s() -> float:
    """CPU time of one loop, so that whoever else has the core for a while does not count."""
    begun, total = time.thread_time(), 0
    for number in range(_ADDITIONS):
        total += number & 7
    return time.thread_time() - begun


class Copy:
    """Copies 16 MiB as fast as the memory, or a cache that holds that much, lets it.

    The last level of a large machine's caches does hold it. Then the first copies take twice as long as later ones,
    since the server's own work filled the cache; so many are made that this does not count.
    """

    def __init__(self) -> None:
        self._source, self._target = bytearray(_COPY_BYTES), bytearray(_COPY_BYTES)

    def seconds(self, times: int = _COPIES) -> float:
        """CPU time of the best of several."""
        best_s = float("inf")
        for _ in range(times):
            begun = time.thread_time()
            self._target[:] = self._source
            best_s = min(best_s, time.thread_time() - begun)
        return best_s
