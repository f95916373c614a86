"""Triton Model Analyzer's metrics-model-inference.csv."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from search_spaces import Configuration, ParameterValue, Role
from search_spaces.reading import quoted
from tuner.errors import UsageError
from tuner.spec.reading import LoadedSpec
from tuner.study.warm_start.measured import PERCENTILES, Best, LeftOutError, ToolMeasurement, bare_name, number_of
from tuner.study.warm_start.table import ToolTable

_INSTANCES = re.compile(r"(\d+)\s*[:/]")


def read_model_analyzer(table: ToolTable, loaded: LoadedSpec) -> Best:
    """Per model configuration the highest throughput within the SLO. `Max Batch Size` and the instances in
    `Instance Group` become the parameters with those roles.
    """
    for needed in ("Instance Group", "Throughput (infer/sec)"):
        if needed not in table.columns:
            raise UsageError(
                f"`warm_start`: a .csv is Model Analyzer's metrics-model-inference.csv, a vLLM sweep's summary.csv or "
                f"a table of AIConfigurator; this one has no column {needed}; it has "
                f"{quoted(', '.join(map(str, table.columns)), 120)}; an earlier run of tune is named by its folder"
            )
    # A file about one model is about ours, whatever it calls it, unless the spec says what the model is called.
    named = loaded.spec.service.model.name
    many_models = len({bare_name(row.get("Model") or "") for row in table.rows}) > 1
    model = named or (loaded.spec.service.name if many_models else None)
    return Best().collect(table.rows, lambda row: _analyzed(row, loaded, model), loaded)


def _analyzed(
    row: Mapping[str, str | None], loaded: LoadedSpec, model: str | None
) -> tuple[Configuration, ToolMeasurement]:
    """What a row proves of that model (None: of whichever it is of). Raises LeftOutError."""
    if None in row or any(value is None for value in row.values()):
        raise LeftOutError("the line has not as many cells as the heading")
    cells = {name: (value or "").strip() for name, value in row.items()}
    if "," in cells.get("Model", "") or "," in cells["Instance Group"]:
        raise LeftOutError("several models were measured at once")
    if model is not None and cells.get("Model") and bare_name(cells["Model"]) != bare_name(model):
        raise LeftOutError(f"they are of the model {quoted(cells['Model'], 40)[1:-1]}, and not of {model}")
    copies: Role = "workers" if loaded.space.with_role("workers") else "instances"
    values: dict[Role, ParameterValue] = {
        "batch_size": _batch_size(cells),
        copies: sum(int(count) for count in _INSTANCES.findall(cells["Instance Group"])),
    }
    parameters = {role: loaded.space.with_role(role) for role in values}
    configuration = {found.name: values[role] for role, found in parameters.items() if found is not None}
    if not configuration:
        raise LeftOutError("the space has no parameter for the batch size or the instances")
    for found in parameters.values():
        if found is not None and loaded.space.rank(found, configuration[found.name]) is None:
            raise LeftOutError("their configuration is not in the space")
    # Throughput counts inferences; a request of the client's carries so many of them.
    requests = number_of(cells, "Throughput (infer/sec)") / number_of(cells, "Batch", default=1.0)
    times = {
        percentile: number_of(cells, name)
        for key, percentile in PERCENTILES.items()
        if (name := f"{key} Latency (ms)") in cells
    }
    one = ToolMeasurement(requests, {"latency": times})
    return configuration, one


def _batch_size(cells: Mapping[str, str]) -> int:
    if "Max Batch Size" in cells:
        return int(number_of(cells, "Max Batch Size"))
    # Before version 1.10 it named the sizes that its batcher preferred.
    try:
        sizes = ast.literal_eval(cells.get("Preferred Batch Sizes") or "[]")
        return max(int(size) for size in sizes)
    except (ValueError, SyntaxError, TypeError, RecursionError) as error:
        raise LeftOutError("they do not say their batch size") from error
