"""How fast the machine is at this moment: fixed work on the server's cores, while the server has nothing to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from loadtest.neighbours.documents import MachineSpeed

_ROUNDS, _ADDITIONS = 6, 60_000  # a round takes 2 to 4 ms
_COPIES, _COPY_BYTES = 20, 16 * 2**20  # of which a cache of 300 MiB needs twelve, after a server that filled it
_MAX_CORES = 4  # 100 ms in all


def machine_speed(cores: Sequence[int]) -> MachineSpeed | None:
    """The best of several rounds, since whatever else runs only prolongs them. None where the cores cannot be used."""
    try:
        work_s = [_on(core, _work_s) for core in cores[:_MAX_CORES]]
        copy_s = _on(cores[0], Copy().seconds)
    except OSError:
        return None
    return MachineSpeed(work_ms=sum(work_s) / len(work_s) * 1e3, copy_ms=copy_s * 1e3)


def _on(core: int, measure: Callable[[], float]) -> float:
    """What is measured while this thread runs on that core only; after that it has its own cores back."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return measure()
    finally:
        os.sched_setaffinity(0, own)


def _work_s() -> float:
    """CPU time, so that whoever else has the core for a while does not count."""
    best_s = float("inf")
    for _ in range(_ROUNDS):
        begun, total = time.thread_time(), 0
        for number in range(_ADDITIONS):
            total += number & 7
        best_s = min(best_s, time.thread_time() - begun)
    return best_s


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
