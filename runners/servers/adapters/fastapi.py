"""A model behind FastAPI (or any ASGI application) and uvicorn: plain, with ONNX Runtime, or with OpenVINO.

Such an application opens its session itself, so the knobs of a session reach it as environment variables; each adapter
says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from runners.protocol import Placement
from runners.servers.protocol import (
    THREADS,
    WORKERS,
    AdapterError,
    Knob,
    Model,
    ServerAdapter,
    ServerCommand,
    ServerRequest,
    Values,
    as_text,
    flags,
    needed,
    thread_environment,
)

_FLAGS = {"workers": "--workers"}


class FastApi(ServerAdapter):
    """`service.model.path` is the application: `app:app`."""

    name, title = "fastapi", "FastAPI"
    documentation = "https://www.uvicorn.org/settings/"
    tried = True
    package = "uvicorn"
    knobs: ClassVar[tuple[Knob, ...]] = (
        WORKERS,
        THREADS,
        Knob("batch_size", (1, 2, 4, 8), ("batch_size",)),
        Knob("batch_delay", (0, 5, 20), ("batch_delay",)),
    )
    variables: ClassVar[Mapping[str, str]] = {"batch_size": "BATCH_SIZE", "batch_delay": "BATCH_DELAY_MS"}

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """It names an application."""
        if ":" not in needed(model, "the application, as in app:app"):
            raise AdapterError(
                f"{model.path!r} names no application; write module:application", ("service", "model", "path")
            )

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`uvicorn`, with the session's knobs in the environment."""
        command = (
            "uvicorn", needed(model, "the application"), "--host", placement.host, "--port", str(placement.port),
            "--log-level", "warning", *flags(values, _FLAGS),
        )  # fmt: skip
        own = {name: as_text(values[knob]) for knob, name in self.variables.items() if knob in values}
        return ServerCommand(command, own | thread_environment(values))

    def request(self, model: Model) -> ServerRequest:
        """What it takes is the application's own matter."""
        return ServerRequest(model.options.get("path", "/predict"))


class OnnxRuntime(FastApi):
    """`service.model.path` is the application: `app:app`, which opens its session by these variables
    (`SessionOptions.intra_op_num_threads` from ORT_INTRA_OP_THREADS, the provider from ORT_PROVIDER).
    """

    name, title = "onnxruntime", "ONNX Runtime behind FastAPI"
    documentation = "https://onnxruntime.ai/docs/performance/tune-performance/threading.html"
    package = "onnxruntime"
    flavours = ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
    knobs = (
        WORKERS,
        THREADS,
        Knob("inter_op_threads", (1, 2)),
        Knob("engine", ("cpu", "openvino", "cuda", "tensorrt"), ("engine",)),
        Knob("graph_optimization", ("all", "extended", "basic")),
        *FastApi.knobs[2:],
    )
    variables: ClassVar[Mapping[str, str]] = {
        **FastApi.variables, "threads": "ORT_INTRA_OP_THREADS", "inter_op_threads": "ORT_INTER_OP_THREADS",
        "engine": "ORT_PROVIDER", "graph_optimization": "ORT_GRAPH_OPTIMIZATION",
    }  # fmt: skip


class OpenVino(FastApi):
    """`service.model.path` is the application: `app:app`, which sets `ov.properties` by these variables."""

    name, title = "openvino", "OpenVINO behind FastAPI"
    documentation = "https://docs.openvino.ai/2024/openvino-workflow/running-inference/optimize-inference.html"
    package = "openvino"
    knobs = (
        WORKERS,
        THREADS,
        Knob("streams", (1, 2, 4), ("instances",)),
        Knob("performance_hint", ("LATENCY", "THROUGHPUT")),
        Knob("precision", ("f32", "bf16"), ("precision",)),
        *FastApi.knobs[2:],
    )
    variables: ClassVar[Mapping[str, str]] = {
        **FastApi.variables, "threads": "OV_INFERENCE_NUM_THREADS", "streams": "OV_NUM_STREAMS",
        "performance_hint": "OV_PERFORMANCE_HINT", "precision": "OV_INFERENCE_PRECISION",
    }  # fmt: skip
