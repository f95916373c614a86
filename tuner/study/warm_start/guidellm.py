"""GuideLLM's benchmarks.json and AIPerf's profile_export_aiperf.json: latencies and rates of one configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.spec.reading import LoadedSpec
from tuner.study.warm_start.matching import current_of
from tuner.study.warm_start.measured import Best, LeftOutError, ToolMeasurement, percentiles_ms

_SCALES_MS = {"ms": 1.0, "s": 1e3, "sec": 1e3, "us": 1e-3, "ns": 1e-6}


def read_guidellm(content: Mapping[str, Any], loaded: LoadedSpec) -> Best:
    """A result per rate, all of the configuration in `current`."""
    current = current_of(loaded, "GuideLLM")
    return Best().collect(content["benchmarks"], lambda one: (current, _guidellm(one)), loaded)


def read_aiperf(content: Mapping[str, Any], loaded: LoadedSpec) -> Best:
    """One result, of the configuration in `current`."""
    current = current_of(loaded, "AIPerf")
    return Best().collect([content], lambda one: (current, _aiperf(one)), loaded)


def _guidellm(one: Mapping[str, Any]) -> ToolMeasurement:
    """Its request latency is in seconds, the times of tokens in milliseconds. What its end cut off is no error."""
    metrics = one["metrics"]
    totals = metrics.get("request_totals") or {}
    good, bad = _count(totals, "successful"), _count(totals, "errored")
    errors = bad / (good + bad) if good + bad else 0.0
    if errors >= 1:
        return ToolMeasurement(0.0, {}, errors)
    names = {"ttft": "time_to_first_token_ms", "itl": "inter_token_latency_ms", "per_token": "time_per_output_token_ms"}
    named = {key: metrics[name] for key, name in names.items() if name in metrics}
    times = {key: percentiles_ms(one["successful"]["percentiles"]) for key, one in named.items()}
    times["latency"] = percentiles_ms(metrics["request_latency"]["successful"]["percentiles"], 1e3)
    return ToolMeasurement(float(metrics["requests_per_second"]["successful"]["mean"]), times, errors)


def _aiperf(content: Mapping[str, Any]) -> ToolMeasurement:
    if content.get("was_cancelled"):
        raise LeftOutError("the run was cancelled, so its figures are those of a part")
    names = {"latency": "request_latency", "ttft": "time_to_first_token", "itl": "inter_token_latency"}
    times = {
        key: percentiles_ms(content[name], _SCALES_MS[content[name]["unit"]])
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
    return ToolMeasurement(float(content["request_throughput"]["avg"]), times, errors)


def _count(totals: Mapping[str, Any], name: str) -> float:
    return float(totals.get(name) or 0.0)
