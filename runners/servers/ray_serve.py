"""Ray Serve: an application of the user's, configured by the file that `serve run` reads."""

from __future__ import annotations

import json
from typing import Any

from runners.protocol import Placement
from runners.servers.protocol import (
    THREADS,
    AdapterError,
    Knob,
    Launch,
    Model,
    ServerAdapter,
    ServerRequest,
    Values,
    needed,
    thread_environment,
    whole,
)


class RayServe(ServerAdapter):
    """`service.model.path` is the application's import path (`app:digits`), `name` its deployment's name.

    Batch size and delay reach the deployment's `reconfigure` in its `user_config` as `max_batch_size` and
    `batch_wait_timeout_s`, the names of Ray's `@serve.batch`.
    """

    name, title = "ray-serve", "Ray Serve"
    documentation = "https://docs.ray.io/en/latest/serve/production-guide/config.html"
    tried = True
    package = "ray"
    image = "rayproject/ray:2.60.0-py311"
    knobs = (
        Knob("batch_size", (1, 2, 4, 8, 16), ("batch_size",)),
        Knob("batch_delay", (0, 5, 20), ("batch_delay",)),
        Knob("workers", (1, 2, 4), ("workers",)),
        Knob("max_ongoing_requests", (5, 20, 100), ("concurrency",), since=(2, 32)),
        THREADS,
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """Answers before predictions do: a real one is asked after it."""
        return "/-/healthz"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """It names an application."""
        _import_path(model)

    def launch(self, model: Model, values: Values, placement: Placement) -> Launch:
        """`serve run` on a Ray of its own, which ends with it."""
        config = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": placement.host, "port": placement.port},
            "logging_config": {"enable_access_log": False},
            "applications": [
                {
                    "name": "tuned", "import_path": _import_path(model), "route_prefix": "/",
                    "deployments": [_deployment(model, values)],
                }
            ],
        }  # fmt: skip
        env = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_COLOR_PREFIX": "0"}
        command = ("serve", "run", "--blocking", f"{placement.files}/serve.yaml")
        # JSON is YAML, and needs no writer here.
        return Launch(command, env | thread_environment(values), {"serve.yaml": json.dumps(config, indent=2) + "\n"})

    def request(self, model: Model) -> ServerRequest:
        """What it takes is the application's own matter."""
        return ServerRequest(model.options.get("path", "/"))


def _deployment(model: Model, values: Values) -> dict[str, Any]:
    found: dict[str, Any] = {"name": model.name}
    if (replicas := whole(values, "workers")) is not None:
        found["num_replicas"] = replicas
        # Ray books a core for each replica and starts none beyond the machine's; the tuner gives out cores itself.
        found["ray_actor_options"] = {"num_cpus": 0.01}
    if (most := whole(values, "max_ongoing_requests")) is not None:
        found["max_ongoing_requests"] = most
    own: dict[str, Any] = {}
    if (batch := whole(values, "batch_size")) is not None:
        own["max_batch_size"] = batch
        # A batch larger than the requests that a replica is given would never be full.
        found.setdefault("max_ongoing_requests", max(5, 2 * batch))
    if (delay := values.get("batch_delay")) is not None:
        own["batch_wait_timeout_s"] = float(delay) / 1e3
    threads = thread_environment(values)
    if threads:
        # Ray sets OMP_NUM_THREADS of its workers itself.
        found["ray_actor_options"] = {**found.get("ray_actor_options", {}), "runtime_env": {"env_vars": threads}}
    return {**found, "user_config": own} if own else found


def _import_path(model: Model) -> str:
    path = needed(model, "the application's import path, as in app:application")
    module, _, name = path.partition(":")
    if not name or not module:
        raise AdapterError(f"{path!r} is no import path; write module:application", ("service", "model", "path"))
    return path
