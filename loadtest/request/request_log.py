"""What became of the requests of one probe: plain arrays, so that recording costs little and judging is one pass."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loadtest.request.reply import Reply
from loadtest.slo import Metric

Numbers = NDArray[np.intp]
Floats = NDArray[np.float64]

_TIMES: dict[Metric, int] = {"ttft": 0, "tpot": 1, "per_token": 2}
_OUTPUT, _INPUT = 3, 4  # tokens
_OF_GAPS = (50.0, 90.0, 95.0, 99.0, 99.9)  # percentiles of an answer's own gaps
_GAPS = 5  # the first of their rows
STREAM_ROWS = _GAPS + len(_OF_GAPS)
_EXACT = 1e-6  # what floating point may add to a place, which would be the next one
GOODPUT_GAPS = 99.0  # the percentile of a request's gaps that a limit of the goodput bounds


class RequestLog:
    """Requests by their number, in the order of their schedule. Times are seconds; latency is from the schedule."""

    def __init__(self, size: int, *, streaming: bool = False) -> None:
        self.count = 0
        self.tokens = 0
        self.scheduled = np.full(size, np.inf)
        self.latency = np.full(size, np.nan)
        self.late = np.zeros(size)
        self.failed = np.zeros(size, dtype=bool)
        self.stream = np.full((STREAM_ROWS, size), np.inf) if streaming else None
        self.kinds: dict[int, str] = {}
        self.gaps: dict[int, array[float]] = {}  # seconds between an answer's tokens

    @classmethod
    def merged(cls, parts: Sequence[RequestLog]) -> RequestLog:
        """What several generators sent, in the order of the schedule."""
        found = cls(0, streaming=any(part.stream is not None for part in parts))
        scheduled = np.concatenate([part.scheduled[: part.count] for part in parts])
        order = np.argsort(scheduled, kind="stable")
        found.count, found.tokens = len(order), sum(part.tokens for part in parts)
        found.scheduled = scheduled[order]
        found.latency = np.concatenate([part.latency[: part.count] for part in parts])[order]
        found.late = np.concatenate([part.late[: part.count] for part in parts])[order]
        found.failed = np.concatenate([part.failed[: part.count] for part in parts])[order]
        if found.stream is not None:
            streams = [part.stream[:, : part.count] for part in parts if part.stream is not None]
            found.stream = np.concatenate(streams, axis=1)[:, order]
        place, begin = np.argsort(order), 0
        for part in parts:
            found.kinds |= {int(place[begin + number]): kind for number, kind in part.kinds.items()}
            found.gaps |= {int(place[begin + number]): gaps for number, gaps in part.gaps.items()}
            begin += part.count
        return found

    def schedule(self, due: float) -> int:
        """The number of the next request, due at that time. Room is made when the arrivals outrun what was planned."""
        number = self.count
        if number == len(self.scheduled):
            self._grow()
        self.scheduled[number] = due
        self.count += 1
        return number

    def finish(self, number: int, latency_s: float, reply: Reply) -> None:
        """The answer is complete, or the request was given up."""
        self.latency[number] = latency_s
        if reply.failure is not None:
            self.failed[number] = True
            self.kinds[number] = reply.failure
        elif self.stream is not None and reply.first_token_s is not None and reply.last_token_s is not None:
            self.tokens += reply.tokens
            between = (reply.last_token_s - reply.first_token_s) / max(1, reply.tokens - 1)
            first = float(self.late[number]) + reply.first_token_s
            gaps = array("f", reply.gaps_s)
            self.gaps[number] = gaps
            self.stream[:, number] = (
                first, between, latency_s / max(1, reply.tokens), reply.tokens, reply.input_tokens, *_quantiles(gaps),
            )  # fmt: skip

    def between(self, since: float, until: float) -> Numbers:
        """Which requests were scheduled in that stretch."""
        first, last = np.searchsorted(self.scheduled[: self.count], (since, until))
        return np.arange(first, last)

    def answers_s(self) -> Floats:
        """The latencies of the good answers that came so far."""
        latency = self.latency[: self.count]
        return np.asarray(latency[~(np.isnan(latency) | self.failed[: self.count])])

    def values(self, metric: Metric, *, as_sent: bool = False, of_gaps: float = 99.0) -> Floats:
        """What a limit on that metric bounds, for all requests; infinite where it failed or is not there yet.

        `as_sent` forgives the generator's lateness. Of `itl` it is that percentile of each answer's gaps.
        """
        rows = slice(0, self.count)
        if metric == "latency" or self.stream is None:
            found = self.latency[rows] - self.late[rows] if as_sent else self.latency[rows]
        elif metric == "itl" and of_gaps in _OF_GAPS:
            found = self.stream[_GAPS + _OF_GAPS.index(of_gaps), rows]
        elif metric == "itl":
            found = np.full(self.count, np.inf)
            for number, gaps in self.gaps.items():
                [found[number]] = _quantiles(gaps, (of_gaps,))
        else:
            found = self.stream[_TIMES[metric], rows]
        return np.asarray(np.where(self.failed[rows] | np.isnan(found), np.inf, found))

    def all_gaps(self, counted: Numbers) -> Floats:
        """Every gap between the tokens of those answers, in seconds."""
        found = [self.gaps[number].tobytes() for number in counted.tolist() if number in self.gaps]
        return np.frombuffer(b"".join(found), np.float32).astype(np.float64)

    def token_counts(self, counted: Numbers) -> tuple[Floats, Floats]:
        """The output and input tokens of those answers that are complete and good."""
        if self.stream is None:
            return np.zeros(0), np.zeros(0)
        found = self.stream[_OUTPUT : _INPUT + 1, counted]
        output, prompts = found[:, np.isfinite(found[0])]
        return output, prompts

    def waited(self, counted: Numbers, now: float) -> Floats:
        """Latencies, where a request that has no answer yet has waited until now."""
        latency = self.latency[counted]
        return np.asarray(np.where(np.isnan(latency), now - self.scheduled[counted], latency))

    def kinds_of(self, counted: Numbers) -> dict[str, int]:
        """How many of the counted failed, and how, the most frequent first."""
        numbers = set(counted.tolist())
        return dict(Counter(kind for number, kind in self.kinds.items() if number in numbers).most_common())

    def _grow(self) -> None:
        more = max(1000, len(self.scheduled))
        self.scheduled = np.concatenate([self.scheduled, np.full(more, np.inf)])
        self.latency = np.concatenate([self.latency, np.full(more, np.nan)])
        self.late = np.concatenate([self.late, np.zeros(more)])
        self.failed = np.concatenate([self.failed, np.zeros(more, dtype=bool)])
        if self.stream is not None:
            self.stream = np.concatenate([self.stream, np.full((STREAM_ROWS, more), np.inf)], axis=1)


def _quantiles(gaps: array[float], percentiles: Sequence[float] = _OF_GAPS) -> tuple[float, ...]:
    """The smallest gap that so many percent of them do not exceed; 0 for an answer of one token."""
    ordered = sorted(gaps)
    if not ordered:
        return (0.0,) * len(percentiles)
    places = (math.ceil(len(ordered) * percentile / 100 - _EXACT) - 1 for percentile in percentiles)
    return tuple(ordered[max(0, place)] for place in places)
