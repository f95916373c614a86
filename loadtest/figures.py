"""The figures of an answer that need no other part of it."""

from __future__ import annotations

from pydantic import Field

from loadtest.document import Document


class Interval(Document):
    """An estimate with its 95% interval."""

    value: float
    low: float
    high: float


class Percentiles(Document):
    """Percentiles of a time that a streamed answer has besides its latency."""

    p50_ms: float
    p90_ms: float | None = None
    p95_ms: float
    p99_ms: float
    p999_ms: float | None = Field(default=None, description="the 99.9th percentile")


class WarmupPoint(Document):
    """What a stretch of the warm-up showed: the median latency and the answers per second."""

    at_s: float
    p50_ms: float
    qps: float


class BackgroundMeasurement(Document):
    """A best-effort endpoint: what it answered per second alone, at the highest rate that the others held, and in each
    of the measurement's probes.
    """

    name: str
    alone_qps: Interval | None = None
    throughput_qps: Interval | None = None
    probes_qps: tuple[Interval, ...] = ()
    error_rate: float | None = None


class StageTimes(Document):
    """How long a stage of a chain takes to answer, with all that it calls: the mean of lone requests while the chain is
    idle, and of those that were sent to it while the chain was loaded at its entry. `saturated_qps` is what it answers
    to many users who ask it alone. The entry has no name.
    """

    name: str = ""
    lone_ms: float | None = None
    mean_ms: float | None = None
    saturated_qps: float | None = None
    requests: int = 0
    errors: int = 0
