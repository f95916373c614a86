"""What the engines' own load tests write: `vllm bench serve --save-result`, `vllm bench sweep serve`, and SGLang's
`bench_serving --output-file`. All three are flat: `request_throughput`, `p99_ttft_ms` and so on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tuner.spec.reading import LoadedSpec
from tuner.study.warm_start.matching import current_of, matching_configuration
from tuner.study.warm_start.measured import Best, LeftOutError, ToolMeasurement
from tuner.study.warm_start.table import ToolTable

_TIME = re.compile(r"(median|p[0-9.]+)_(ttft|tpot|itl|e2el|e2e_latency)_ms")
_METRICS = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "latency", "e2e_latency": "latency"}
_OF_SERVERS = ("server_info", "server_args")  # where SGLang puts the server's own options


def is_engines(content: Any) -> bool:
    """Whether a document, or the first of a list, is one of these."""
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, dict) and isinstance(first.get("request_throughput"), int | float)


def read_engines(content: Any, loaded: LoadedSpec) -> Best:
    """A result per run: a sweep's say their configuration, others are of the one in `current`."""
    entries = content if isinstance(content, list) else [content]
    return Best().collect(entries, lambda one: _one(one, loaded), loaded)


def read_sweep_table(table: ToolTable, loaded: LoadedSpec) -> Best:
    """A sweep's summary.csv: a row per run."""
    return Best().collect(table.rows, lambda row: (matching_configuration(_named(row), loaded), _measured(row)), loaded)


def _one(content: Mapping[str, Any], loaded: LoadedSpec) -> tuple[Mapping[str, Any], ToolMeasurement]:
    options = next((content[name] for name in _OF_SERVERS if isinstance(content.get(name), dict)), content)
    try:
        return matching_configuration(_named(options), loaded), _measured(content)
    except LeftOutError:
        if "run_number" in content or options is not content:  # of a sweep: it does say its configuration
            raise
    tool = "SGLang" if "sglang" in str(content.get("backend")) else "vllm bench serve"
    return current_of(loaded, tool), _measured(content)


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    """Without lists and tables, which are no parameter's value."""
    return {str(name): value for name, value in options.items() if isinstance(value, bool | int | float | str)}


def _measured(content: Mapping[str, Any]) -> ToolMeasurement:
    times: dict[str, dict[float, float]] = {}
    for name, value in content.items():
        if value not in (None, "") and (found := _TIME.fullmatch(str(name))) is not None:
            percentile = 50.0 if found[1] == "median" else float(found[1][1:])
            times.setdefault(_METRICS[found[2]], {})[percentile] = float(value)
    done = float(content["completed"])
    sent = done + float(content["failed"]) if content.get("failed") not in (None, "") else _sent(content, done)
    errors = max(0.0, 1 - done / sent) if sent > 0 else 1.0
    return ToolMeasurement(float(content["request_throughput"]), {} if errors >= 1 else times, errors)


def _sent(content: Mapping[str, Any], done: float) -> float:
    """`num_prompts` of vLLM's results; SGLang's count only what was answered, and list the errors on demand."""
    if content.get("num_prompts") not in (None, ""):
        return float(content["num_prompts"])
    errors = content.get("errors")
    if isinstance(errors, str) and errors:
        errors = json.loads(errors.replace("'", '"'))
    return float(len(errors)) if isinstance(errors, list) and errors else done
