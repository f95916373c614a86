"""The spec's `slo:` and `load:` sections: what must hold, and under which load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from loadtest.slo import Metric
from tuner.spec.quantities import Seconds, Share
from tuner.spec.section import Section

MAX_WARMUP_SHARE = 0.5  # of a trial's time; the rest is for probes
_NAMES = {"latency": "", "ttft": " to the first token", "tpot": " per output token", "itl": " between tokens"}


@dataclass(frozen=True)
class SloLimit:
    """`percentile` of all requests stay within `limit_s` on a metric; see `loadtest.LatencyLimit`. Of a goodput, `good`
    are the limits that a good request holds, in seconds.
    """

    metric: Metric
    percentile: float
    limit_s: float
    good: tuple[tuple[Metric, float], ...] = ()

    def __str__(self) -> str:
        if self.good:
            held = (f"{'e2e' if metric == 'latency' else metric} <= {limit * 1e3:g} ms" for metric, limit in self.good)
            return f"goodput >= {self.percentile:g}% ({', '.join(held)})"
        if self.metric == "per_token":
            return f"p{self.percentile:g} of tokens per second >= {1 / self.limit_s:g}"
        return f"p{self.percentile:g}{_NAMES[self.metric]} <= {self.limit_s * 1e3:g} ms"


class PercentileLimits(Section):
    """Limits by percentile."""

    p50: Seconds | None = None
    p90: Seconds | None = None
    p95: Seconds | None = None
    p99: Seconds | None = None
    p999: Seconds | None = Field(default=None, alias="p99.9")

    @property
    def by_percentile(self) -> tuple[tuple[float, float], ...]:
        """(percentile, seconds) of those that are set."""
        pairs = ((50.0, self.p50), (90.0, self.p90), (95.0, self.p95), (99.0, self.p99), (99.9, self.p999))
        return tuple((percentile, limit) for percentile, limit in pairs if limit is not None)


class MinRates(Section):
    """The least tokens per second that a percentage of all answers must get."""

    p50: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    p90: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    p95: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    p99: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class GoodputSpec(Section):
    """The share of requests that must be good at the least; a good request holds each of these limits."""

    at_least: Share = 0.99
    ttft: Seconds | None = None
    tpot: Seconds | None = None
    itl: Seconds | None = None
    e2e: Seconds | None = None

    @model_validator(mode="after")
    def _has_limits(self) -> GoodputSpec:
        if not self.limits:
            raise ValueError("needs a limit, such as ttft: 500ms: what a request must hold to be good")
        if not 0 < self.at_least < 1:
            raise ValueError("at_least must be above 0 and below 100%, as in 99%")
        return self

    @property
    def limits(self) -> tuple[tuple[Metric, float], ...]:
        """(metric, seconds) of those that are set."""
        pairs: tuple[tuple[Metric, float | None], ...] = (
            ("ttft", self.ttft), ("tpot", self.tpot), ("itl", self.itl), ("latency", self.e2e),
        )  # fmt: skip
        return tuple((metric, limit) for metric, limit in pairs if limit is not None)


class SloSpec(PercentileLimits):
    """Latency limits by percentile, and the share of errors; errors count as misses of every limit as well."""

    e2e: PercentileLimits | None = None
    ttft: PercentileLimits | None = None
    tpot: PercentileLimits | None = None
    itl: PercentileLimits | None = None
    goodput: GoodputSpec | None = None
    tokens_per_second: MinRates | None = None
    error_rate: Share | None = None

    @model_validator(mode="after")
    def _has_a_limit(self) -> SloSpec:
        if not self.limits:
            raise ValueError("needs a latency limit, such as p99: 50ms")
        return self

    @property
    def limits(self) -> tuple[SloLimit, ...]:
        """All limits."""
        found = [SloLimit("latency", *pair) for pair in self.by_percentile]
        found += [SloLimit("latency", *pair) for pair in (self.e2e.by_percentile if self.e2e else ())]
        found += [SloLimit("ttft", *pair) for pair in (self.ttft.by_percentile if self.ttft else ())]
        found += [SloLimit("tpot", *pair) for pair in (self.tpot.by_percentile if self.tpot else ())]
        found += [SloLimit("itl", *pair) for pair in (self.itl.by_percentile if self.itl else ())]
        if self.goodput is not None:
            good = self.goodput.limits
            longest_s = max(limit for _, limit in good)
            found.append(SloLimit("goodput", 100 * self.goodput.at_least, longest_s, good))
        rates = self.tokens_per_second or MinRates()
        pairs = ((50.0, rates.p50), (90.0, rates.p90), (95.0, rates.p95), (99.0, rates.p99))
        return (*found, *(SloLimit("per_token", percentile, 1 / rate) for percentile, rate in pairs if rate))


class BurstSpec(Section):
    """For `share` of the time, `length` at a time on average, the rate is `factor` times the mean."""

    factor: float = Field(default=3.0, gt=1, allow_inf_nan=False)
    share: Share = 0.1
    length: Seconds = 1.0

    @model_validator(mode="after")
    def _leaves_the_mean(self) -> BurstSpec:
        if not 0 < self.factor * self.share <= 1:
            raise ValueError("factor times share must be above 0 and at most 1, so that the mean can be kept")
        return self


class LoadSpec(Section):
    """How a trial loads the server. `max_trial` bounds warm-up and load of one trial, not the server's start; it ends
    sooner when the capacity is known to within `precision`, either way.
    """

    max_trial: Seconds = 90.0
    precision: Share = 0.05
    max_warmup: Seconds = 15.0
    arrivals: Literal["poisson", "constant", "bursty", "trace", "closed"] = "poisson"
    burst: BurstSpec | None = None
    trace: str | None = None
    users: int | None = Field(default=None, ge=1, le=10_000)
    locustfile: str | None = None
    workers: int = Field(default=1, ge=1, le=64)

    @property
    def longest_warmup_s(self) -> float:
        """How much of a trial the warm-up may take."""
        return min(self.max_warmup, MAX_WARMUP_SHARE * self.max_trial)

    @model_validator(mode="after")
    def _belongs_together(self) -> LoadSpec:
        if not 0 < self.precision < 1:
            raise ValueError("precision must be above 0 and below 100%, as in 5%")
        for key, kind in (("burst", "bursty"), ("trace", "trace"), ("users", "closed")):
            given = getattr(self, key) is not None
            if given and self.arrivals != kind:
                raise ValueError(f"{key} goes with arrivals: {kind} only")
            if not given and self.arrivals == kind and kind != "bursty":
                raise ValueError(f"arrivals: {kind} needs {key}")
        return self
