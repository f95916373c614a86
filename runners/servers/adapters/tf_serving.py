"""TensorFlow Serving, by its command line and its batching parameters' file. Written from its documentation."""

from __future__ import annotations

import json
import random

from runners.protocol import Placement
from runners.servers.exposition import summed_samples
from runners.servers.protocol import (
    AdapterError,
    GpuImage,
    Knob,
    Model,
    ServerAdapter,
    ServerAddress,
    ServerCommand,
    ServerRequest,
    Statistics,
    Values,
    as_text,
    flags,
    needed,
    whole,
)
from runners.servers.v2 import get_json

_FLAGS = {
    "threads": "--tensorflow_intra_op_parallelism",
    "inter_op_threads": "--tensorflow_inter_op_parallelism",
    "gpu_memory_share": "--per_process_gpu_memory_fraction",
}
_BODIES = 32
_QUEUED, _QUEUED_BATCHES = 1000, 10  # requests that may wait, whatever a batch is; batches, as it is by itself


class TfServing(ServerAdapter):
    """`service.model.path` is the model's base path: a folder with a folder per version."""

    name, title = "tf-serving", "TF-Serving"
    documentation = "https://www.tensorflow.org/tfx/serving/serving_config"
    image = "tensorflow/serving:2.18.0"
    gpu_images = (GpuImage("tensorflow/serving:2.18.0-gpu"),)
    path_is_file = True
    knobs = (
        Knob("batch_size", (1, 4, 16, 32), ("batch_size",)),
        Knob("batch_delay", (0, 1, 5), ("batch_delay",)),
        Knob("workers", (1, 2, 4), ("workers",)),  # threads that work on batches
        Knob("threads", (1, 2, 4), ("threads",)),
        Knob("inter_op_threads", (1, 2, 4)),
        Knob("gpu_memory_share", (0.25, 0.5, 1.0), ("gpu_memory_share",)),
    )

    def ready_path(self, model: Model) -> str:
        """Of the model."""
        return f"/v1/models/{model.quoted}"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """There is a version of the model."""
        needed(model, "the model's base path, with a folder per version")
        if model.local is not None and not (
            model.local.is_dir() and any(one.name.isdigit() for one in model.local.iterdir() if one.is_dir())
        ):
            raise AdapterError(
                f"{model.local} holds no version of a model: a folder named by a number", ("service", "model", "path")
            )

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """Batching is on where one of its knobs is tuned."""
        batch = whole(values, "batch_size")
        batching = [
            f"{name} {{ value: {as_text(value)} }}"
            for name, value in (
                ("max_batch_size", batch),
                # By itself it refuses what comes when ten batches wait: of small ones that is hardly a queue.
                ("max_enqueued_batches", None if batch is None else max(_QUEUED_BATCHES, -(-_QUEUED // batch))),
                (
                    "batch_timeout_micros",
                    None if "batch_delay" not in values else round(1000 * float(values["batch_delay"])),
                ),
                ("num_batch_threads", whole(values, "workers")),
            )
            if value is not None
        ]
        batched = ("--enable_batching=true", f"--batching_parameters_file={placement.files}/batching_parameters")
        command = (
            "tensorflow_model_server", f"--rest_api_port={placement.port}",
            f"--port={placement.more[0] if placement.more else 8500}", f"--model_name={model.name}",
            f"--model_base_path={needed(model, 'the base path')}",
            f"--monitoring_config_file={placement.files}/monitoring_config",
            *(f"{name}={value}" for name, value in _pairs(flags(values, _FLAGS))),
            *(batched if batching else ()),
        )  # fmt: skip
        files = {"monitoring_config": 'prometheus_config { enable: true, path: "/monitoring/prometheus/metrics" }\n'}
        return ServerCommand(
            command, {}, files | ({"batching_parameters": "\n".join(batching) + "\n"} if batching else {})
        )

    def request(self, model: Model) -> ServerRequest:
        """By its REST API, in rows."""
        return ServerRequest(f"/v1/models/{model.quoted}:predict")

    def bodies(self, reach: ServerAddress, model: Model) -> tuple[bytes, ...]:
        """From the signature `serving_default` of the model's metadata."""
        found = get_json(reach.url, f"/v1/models/{model.quoted}/metadata")
        try:
            inputs = found["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
            shapes = {name: _row(one) for name, one in inputs.items()}
            types = {name: str(one["dtype"]) for name, one in inputs.items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise AdapterError(
                f"the metadata of {model.name} has no serving_default; give request.json or request.dataset"
            ) from error
        generator = random.Random(0)  # noqa: S311 (not for secrets)
        rows = [
            {name: _filled(shape, types[name], generator) for name, shape in shapes.items()} for _ in range(_BODIES)
        ]
        return tuple(
            json.dumps({"instances": [row if len(row) > 1 else next(iter(row.values()))]}).encode() for row in rows
        )

    def statistics(self, reach: ServerAddress, model: Model) -> Statistics | None:  # noqa: ARG002
        """By its Prometheus path, on the REST port."""
        found = summed_samples(reach.url, "/monitoring/prometheus/metrics")
        batches = found.get(":tensorflow:serving:batching_session:processed_batch_size_count")
        rows = found.get(":tensorflow:serving:batching_session:processed_batch_size_sum")
        queue = found.get(":tensorflow:serving:batching_session:queuing_latency_sum")
        return Statistics(rows, batches, None if queue is None else queue / 1e6) if batches else None


def _pairs(words: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(zip(words[::2], words[1::2], strict=True))


def _row(described: dict[str, object]) -> list[int]:
    """A shape without the batch's dimension; what may have any size has one."""
    shape: object = described["tensor_shape"]
    sizes = [int(one["size"]) for one in shape.get("dim", [])] if isinstance(shape, dict) else []
    return [size if size > 0 else 1 for size in sizes[1:]]


def _filled(shape: list[int], dtype: str, generator: random.Random) -> object:
    if shape:
        return [_filled(shape[1:], dtype, generator) for _ in range(shape[0])]
    if dtype == "DT_STRING":
        return "a short text"
    if dtype == "DT_BOOL":
        return generator.random() < 0.5
    return (
        round(generator.random(), 4)
        if dtype in ("DT_FLOAT", "DT_DOUBLE", "DT_HALF", "DT_BFLOAT16")
        else generator.randrange(10)
    )
