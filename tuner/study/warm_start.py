"""What was measured before: earlier runs of this tool, and results of other tools, as records to learn from.

Another tool's result counts where it proves what a trial would prove: the rate at which this model held the whole SLO,
in a configuration of the space. What does not is left out, counted, and said with its reason.
"""

from __future__ import annotations

import ast
import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results import (
    Estimate,
    Latencies,
    TrialRecord,
)
from search_spaces import Configuration, ParameterValue, Role
from search_spaces.reading import InputError, parsed_json, quoted, read_text, shown
from tuner.errors import UsageError
from tuner.spec.load import SloLimit
from tuner.spec.reading import LoadedSpec
from tuner.study.storage.archive import Archive
from tuner.study.storage.connection import sqlite_url

_INSTANCES = re.compile(r"(\d+)\s*[:/]")
_SHOWN = 3
_SCALES_MS = {"ms": 1.0, "s": 1e3, "sec": 1e3, "us": 1e-3, "ns": 1e-6}
_PERCENTILES = {"p50": 50.0, "p75": 75.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}

Percentiles = Mapping[float, float]  # percentile -> milliseconds


class _LeftOutError(Exception):
    """A measurement that proves nothing here; the message is the reason."""


@dataclass(frozen=True)
class WarmStart:
    """`records` of `read` measurements; `left_out` says of the others why, and how many."""

    name: str
    read: int
    records: tuple[TrialRecord, ...]
    left_out: Mapping[str, int]

    @property
    def note(self) -> str:
        """What was read, in a sentence."""
        text = f"{self.name}: read {self.read} trials"
        if not self.left_out:
            return text
        why = [f"{count} because {reason}" for reason, count in Counter(self.left_out).most_common(_SHOWN)]
        more = f", and {len(self.left_out) - _SHOWN} reasons more" if len(self.left_out) > _SHOWN else ""
        return f"{text}, left out {sum(self.left_out.values())}: {'; '.join(why)}{more}"


@dataclass(frozen=True)
class _Measured:
    """One measurement of another tool: requests/s, its latencies by metric, and the share of requests that failed."""

    rate_qps: float
    times: Mapping[str, Percentiles]
    errors: float = 0.0

    @property
    def p99_ms(self) -> float | None:
        return self.times.get("latency", {}).get(99.0)


@dataclass
class _Best:
    """The highest rate of each configuration, while a file is read."""

    rates: dict[tuple[tuple[str, ParameterValue], ...], _Measured] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    read: int = 0

    def add(self, configuration: Configuration, one: _Measured) -> None:
        key = tuple(configuration.items())
        if key not in self.rates or one.rate_qps > self.rates[key].rate_qps:
            self.rates[key] = one

    def records(self) -> tuple[TrialRecord, ...]:
        return tuple(_record(number, dict(key), one) for number, (key, one) in enumerate(self.rates.items()))


def read_warm_start(path: Path, loaded: LoadedSpec) -> WarmStart:
    """The trials of a run's folder, or what another tool's file proves. Raises UsageError where there is nothing."""
    where = f"--warm-start {shown(path)}"
    if path.is_dir():
        if not (path / "study.db").is_file():
            raise UsageError(f"{where}: no study.db in it; name the output folder of an earlier run")
        found = Archive(sqlite_url(path)).snapshot()
        left_out = Counter("they cannot be read" for _ in found.damaged)
        return WarmStart(shown(path), len(found.records) + len(found.damaged), found.records, left_out)
    try:
        text = read_text(path)
        if path.suffix.lower() == ".csv":
            best = _model_analyzer(text, loaded)
        else:
            best = _json_results(parsed_json(path, text), loaded, where)
    except InputError as error:
        raise UsageError(f"--warm-start {error}") from error
    except csv.Error as error:
        raise UsageError(f"{where} is not a table of Model Analyzer: {error}") from error
    made = WarmStart(shown(path), best.read, best.records(), best.left_out)
    if not made.records:
        raise UsageError(f"--warm-start: nothing can be learned from {made.note}")
    return made


