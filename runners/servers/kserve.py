"""KServe's Python server: a program of the user's that calls `kserve.ModelServer().start([...])`."""

from __future__ import annotations

from runners.protocol import Placement
from runners.servers import v2
from runners.servers.protocol import (
    THREADS,
    AdapterError,
    Knob,
    Launch,
    Model,
    Reach,
    ServerAdapter,
    ServerRequest,
    Values,
    flags,
    needed,
    thread_environment,
)

_FLAGS = {"workers": "--workers", "max_threads": "--max_threads", "max_asyncio_workers": "--max_asyncio_workers"}


class KServe(ServerAdapter):
    """`service.model.path` is the program."""

    name, title = "kserve", "KServe"
    documentation = (
        "https://kserve.github.io/website/docs/model-serving/predictive-inference/frameworks/custom-predictor"
    )
    tried = True
    package = "kserve"
    path_is_file = True
    knobs = (
        Knob("workers", (1, 2, 4), ("workers",)),
        Knob("max_threads", (4, 8, 16), since=(0, 11)),
        Knob("max_asyncio_workers", (4, 8, 16)),
        THREADS,
    )

    def ready_path(self, model: Model) -> str:
        """Of the model."""
        return f"/v2/models/{model.name}/ready"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """The program is there."""
        needed(model, "the program that starts kserve.ModelServer")
        if model.local is not None and not model.local.is_file():
            raise AdapterError(f"there is no program {model.local}", ("service", "model", "path"))

    def launch(self, model: Model, values: Values, placement: Placement) -> Launch:
        """GRPC is off: nobody asks by it."""
        program = needed(model, "the program that starts kserve.ModelServer")
        words = ("--http_port", str(placement.port), "--enable_grpc", "false")
        return Launch(("python", program, *words, *flags(values, _FLAGS)), thread_environment(values))

    def request(self, model: Model) -> ServerRequest:
        """By the V2 protocol; a spec with a V1 body says `path: /v1/models/NAME:predict`."""
        return ServerRequest(v2.infer_path(model), v2.bodies(model.inputs) if model.inputs else ())

    def bodies(self, reach: Reach, model: Model) -> tuple[bytes, ...]:
        """From the model's metadata, where its `get_input_types` says them."""
        return v2.described(reach, model)
