"""The benchmark report of llm-d, versions 0.1 and 0.2, as YAML or JSON: one point of load on one stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces import Configuration
from tuner.spec.reading import LoadedSpec
from tuner.study.warm_start.inference_perf import METRICS, percentiles
from tuner.study.warm_start.matching import current_of, matching_configuration
from tuner.study.warm_start.measured import Best, LeftOutError, ToolMeasurement

_SCALES_MS = {"ms": 1.0, "s": 1e3, "ms/token": 1.0, "s/token": 1e3}


def is_llm_d(content: Any) -> bool:
    """Whether it is a report of either version."""
    return isinstance(content, dict) and "version" in content and ("metrics" in content or "results" in content)


def read_llm_d(reports: list[Mapping[str, Any]], loaded: LoadedSpec) -> Best:
    """A report says its engines' options; where it says none, it is of the configuration in `current`."""
    return Best().collect(reports, lambda one: (_configuration(one, loaded), _measured(one)), loaded)


def _configuration(report: Mapping[str, Any], loaded: LoadedSpec) -> Configuration:
    engines = _engines(report.get("scenario") or {})
    if not engines:
        return current_of(loaded, "this report of llm-d")
    if any(one != engines[0] for one in engines):
        raise LeftOutError("servers of several kinds were measured at once")
    if len(engines) > 1 and loaded.space.with_role("replicas") is None:
        raise LeftOutError("several servers were measured at once, and the space has no replicas")
    return matching_configuration(engines[0] | ({"replicas": len(engines)} if len(engines) > 1 else {}), loaded)


def _engines(scenario: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The options of each engine, with its kind of GPU: version 0.1 has both in lists, 0.2 a stack of components."""
    if "stack" in scenario:
        stack = scenario["stack"] or []
        kinds = [one for one in stack if "engine" in str(one["standardized"].get("kind", "")).lower()]
        found = []
        for one in kinds:
            native = one.get("native") or one.get("Native") or {}
            gpu = (one["standardized"].get("accelerator") or {}).get("model")
            found.append(dict(native.get("args") or {}) | ({"gpu_type": gpu} if gpu else {}))
        return found
    options = [dict(one.get("args") or {}) for one in (scenario.get("platform") or {}).get("engine") or []]
    host = scenario.get("host") or {}
    if len(set(host.get("type") or ["replica"])) > 1:
        raise LeftOutError("prefill and decode were served apart")
    gpus = [{"gpu_type": one["model"]} for one in host.get("accelerator") or [] if one.get("model")]
    if len(gpus) == len(options):
        return [one | gpu for one, gpu in zip(options, gpus, strict=True)]
    return options


def _measured(report: Mapping[str, Any]) -> ToolMeasurement:
    if "metrics" in report:
        part = report["metrics"]
        rate = part["throughput"]["requests_per_sec"]
    else:
        part = report["results"]["request_performance"]["aggregate"]
        rate = part["throughput"]["requests_rate"]["mean"]
    requests, latency = part["requests"], part["latency"]
    errors = float(requests.get("failures") or 0) / float(requests["total"])
    times = {
        metric: percentiles(latency[name], _SCALES_MS[latency[name]["units"]])
        for name, metric in METRICS.items()
        if latency.get(name) is not None
    }
    return ToolMeasurement(float(rate), times if errors < 1 else {}, errors)
