"""Notices when the generator itself stood still: a busy loop, or a whole machine that was given no CPU for a while.

What was in flight then looks late and is not, and what was held back goes out as a burst that nobody asked for. A probe
leaves such stretches out as long as they are rare. It must not where the server shares the generator's cores: there the
server may be the cause, and leaving out the worst moments would flatter it.
"""

from __future__ import annotations

import time

import gevent
import numpy as np
from numpy.typing import NDArray

_BEAT_S = 0.004
_RECOVERY = 3.0  # times the stall: how long a server at 75% utilisation works off what was held back
_MOST_LEFT_OUT = 0.3


class StallWatch:
    """Beats in a greenlet of its own, so that stalls are seen at any arrival rate. Use as a context."""

    def __init__(self, tolerance_s: float, memory_s: float) -> None:
        self._tolerance_s, self._memory_s = tolerance_s, memory_s
        self._stalls: list[tuple[float, float]] = []
        self._beats: gevent.Greenlet | None = None

    def __enter__(self) -> StallWatch:
        self._beats = gevent.spawn(self._beat)
        return self

    def __exit__(self, *_: object) -> None:
        if self._beats is not None:
            self._beats.kill()

    def undisturbed(self, scheduled: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of these (sorted) times were far enough from every stall; all of them when too few would be left."""
        kept = np.ones(len(scheduled), dtype=bool)
        for begin, end in self._stalls:
            recovered = end + self._memory_s + _RECOVERY * (end - begin)
            first, last = np.searchsorted(scheduled, (begin - self._memory_s, recovered))
            kept[first:last] = False
        return kept if kept.sum() >= (1 - _MOST_LEFT_OUT) * len(kept) else np.ones(len(scheduled), dtype=bool)

    def _beat(self) -> None:
        while True:
            begun = time.perf_counter()
            gevent.sleep(_BEAT_S)
            ended = time.perf_counter()
            if ended - begun > _BEAT_S + self._tolerance_s:
                self._stalls.append((begun, ended))
