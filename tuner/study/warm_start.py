"""What was measured before: earlier runs of this tool, and results of other tools, as records to learn from."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from results import Estimate, TrialRecord
from search_spaces import Configuration, ParameterValue, Role
from tuner.errors import UsageError
from tuner.spec.reading import LoadedSpec
from tuner.study.archive import Archive
from tuner.study.storage import sqlite_url

_INSTANCES = re.compile(r"(\d+):")


def read_earlier(path: Path, loaded: LoadedSpec) -> list[TrialRecord]:
    """The trials of a run's folder, or what another tool's file proves. Raises UsageError where it is neither."""
    if path.is_dir():
        if not (path / "study.db").is_file():
            raise UsageError(f"--warm-start {path}: no study.db in it; name the output folder of an earlier run")
        return list(Archive(sqlite_url(path)).snapshot().records)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--warm-start {path}: {getattr(error, 'strerror', None) or 'it is not text'}") from error
    try:
        found = _model_analyzer(text, loaded) if path.suffix == ".csv" else _json_results(json.loads(text), loaded)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"--warm-start {path}: neither a result of GuideLLM or AIPerf (.json) nor of Model Analyzer (.csv)"
        ) from error
    if not found:
        raise UsageError(f"--warm-start {path}: nothing in it was measured within the spec's p99 limit")
    return found


def _model_analyzer(text: str, loaded: LoadedSpec) -> list[TrialRecord]:
    """Triton Model Analyzer's metrics-model-inference.csv: per model configuration the highest throughput within the
    limit. `Max Batch Size` and the instances in `Instance Group` become the parameters with those roles.
    """
    limit_ms = loaded.p99_limit_ms
    copies: Role = "workers" if loaded.space.with_role("workers") else "instances"
    best: dict[tuple[tuple[str, ParameterValue], ...], tuple[float, float]] = {}
    for row in csv.DictReader(text.splitlines()):
        configuration = _with_roles(loaded, {
            "batch_size": int(row["Max Batch Size"]),
            copies: sum(int(count) for count in _INSTANCES.findall(row["Instance Group"])),
        })  # fmt: skip
        throughput, p99 = float(row["Throughput (infer/sec)"]), float(row["p99 Latency (ms)"])
        key = tuple(configuration.items())
        if configuration and (limit_ms is None or p99 <= limit_ms) and throughput > best.get(key, (0.0, 0.0))[0]:
            best[key] = (throughput, p99)
    return [_record(number, dict(key), *figures) for number, (key, figures) in enumerate(best.items())]


def _json_results(content: Mapping[str, Any], loaded: LoadedSpec) -> list[TrialRecord]:
    """GuideLLM's benchmarks.json, or AIPerf's profile_export_aiperf.json: the highest rate within the limit. They do
    not say how the server was configured: it is taken to be the spec's `current`.
    """
    if loaded.spec.current is None:
        raise UsageError(
            "--warm-start: GuideLLM and AIPerf do not record the server's configuration; give it in `current:`"
        )
    limit_ms = loaded.p99_limit_ms
    measured = list(_guidellm(content["benchmarks"]) if "benchmarks" in content else _aiperf(content))
    within = [one for one in measured if limit_ms is None or one[1] <= limit_ms]
    return [_record(0, dict(loaded.spec.current), *max(within))] if within else []


def _guidellm(benchmarks: Iterable[Mapping[str, Any]]) -> Iterable[tuple[float, float]]:
    """Requests/s and p99 in milliseconds; its request latency is in seconds."""
    for one in benchmarks:
        rate = one["metrics"]["requests_per_second"]["successful"]["mean"]
        yield float(rate), float(one["metrics"]["request_latency"]["successful"]["percentiles"]["p99"]) * 1e3


def _aiperf(content: Mapping[str, Any]) -> Iterable[tuple[float, float]]:
    latency = content["request_latency"]
    scale = {"ms": 1.0, "s": 1e3, "us": 1e-3, "ns": 1e-6}[latency["unit"]]
    yield float(content["request_throughput"]["avg"]), float(latency["p99"]) * scale


def _with_roles(loaded: LoadedSpec, values: Mapping[Role, ParameterValue]) -> Configuration:
    parameters = {role: loaded.space.with_role(role) for role in values}
    return {parameter.name: values[role] for role, parameter in parameters.items() if parameter is not None}


def _record(number: int, configuration: dict[str, ParameterValue], throughput: float, p99_ms: float) -> TrialRecord:
    return TrialRecord(
        number=number,
        state="complete",
        configuration=configuration,
        capacity_qps=Estimate.exactly(throughput),
        p99_ms=Estimate.exactly(p99_ms),
    )
