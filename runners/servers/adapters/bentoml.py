"""BentoML: a service of the user's, and the configuration of `bentoml serve`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

from runners.protocol import Placement
from runners.servers.exposition import summed_samples
from runners.servers.protocol import (
    THREADS,
    AdapterError,
    Knob,
    Model,
    ServerAdapter,
    ServerAddress,
    ServerCommand,
    ServerRequest,
    Statistics,
    Values,
    needed,
    thread_environment,
    whole,
)


class BentoMl(ServerAdapter):
    """`service.model.path` is the service (`service:Digits`), `name` its class.

    Batching is an argument of `@bentoml.api`, which no configuration overrides: write `max_batch_size=int(os.environ[
    "BATCH_SIZE"])` and `max_latency_ms=int(os.environ["MAX_LATENCY_MS"])` there. It has no batches of one.
    """

    name, title = "bentoml", "BentoML"
    documentation = "https://docs.bentoml.com/en/latest/reference/bentoml/configurations.html"
    tried = True
    package = "bentoml"
    knobs = (
        Knob("workers", (1, 2, 4), ("workers",)),
        Knob("max_concurrency", (16, 64, 256), ("concurrency",)),
        Knob("batch_size", (2, 4, 16, 32), ("batch_size",)),
        Knob("batch_delay", (5, 20, 100), ("batch_delay",)),
        THREADS,
    )
    variables: ClassVar[Mapping[str, str]] = {"batch_size": "BATCH_SIZE", "batch_delay": "MAX_LATENCY_MS"}

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """Of the service."""
        return "/readyz"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """It names a service."""
        if ":" not in needed(model, "the service, as in service:Digits"):
            raise AdapterError(f"{model.path!r} names no service; write module:Service", ("service", "model", "path"))

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """The configuration is JSON, which is YAML."""
        service: dict[str, object] = {}
        if (workers := whole(values, "workers")) is not None:
            service["workers"] = workers
        if (limit := whole(values, "max_concurrency")) is not None:
            service["traffic"] = {"max_concurrency": limit}
        env = {"BENTOML_CONFIG": f"{placement.files}/bentoml.yaml", "BENTOML_DO_NOT_TRACK": "true"}
        env |= {name: str(whole(values, knob)) for knob, name in self.variables.items() if knob in values}
        command = (
            "bentoml",
            "serve",
            needed(model, "the service"),
            "--host",
            placement.host,
            "--port",
            str(placement.port),
        )
        # Without a version: it is read by the first schema and by the second, each of which refuses the other's number.
        files = {"bentoml.yaml": json.dumps({"services": {model.name: service}}, indent=2) + "\n"}
        return ServerCommand(command, env | thread_environment(values), files)

    def request(self, model: Model) -> ServerRequest:
        """What it takes is the service's own matter."""
        return ServerRequest(model.options.get("path", "/predict"))

    def statistics(self, reach: ServerAddress, model: Model) -> Statistics | None:  # noqa: ARG002
        """Batches too, since 1.2."""
        found = summed_samples(reach.url)
        sizes, batches = "bentoml_service_adaptive_batch_size_sum", "bentoml_service_adaptive_batch_size_count"
        return Statistics(found[sizes], found[batches]) if found.get(batches) else None
