"""Latencies as an HDR histogram: microseconds to ten minutes at three significant digits, mergeable, compact."""

from __future__ import annotations

import math
from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

from loadtest.plan import Interval

_LONGEST_US = 600_000_000


class LatencyHistogram:
    """Counts latencies given in seconds; answers in milliseconds."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LONGEST_US, 3)

    @classmethod
    def of(cls, latencies_s: Iterable[float]) -> LatencyHistogram:
        """A histogram of latencies in seconds; what lies outside the range counts at its end."""
        found = cls()
        for latency in latencies_s:
            found.record(latency)
        return found

    def record(self, latency_s: float) -> None:
        """Count one latency."""
        self._histogram.record_value(min(max(1, round(min(latency_s, 1e4) * 1e6)), _LONGEST_US))

    @property
    def count(self) -> int:
        """How many latencies were recorded."""
        return int(self._histogram.get_total_count())

    def percentile_ms(self, percentile: float) -> float | None:
        """The latency that `percentile` percent did not exceed; None when nothing was recorded."""
        return self._histogram.get_value_at_percentile(percentile) / 1e3 if self.count else None

    def interval_ms(self, percentile: float) -> Interval | None:
        """The percentile with its 95% interval by order statistics.

        The number of n independent samples below the true p-quantile is Binomial(n, p), here by its normal
        approximation (Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2).
        """
        value, n, p = self.percentile_ms(percentile), self.count, percentile / 100
        if value is None:
            return None
        spread = 1.96 * math.sqrt(p * (1 - p) / n)
        low = self.percentile_ms(max(0.0, 100 * (p - spread)))
        high = self.percentile_ms(min(100.0, 100 * (p + spread)))
        return Interval(value=value, low=min(low or value, value), high=max(high or value, value))

    def encode(self) -> str:
        """The library's compressed form, as base64 text; `HdrHistogram.decode` reads it in any language."""
        encoded: bytes = self._histogram.encode()
        return encoded.decode("ascii")

    def add_encoded(self, encoded: str) -> None:
        """Merge another histogram from its text."""
        self._histogram.decode_and_add(encoded)
