"""Servers' own configuration, from the roles of what was tuned. A file that the spec renders itself goes as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from results.exports.deployable import Deployable
from results.exports.documents import header, to_yaml
from results.trial_parts import ParameterValue

_MIN_MICROS = 100  # of a batch delay of MLServer, as its adapter has it
# What betrays a server: words in the image, the command, or the names of the files that the spec renders.
MARKS: Mapping[str, tuple[str, ...]] = {
    "triton": ("tritonserver", "config.pbtxt"),
    "torchserve": ("torchserve", "model-config.yaml"),
    "tf-serving": ("tensorflow_model_server", "tensorflow/serving", "batching_parameters"),
    "mlserver": ("mlserver", "model-settings.json"),
}


def uses(one: Deployable, server: str) -> bool:
    """Whether the spec runs that server."""
    texts = " ".join([one.program.image or "", *one.program.command, *one.program.files]).lower()
    return any(mark in texts for mark in MARKS[server])


def triton(one: Deployable) -> dict[str, str]:
    """The part of config.pbtxt that was tuned (ModelConfig in text form)."""
    lines = [f"# {header(one)}"]
    if (batch := _whole(one, "batch_size")) is not None:
        lines.append(f"max_batch_size: {batch}")
    delay = _micros(one)
    if batch is not None and (batch > 1 or delay):
        inside = [f"  preferred_batch_size: [ {batch} ]"]
        inside += [f"  max_queue_delay_microseconds: {delay}"] if delay is not None else []
        lines += ["dynamic_batching {", *inside, "}"]
    if (workers := _whole(one, "workers")) is not None:
        kind = "KIND_GPU" if one.gpu_count else "KIND_CPU"
        lines += ["instance_group [", f"  {{ count: {workers} kind: {kind} }}", "]"]
    return _own(one, "config.pbtxt") or {"config.pbtxt": "\n".join(lines) + "\n"}


def torchserve(one: Deployable) -> dict[str, str]:
    """config.properties, and the model's model-config.yaml."""
    workers, batch, delay = _whole(one, "workers"), _whole(one, "batch_size"), _micros(one)
    properties = [
        f"# {header(one)}",
        f"inference_address=http://0.0.0.0:{one.listens.port}",
        "management_address=http://127.0.0.1:8081",
        *([f"default_workers_per_model={workers}"] if workers is not None else []),
    ]
    model: dict[str, Any] = {}
    if workers is not None:
        model |= {"minWorkers": workers, "maxWorkers": workers}
    if batch is not None:
        model["batchSize"] = batch
    if delay is not None:
        model["maxBatchDelay"] = max(1, round(delay / 1000))
    return {
        **(_own(one, "config.properties") or {"config.properties": "\n".join(properties) + "\n"}),
        **(_own(one, "model-config.yaml") or {"model-config.yaml": to_yaml([model], header(one))}),
    }


def tf_serving(one: Deployable) -> dict[str, str]:
    """For --enable_batching --batching_parameters_file. Threads within a request are no matter of this file: they are
    --tensorflow_intra_op_parallelism.
    """
    lines = [f"# {header(one)}"]
    for name, value in (
        ("max_batch_size", _whole(one, "batch_size")),
        ("batch_timeout_micros", _micros(one)),
        ("num_batch_threads", _whole(one, "workers")),
    ):
        if value is not None:
            lines.append(f"{name} {{ value: {value} }}")
    return _own(one, "batching_parameters") or {"batching_parameters.txt": "\n".join(lines) + "\n"}


def mlserver(one: Deployable) -> dict[str, str]:
    """settings.json and model-settings.json."""
    workers, batch, delay = _whole(one, "workers"), _whole(one, "batch_size"), _micros(one)
    settings: dict[str, Any] = {"http_port": one.listens.port}
    if workers is not None:
        settings["parallel_workers"] = workers
    model: dict[str, Any] = {"name": one.name}
    if batch is not None:
        model["max_batch_size"] = batch
    if delay is not None or (batch or 0) > 1:
        # A batch needs some time to fill, or MLServer makes none.
        model["max_batch_time"] = max(delay or 0, _MIN_MICROS if (batch or 0) > 1 else 0) / 1e6
    return {
        **(_own(one, "settings.json", but="model-settings.json") or {"settings.json": _json(settings)}),
        **(_own(one, "model-settings.json") or {"model-settings.json": _json(model)}),
    }


SERVERS: Mapping[str, Callable[[Deployable], dict[str, str]]] = {
    "triton": triton, "torchserve": torchserve, "tf-serving": tf_serving, "mlserver": mlserver
}  # fmt: skip


def _own(one: Deployable, name: str, but: str | None = None) -> dict[str, str]:
    """The spec's own files of that name as they are, since they are what was measured; empty if it renders none."""
    return {path: text for path, text in one.program.files.items() if name in path and not (but and but in path)}


def _whole(one: Deployable, role: str) -> int | None:
    value = one.roles.get(role)
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _micros(one: Deployable) -> int | None:
    """A batch delay: a duration as a spec writes it, or a number of milliseconds."""
    value: ParameterValue | None = one.roles.get("batch_delay")
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return round(1000 * value)
    units = {"us": 1, "\N{MICRO SIGN}s": 1, "ms": 1000, "s": 1_000_000}
    unit = value.strip().lstrip("0123456789. ")
    return round(float(value.strip().removesuffix(unit)) * units[unit]) if unit in units else None


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
