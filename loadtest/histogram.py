"""Latencies as an HDR histogram: microseconds to ten minutes at three significant digits, mergeable, compact."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from hdrh.histogram import HdrHistogram

_LONGEST_US = 600_000_000
_EXACT_BITS = 11  # the histogram keeps values below 2^11 exactly, and that many leading bits of larger ones


class LatencyHistogram:
    """Counts latencies given in seconds; answers in milliseconds."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LONGEST_US, 3)

    @classmethod
    def of(cls, latencies_s: Iterable[float]) -> LatencyHistogram:
        """A histogram of latencies in seconds; what lies outside the range counts at its end."""
        found = cls()
        found.record(latencies_s)
        return found

    def record(self, latencies_s: Iterable[float]) -> None:
        """Count latencies. Those that the histogram cannot tell apart go in together: one by one is 50 times slower."""
        micros = np.clip(np.rint(np.fromiter(latencies_s, dtype=float) * 1e6), 1, _LONGEST_US)
        dropped = np.maximum(0, np.frexp(micros)[1] - _EXACT_BITS)
        values, counts = np.unique((micros.astype(np.int64) >> dropped) << dropped, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self._histogram.record_value(value, count)

    @property
    def count(self) -> int:
        """How many latencies were recorded."""
        return int(self._histogram.get_total_count())

    def percentile_ms(self, percentile: float) -> float | None:
        """The latency that `percentile` percent did not exceed; None when nothing was recorded."""
        return self._histogram.get_value_at_percentile(percentile) / 1e3 if self.count else None

    def encode(self) -> str:
        """The library's compressed form, as base64 text; `HdrHistogram.decode` reads it in any language."""
        encoded: bytes = self._histogram.encode()
        return encoded.decode("ascii")

    @classmethod
    def decode(cls, encoded: str) -> LatencyHistogram:
        """What `encode` made."""
        found = cls()
        found.add_encoded(encoded)
        return found

    def counts_ms(self, step: float) -> list[tuple[float, int]]:
        """Counts up to bounds in milliseconds, each bound `step` times the one before; those with a count alone."""
        counts: dict[int, int] = {}
        for item in self._histogram.get_recorded_iterator():
            place = math.ceil(math.log(item.value_iterated_to / 1e3) / math.log(step) - 1e-9)
            counts[place] = counts.get(place, 0) + item.count_added_in_this_iter_step
        return [(float(f"{step**place:.4g}"), counts[place]) for place in sorted(counts)]

    def add_encoded(self, encoded: str) -> None:
        """Merge another histogram from its text."""
        self._histogram.decode_and_add(encoded)
