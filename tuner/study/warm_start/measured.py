"""One measurement of another tool, and what it proves: that the whole SLO held at a rate, or nothing."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from results import Estimate, Latencies, TrialRecord
from results.text import share
from search_spaces import Configuration, ParameterValue
from search_spaces.reading import quoted
from tuner.spec.load import SloLimit
from tuner.spec.reading import LoadedSpec

PERCENTILES = {"p50": 50.0, "p75": 75.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
_MIN_RATE_QPS, _MAX_FIGURE = 1e-5, 1e12  # further, no server serves

Percentiles = Mapping[float, float]  # percentile -> milliseconds


class LeftOutError(Exception):
    """A measurement that proves nothing here; the message is the reason."""


@dataclass(frozen=True)
class ToolMeasurement:
    """One measurement of another tool: requests/s, its latencies by metric, and the share of requests that failed."""

    rate_qps: float
    times: Mapping[str, Percentiles]
    errors: float = 0.0

    @property
    def p99_ms(self) -> float | None:
        """The p99 of whole answers; None where the tool measured none."""
        return self.times.get("latency", {}).get(99.0)


Reading = tuple[Configuration, ToolMeasurement]


@dataclass
class Best:
    """The highest rate of each configuration, while a file is read."""

    rates: dict[tuple[tuple[str, ParameterValue], ...], ToolMeasurement] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    read: int = 0

    def add(self, configuration: Configuration, one: ToolMeasurement) -> None:
        """Kept where it is the highest rate of this configuration so far."""
        key = tuple(configuration.items())
        if key not in self.rates or one.rate_qps > self.rates[key].rate_qps:
            self.rates[key] = one

    def collect(self, entries: Iterable[Any], read: Callable[[Any], Reading], loaded: LoadedSpec) -> Best:
        """Read each entry; what proves nothing is counted with its reason. Where every request of every entry failed,
        that is what is known of its configuration.
        """
        failed: list[Configuration] = []
        for entry in entries:
            self.read += 1
            try:
                configuration, one = read(entry)
                if one.errors >= 1:
                    failed.append(configuration)
                check_slo(loaded, one)
                self.add(configuration, one)
            except LeftOutError as error:
                self.left_out[str(error)] += 1
            except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
                lacking = isinstance(error, KeyError)
                why = f"they lack {quoted(error.args[0], 40)}" if lacking else "a part is not as the tool writes it"
                self.left_out[why] += 1
        if failed and len(failed) == self.read:
            for configuration in failed:
                self.rates[tuple(configuration.items())] = ToolMeasurement(0.0, {}, errors=1.0)
            self.left_out.clear()
        return self

    def records(self) -> tuple[TrialRecord, ...]:
        """The measurements as trials, one per configuration."""
        return tuple(_record(number, dict(key), one) for number, (key, one) in enumerate(self.rates.items()))


def percentiles_ms(found: Mapping[str, Any], scale: float = 1.0) -> dict[float, float]:
    """`p50`, `p999` and so on by their percentile, times `scale`."""
    return {at: float(found[key]) * scale for key, at in PERCENTILES.items() if found.get(key) is not None}


def number_of(cells: Mapping[str, str], name: str, default: float | None = None) -> float:
    """A cell's number. Raises LeftOutError where there is none."""
    text = cells.get(name, "")
    if not text and default is not None:
        return default
    try:
        value = float(text)
    except ValueError as error:
        raise LeftOutError(f"{name} is {'empty' if not text else 'no number'}") from error
    if not (math.isfinite(value) and value >= 0):
        raise LeftOutError(f"{name} is {quoted(text, 30)[1:-1]}, which nothing has")
    return value


def check_slo(loaded: LoadedSpec, one: ToolMeasurement) -> None:
    """Raises LeftOutError unless it is proved that the whole SLO held."""
    figures = [one.rate_qps, one.errors, *(value for times in one.times.values() for value in times.values())]
    if not all(0 <= value <= _MAX_FIGURE for value in figures) or (one.rate_qps < _MIN_RATE_QPS and one.errors < 1):
        raise LeftOutError("a figure of theirs is none")
    slo = loaded.spec.slo
    limits: Sequence[SloLimit] = slo.limits if slo is not None else ()
    # A failed request is late by every limit.
    allowed = min((1 - limit.percentile / 100 for limit in limits), default=1.0)
    if slo is not None and slo.error_rate is not None:
        allowed = min(allowed, slo.error_rate)
    if one.errors > allowed + 1e-12:
        raise LeftOutError(f"more than {share(allowed)} of their requests failed")
    for limit in limits:
        held = _held(limit, one.times.get(limit.metric, {}))
        if held is None:
            raise LeftOutError(f"they do not say whether {limit} held")
        if not held:
            raise LeftOutError(f"they broke {limit}")


def _held(limit: SloLimit, times: Percentiles) -> bool | None:
    """A higher percentile within a limit proves it, a lower one beyond it breaks it; else it is not known."""
    limit_ms = limit.limit_s * 1e3
    if any(at >= limit.percentile and value <= limit_ms for at, value in times.items()):
        return True
    return False if any(at <= limit.percentile and value > limit_ms for at, value in times.items()) else None


def bare_name(name: str) -> str:
    """`add_sub` and `addsub` are one model to people."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _record(number: int, configuration: dict[str, ParameterValue], one: ToolMeasurement) -> TrialRecord:
    if one.errors >= 1:
        return TrialRecord(
            number=number, state="infeasible", configuration=configuration, reason="every request failed"
        )
    return TrialRecord(
        number=number,
        state="complete",
        configuration=configuration,
        capacity_qps=Estimate.exactly(one.rate_qps),
        latency=Latencies(p99_ms=None if one.p99_ms is None else Estimate.exactly(one.p99_ms), error_rate=one.errors),
    )