def _model_analyzer(text: str, loaded: LoadedSpec) -> _Best:
    """Triton Model Analyzer's metrics-model-inference.csv: per model configuration the highest throughput within the
    SLO. `Max Batch Size` and the instances in `Instance Group` become the parameters with those roles.
    """
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    columns = reader.fieldnames or []
    for needed in ("Instance Group", "Throughput (infer/sec)"):
        if needed not in columns:
            raise UsageError(
                f"--warm-start: a .csv is read as Model Analyzer's metrics-model-inference.csv, and this one has no "
                f"column {needed}; it has {quoted(', '.join(map(str, columns)), 120)}"
            )
    best = _Best()
    rows = [row for row in reader if any(row.values())]
    # A file about one model is about ours, whatever it calls it, unless the spec says what the model is called.
    named = loaded.spec.service.model.name
    several = len({_plain(row.get("Model") or "") for row in rows}) > 1
    model = named or (loaded.spec.service.name if several else None)
    for row in rows:
        best.read += 1
        try:
            best.add(*_analyzed(row, loaded, model))
        except _LeftOutError as error:
            best.left_out[str(error)] += 1
    return best


def _analyzed(row: Mapping[str, str | None], loaded: LoadedSpec, model: str | None) -> tuple[Configuration, _Measured]:
    """What a row proves of that model (None: of whichever it is of). Raises _LeftOutError."""
    if None in row or any(value is None for value in row.values()):
        raise _LeftOutError("the line has not as many cells as the heading")
    cells = {name: (value or "").strip() for name, value in row.items()}
    if "," in cells.get("Model", "") or "," in cells["Instance Group"]:
        raise _LeftOutError("several models were measured at once")
    if model is not None and cells.get("Model") and _plain(cells["Model"]) != _plain(model):
        raise _LeftOutError(f"they are of the model {quoted(cells['Model'], 40)[1:-1]}, and not of {model}")
    copies: Role = "workers" if loaded.space.with_role("workers") else "instances"
    values: dict[Role, ParameterValue] = {
        "batch_size": _batch_size(cells),
        copies: sum(int(count) for count in _INSTANCES.findall(cells["Instance Group"])),
    }
    parameters = {role: loaded.space.with_role(role) for role in values}
    configuration = {found.name: values[role] for role, found in parameters.items() if found is not None}
    if not configuration:
        raise _LeftOutError("the space has no parameter for the batch size or the instances")
    for found in parameters.values():
        if found is not None and loaded.space.rank(found, configuration[found.name]) is None:
            raise _LeftOutError("their configuration is not in the space")
    # Throughput counts inferences; a request of the client's carries so many of them.
    requests = _figure(cells, "Throughput (infer/sec)") / _figure(cells, "Batch", default=1.0)
    times = {
        percentile: _figure(cells, name)
        for key, percentile in _PERCENTILES.items()
        if (name := f"{key} Latency (ms)") in cells
    }
    one = _Measured(requests, {"latency": times})
    _check_slo(loaded, one)
    return configuration, one


def _batch_size(cells: Mapping[str, str]) -> int:
    if "Max Batch Size" in cells:
        return int(_figure(cells, "Max Batch Size"))
    # Before version 1.10 it named the sizes that its batcher preferred.
    try:
        sizes = ast.literal_eval(cells.get("Preferred Batch Sizes") or "[]")
        return max(int(size) for size in sizes)
    except (ValueError, SyntaxError, TypeError, RecursionError) as error:
        raise _LeftOutError("they do not say their batch size") from error


def _figure(cells: Mapping[str, str], name: str, default: float | None = None) -> float:
    text = cells.get(name, "")
    if not text and default is not None:
        return default
    try:
        value = float(text)
    except ValueError as error:
        raise _LeftOutError(f"{name} is {'empty' if not text else 'no number'}") from error
    if not (math.isfinite(value) and value >= 0):
        raise _LeftOutError(f"{name} is {quoted(text, 30)[1:-1]}, which nothing has")
    return value


def _json_results(content: Any, loaded: LoadedSpec, where: str) -> _Best:
    """GuideLLM's benchmarks.json, or AIPerf's profile_export_aiperf.json: the highest rate within the SLO. They do not
    say how the server was configured: it is taken to be the spec's `current`.
    """
    if loaded.spec.current is None:
        raise UsageError(
            "--warm-start: GuideLLM and AIPerf do not record the server's configuration; give it in `current:`"
        )
    benchmarks = content.get("benchmarks") if isinstance(content, dict) else None
    is_aiperf = isinstance(content, dict) and "request_throughput" in content
    if not (isinstance(benchmarks, list) or is_aiperf):
        raise UsageError(f"{where}: neither a result of GuideLLM nor of AIPerf (.json), nor of Model Analyzer (.csv)")
    best, failed = _Best(), 0
    configuration = dict(loaded.spec.current)
    for one in benchmarks if isinstance(benchmarks, list) else [content]:
        best.read += 1
        try:
            measured = _guidellm(one) if isinstance(benchmarks, list) else _aiperf(one)
            failed += measured.errors >= 1
            _check_slo(loaded, measured)
            best.add(configuration, measured)
        except _LeftOutError as error:
            best.left_out[str(error)] += 1
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            best.left_out[f"they lack a part ({quoted(str(error), 40)})"] += 1
    if best.read and failed == best.read:
        best.rates[tuple(configuration.items())] = _Measured(0.0, {}, errors=1.0)
        best.left_out.clear()
    return best


