"""The percentiles that every display shows of a trial: those that the SLO limits, by the same names everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from results.text import milliseconds, seen_at
from results.trial_parts import Estimate, LanguageRecord, Latencies, Record

_NAMES = {"latency": "", "ttft": "first token ", "tpot": "per token ", "itl": "gaps "}


class Timed(Protocol):
    """A trial, or a choice: what has latencies, and times of tokens where its answers are streamed."""

    @property
    def latency(self) -> Latencies:
        """Its latencies at the highest rate that held, with the error rate."""

    @property
    def language(self) -> LanguageRecord | None:
        """What it showed of a language model."""


@dataclass(frozen=True)
class Percentile:
    """A percentile of one of a request's times: `Percentile("ttft", 95)` is the `first token p95`."""

    metric: Literal["latency", "ttft", "tpot", "itl"]
    percent: float

    @property
    def name(self) -> str:
        """What it is called wherever it is shown."""
        return f"{_NAMES[self.metric]}p{self.percent:g}"

    @property
    def column(self) -> str:
        """Its column in trials.csv."""
        return self._field if self.metric == "latency" else f"{self.metric}_{self._field}"

    @property
    def _field(self) -> str:
        return f"p{self.percent:g}_ms".replace(".", "")

    def of(self, one: Timed) -> Estimate | None:
        """Its value in milliseconds; None where it was not measured."""
        return self.among(one.latency if self.metric == "latency" else getattr(one.language, self.metric, None))

    def text(self, one: Timed) -> str:
        """`21.7 ms`; a dash where it was not measured."""
        return _text(self.of(one))

    def among(self, times: Record | None) -> Estimate | None:
        """The same, of a record that has percentiles of one time. The p99 alone has an interval."""
        found: Estimate | float | None = getattr(times, self._field, None)
        return found if found is None or isinstance(found, Estimate) else Estimate.exactly(found)

    def text_among(self, times: Record) -> str:
        """The text of `among`."""
        return _text(self.among(times))


P99 = Percentile("latency", 99.0)


def shown_percentiles(limited: Sequence[Percentile], known: Iterable[Timed]) -> tuple[Percentile, ...]:
    """What is shown of each of these: what the SLO limits, as far as any of them has it; else the p99."""
    several = tuple(known)
    return tuple(one for one in limited if any(one.of(each) is not None for each in several)) or (P99,)


def high_percentiles(limited: Sequence[Percentile], known: Sequence[Record]) -> tuple[Percentile, ...]:
    """What is shown beside the p50 of such records of the whole answer's latency: what the SLO limits; else the p99."""
    high = (one for one in limited if one.metric == "latency" and one.percent > 50)
    return tuple(one for one in high if any(one.among(each) is not None for each in known)) or (P99,)


def standing_percentile(limited: Sequence[Percentile]) -> Percentile:
    """The one that stands for the SLO where a single one is compared: of its first time, that nearest to the 99th."""
    first = [one for one in limited if one.metric == limited[0].metric]
    return min(first, key=lambda one: abs(one.percent - 99), default=P99)


def names(percentiles: Sequence[Percentile]) -> str:
    """`p50 and p95`."""
    return " and ".join(one.name for one in percentiles)


def _text(found: Estimate | None) -> str:
    return milliseconds(found.value if found else None)


def seen(one: Timed, percentiles: Sequence[Percentile]) -> str | None:
    """`at 104 requests/s, of 1,240 requests`: where they were seen; None where nobody knows, or none was measured."""
    if all(each.of(one) is None for each in percentiles):
        return None
    return seen_at(one.latency.latencies_at_qps, one.latency.latencies_from_requests)
