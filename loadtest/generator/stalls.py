"""Notices when the generator itself stood still: a busy loop, or a whole machine that was given no CPU for a while.

What was in flight then looks late and is not, and what was held back goes out as a burst that nobody asked for. A probe
leaves such stretches out as long as they are rare. It must not where the server shares the generator's cores: there the
server may be the cause, and leaving out the worst moments would flatter it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import gevent
import numpy as np
from numpy.typing import NDArray

Stall = tuple[float, float]  # from, to, in seconds

_BEAT_S = 0.004
_RECOVERY = 3.0  # times the stall: how long a server at 75% utilisation works off what was held back
_MAX_LEFT_OUT = 0.3


class StallWatch:
    """Beats in a greenlet of its own, so that stalls are seen at any arrival rate."""

    def __init__(self, tolerance_s: float) -> None:
        self.seen: list[Stall] = []
        self._tolerance_s = tolerance_s
        self._beats: gevent.Greenlet | None = None

    def start(self) -> None:
        """Look for stalls from now on."""
        self._beats = gevent.spawn(self._beat)

    def stop(self) -> None:
        """Look for stalls no longer; those that were seen stay."""
        if self._beats is not None:
            self._beats.kill()

    def _beat(self) -> None:
        while True:
            begun = time.perf_counter()
            gevent.sleep(_BEAT_S)
            ended = time.perf_counter()
            if ended - begun > _BEAT_S + self._tolerance_s:
                self.seen.append((begun, ended))


def undisturbed(scheduled: NDArray[np.float64], stalls: Iterable[Stall], memory_s: float) -> NDArray[np.bool_]:
    """Which of these (sorted) times were far enough from every stall; all of them when too few would be left."""
    kept = np.ones(len(scheduled), dtype=bool)
    for begin, end in stalls:
        recovered = end + memory_s + _RECOVERY * (end - begin)
        first, last = np.searchsorted(scheduled, (begin - memory_s, recovered))
        kept[first:last] = False
    return kept if kept.sum() >= (1 - _MAX_LEFT_OUT) * len(kept) else np.ones(len(scheduled), dtype=bool)
