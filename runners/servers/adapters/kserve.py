"""KServe's Python server: a program of the user's that calls `kserve.ModelServer().start([...])`."""

from __future__ import annotations

from runners.protocol import Placement
from runners.servers import v2
from runners.servers.protocol import (
    THREADS,
    AdapterError,
    Knob,
    Model,
    ServerCommand,
    Values,
    flags,
    needed,
    thread_environment,
)

_FLAGS = {"workers": "--workers", "max_threads": "--max_threads", "max_asyncio_workers": "--max_asyncio_workers"}


class KServe(v2.V2Server):
    """`service.model.path` is the program."""

    name, title = "kserve", "KServe"
    documentation = (
        "https://kserve.github.io/website/docs/model-serving/predictive-inference/frameworks/custom-predictor"
    )
    tried = True
    package = "kserve"
    path_is_file = True
    grpc_port = 0
    knobs = (
        Knob("workers", (1, 2, 4), ("workers",)),
        Knob("max_threads", (4, 8, 16), since=(0, 11)),
        Knob("max_asyncio_workers", (4, 8, 16)),
        THREADS,
    )

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """The program is there."""
        needed(model, "the program that starts kserve.ModelServer")
        if model.local is not None and not model.local.is_file():
            raise AdapterError(f"there is no program {model.local}", ("service", "model", "path"))

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """GRPC is off where nobody asks by it."""
        program = needed(model, "the program that starts kserve.ModelServer")
        grpc = ("--grpc_port", str(self.grpc_at(placement))) if model.grpc else ("--enable_grpc", "false")
        words = ("--http_port", str(placement.port), *grpc)
        return ServerCommand(("python", program, *words, *flags(values, _FLAGS)), thread_environment(values))
