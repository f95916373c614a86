"""What must hold: limits on the times of requests, and on the share of those that fail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from loadtest.document import Document

Metric = Literal["latency", "ttft", "tpot", "itl", "per_token", "goodput"]

_TIMEOUT_S = 10.0


class LatencyLimit(Document):
    """`percentile` (0 to 100, exclusive) of all requests must stay within `limit_ms`, on one of these times:

    - `latency`: from the scheduled arrival to the end of the answer.
    - `ttft`: from the scheduled arrival to the first token of a streamed answer.
    - `tpot`: the mean time between its tokens (time per output token).
    - `itl`: every gap between its tokens: `percentile` of an answer's gaps must stay within the limit as well.
    - `per_token`: from the scheduled arrival to its end, over the number of tokens: 1000 over tokens per second.
    - `goodput`: all limits of `good_ms` at once, of which `limit_ms` is the longest: a request is good when it holds
      each of them. Of its gaps, 99% must.
    """

    metric: Metric = "latency"
    percentile: float = Field(gt=0, lt=100)
    limit_ms: float = Field(gt=0)
    good_ms: dict[Metric, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _good_is_said(self) -> LatencyLimit:
        if (self.metric == "goodput") != bool(self.good_ms) or "goodput" in self.good_ms:
            raise ValueError("goodput needs good_ms: the limits that make a request good; no other metric has them")
        return self

    @property
    def of_tokens(self) -> bool:
        """Whether it bounds a time that only a streamed answer has."""
        return bool({"ttft", "tpot", "itl", "per_token"} & {self.metric, *self.good_ms})

    @property
    def flattered(self) -> bool:
        """Whether a generator that reads answers late sees better times: several tokens that it reads at once seem to
        have come at once.
        """
        return bool({"tpot", "itl"} & {self.metric, *self.good_ms})


class Slo(Document):
    """A rate meets the SLO when every latency limit holds and the share of errors is at most `error_rate`.

    Errors and time-outs count as misses of every latency limit as well: they are never dropped.
    """

    latency: tuple[LatencyLimit, ...] = Field(min_length=1)
    error_rate: float | None = Field(default=None, ge=0, lt=1)

    @property
    def slowest_ms(self) -> float:
        """The longest that an answer, or its first token, may take by any limit; 0 without one."""
        return slowest(pair for one in self.latency for pair in (one.good_ms or {one.metric: one.limit_ms}).items())


def slowest(limits: Iterable[tuple[Metric, float]]) -> float:
    """The longest of those limits that are on an answer, or on its first token; 0 without one."""
    return max((limit for metric, limit in limits if metric in ("latency", "ttft")), default=0.0)


def timeout_s(slowest_s: float) -> float:
    """When a request is given up where nothing is said: so late that an answer beyond the slowest limit has a latency,
    and is no error.
    """
    return max(_TIMEOUT_S, 2 * slowest_s)
