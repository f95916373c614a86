"""inference-perf's `stage_N_lifecycle_metrics.json`, one per rate: times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.spec.reading import LoadedSpec
from tuner.study.warm_start.matching import current_of
from tuner.study.warm_start.measured import Best, LeftOutError, ToolMeasurement

METRICS = {  # inference-perf's names of times, which llm-d uses too, and our metrics
    "request_latency": "latency", "time_to_first_token": "ttft", "time_per_output_token": "tpot",
    "inter_token_latency": "itl", "normalized_time_per_output_token": "per_token",
}  # fmt: skip
_MIN_ACHIEVED = 0.95  # of the rate that was asked for: below, latencies leave out the wait for a late generator


def is_inference_perf(content: Any) -> bool:
    """Whether it is one stage of a run."""
    return isinstance(content, dict) and "load_summary" in content and "successes" in content


def read_inference_perf(stages: list[Mapping[str, Any]], loaded: LoadedSpec) -> Best:
    """All stages are of the configuration in `current`."""
    current = current_of(loaded, "inference-perf")
    return Best().collect(stages, lambda one: (current, _measured(one)), loaded)


def _measured(stage: Mapping[str, Any]) -> ToolMeasurement:
    load, good = stage["load_summary"], stage["successes"]
    done, bad = float(good["count"]), float((stage.get("failures") or {}).get("count") or 0)
    if min(done, bad) < 0:
        raise LeftOutError("a figure of theirs is none")
    if done == 0:
        return ToolMeasurement(0.0, {}, errors=1.0)
    asked, achieved = load.get("requested_rate"), load.get("achieved_rate")
    if asked and achieved is not None and achieved < _MIN_ACHIEVED * asked:
        raise LeftOutError("its generator fell behind the rate that it was asked for")
    times = {
        metric: percentiles(good["latency"][name], 1e3)
        for name, metric in METRICS.items()
        if good["latency"].get(name) is not None
    }
    return ToolMeasurement(float(good["throughput"]["requests_per_sec"]), times, bad / (done + bad))


def percentiles(found: Mapping[str, Any], scale_ms: float) -> dict[float, float]:
    """`p99`, `p99.9`, `p99p9` and `median`, in milliseconds."""
    result = {}
    for name, value in found.items():
        text = "p50" if name == "median" else name
        if text.startswith("p") and text[1:2].isdigit() and value is not None:
            result[float(text[1:].replace("p", "."))] = float(value) * scale_ms
    return result