def _guidellm(one: Mapping[str, Any]) -> _Measured:
    """Its request latency is in seconds, the times of tokens in milliseconds. What its end cut off is no error."""
    metrics = one["metrics"]
    totals = metrics.get("request_totals") or {}
    good, bad = _count(totals, "successful"), _count(totals, "errored")
    errors = bad / (good + bad) if good + bad else 0.0
    if errors >= 1:
        return _Measured(0.0, {}, errors)
    names = {"ttft": "time_to_first_token_ms", "itl": "inter_token_latency_ms", "per_token": "time_per_output_token_ms"}
    times = {
        key: _percentiles(metrics[name]["successful"]["percentiles"]) for key, name in names.items() if name in metrics
    }
    times["latency"] = _percentiles(metrics["request_latency"]["successful"]["percentiles"], 1e3)
    return _Measured(float(metrics["requests_per_second"]["successful"]["mean"]), times, errors)


def _aiperf(content: Mapping[str, Any]) -> _Measured:
    if content.get("was_cancelled"):
        raise _LeftOutError("the run was cancelled, so its figures are those of a part")
    names = {"latency": "request_latency", "ttft": "time_to_first_token", "itl": "inter_token_latency"}
    times = {
        key: _percentiles(content[name], _SCALES_MS[content[name]["unit"]])
        for key, name in names.items()
        if name in content
    }
    if "request_error_rate" in content:
        rate = content["request_error_rate"]
        errors = float(rate["avg"]) / (100.0 if rate.get("unit", "%") == "%" else 1.0)
    else:
        bad = _count(content.get("error_request_count") or {}, "avg")
        good = _count(content.get("request_count") or {}, "avg")
        errors = bad / (good + bad) if good + bad else 0.0
    return _Measured(float(content["request_throughput"]["avg"]), times, errors)


def _count(totals: Mapping[str, Any], name: str) -> float:
    return float(totals.get(name) or 0.0)


def _percentiles(found: Mapping[str, Any], scale: float = 1.0) -> dict[float, float]:
    return {at: float(found[key]) * scale for key, at in _PERCENTILES.items() if found.get(key) is not None}


def _check_slo(loaded: LoadedSpec, one: _Measured) -> None:
    """Raises _LeftOutError unless it is proved that the whole SLO held."""
    figures = [one.rate_qps, one.errors, *(value for times in one.times.values() for value in times.values())]
    if not all(math.isfinite(figure) and figure >= 0 for figure in figures) or (one.rate_qps == 0 and one.errors < 1):
        raise _LeftOutError("a figure of theirs is none")
    slo = loaded.spec.slo
    limits: Sequence[SloLimit] = slo.limits if slo is not None else ()
    # A failed request is late by every limit.
    allowed = min((1 - limit.percentile / 100 for limit in limits), default=1.0)
    if slo is not None and slo.error_rate is not None:
        allowed = min(allowed, slo.error_rate)
    if one.errors > allowed + 1e-12:
        raise _LeftOutError(f"more than {allowed:.3g} of their requests failed, as a share")
    for limit in limits:
        held = _held(limit, one.times.get(limit.metric, {}))
        if held is None:
            raise _LeftOutError(f"they do not say whether {limit} held")
        if not held:
            raise _LeftOutError(f"they broke {limit}")


def _held(limit: SloLimit, times: Percentiles) -> bool | None:
    """A higher percentile within a limit proves it, a lower one beyond it breaks it; else it is not known."""
    limit_ms = limit.limit_s * 1e3
    if any(at >= limit.percentile and value <= limit_ms for at, value in times.items()):
        return True
    return False if any(at <= limit.percentile and value > limit_ms for at, value in times.items()) else None


def _plain(name: str) -> str:
    """`add_sub` and `addsub` are one model to people."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _record(number: int, configuration: dict[str, ParameterValue], one: _Measured) -> TrialRecord:
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
