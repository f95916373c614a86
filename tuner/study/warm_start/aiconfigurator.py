"""AIConfigurator's tables (`best_config_topn.csv`, `pareto.csv`): what NVIDIA's model of engines predicts, not what was
measured. A prediction is one time for all requests; a configuration counts where it is within every limit.
"""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces import Configuration
from tuner.spec.reading import LoadedSpec
from tuner.study.warm_start.matching import matching_configuration
from tuner.study.warm_start.measured import Best, LeftOutError, ToolMeasurement, number_of
from tuner.study.warm_start.table import ToolTable

_TIMES = {"ttft": "ttft", "tpot": "tpot", "request_latency": "latency"}
_OPTIONS = {"bs": "batch_size", "num_total_gpus": "gpus", "system": "gpu_type", "gemm": "precision"}


def is_aiconfigurator(table: ToolTable) -> bool:
    """Whether it is one of its tables, of engines that do all or of prefill and decode apart."""
    return {"ttft", "tpot", "seq/s", "num_total_gpus"} <= set(table.columns)


def read_aiconfigurator(table: ToolTable, loaded: LoadedSpec) -> Best:
    """A row per configuration of one replica."""
    return Best().collect(table.rows, lambda row: _one(row, loaded), loaded)


def _one(row: Mapping[str, str | None], loaded: LoadedSpec) -> tuple[Configuration, ToolMeasurement]:
    cells = {name: (value or "").strip() for name, value in row.items() if name}
    if any(name.startswith("(p)") for name in cells):
        raise LeftOutError("they are of prefill and decode apart")
    names = {"tp", "pp", "dp", *_OPTIONS}
    named = {_OPTIONS.get(name, name): value for name, value in cells.items() if name in names}
    # Its times have no percentiles: each stands for all requests, the fastest and the slowest.
    times = {
        metric: dict.fromkeys((0.0, 100.0), number_of(cells, name))
        for name, metric in _TIMES.items()
        if cells.get(name)
    }
    return matching_configuration(named, loaded), ToolMeasurement(number_of(cells, "seq/s"), times)
