"""Ray Serve: an application of the user's, configured by the file that `serve run` reads, and while it runs by the
REST API of Ray's dashboard (https://docs.ray.io/en/latest/serve/api/index.html#serve-rest-api).
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import httpx

from runners.host.bounded_http import bounded_client
from runners.protocol import Placement
from runners.servers.protocol import (
    THREADS,
    AdapterError,
    GpuImage,
    Knob,
    Model,
    ServerAdapter,
    ServerAddress,
    ServerCommand,
    ServerRequest,
    Values,
    python_object,
    thread_environment,
    whole,
)

_DEPLOYING_S, _LOOK_S = 120.0, 0.1
_TOKEN = secrets.token_hex(32)  # of every Ray that this process starts
_LIVE = ("user_config", "num_replicas", "max_ongoing_requests")  # of a deployment, what no replica is restarted for
# `serve run` alone would put the dashboard on any port that is free.
_PROGRAM = """\
import os
import sys

import ray
from ray.serve.scripts import cli

if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    ray.init(namespace="serve", include_dashboard=True, dashboard_host={host!r}, dashboard_port={port})
    cli(["run", "--blocking", {config!r}])
"""


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
    gpu_images = (GpuImage("rayproject/ray:2.60.0-py311-gpu"),)
    knobs = (
        Knob("batch_size", (1, 2, 4, 8, 16), ("batch_size",), live=True),
        Knob("batch_delay", (0, 5, 20), ("batch_delay",), live=True),
        Knob("workers", (1, 2, 4), ("workers",), live=True),
        Knob("max_ongoing_requests", (5, 20, 100), ("concurrency",), since=(2, 32), live=True),
        THREADS,
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """Answers before predictions do: a real one is asked after it."""
        return "/-/healthz"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """It names an application."""
        python_object(model, "application")

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`serve run` on a Ray of its own, which ends with it; on a further port its dashboard can be told more."""
        config = _config(model, values, placement.host, placement.port)
        env = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_COLOR_PREFIX": "0"}
        path = f"{placement.files}/serve.yaml"
        # JSON is YAML, and needs no writer here.
        files = {"serve.yaml": json.dumps(config, indent=2) + "\n"}
        command: tuple[str, ...] = ("serve", "run", "--blocking", path)
        if placement.more:
            # Else Ray makes a token itself, and leaves it in the home folder.
            env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _TOKEN}
            files["run.py"] = _PROGRAM.format(host=placement.host, port=placement.more[0], config=path)
            command = ("python", f"{placement.files}/run.py")
        return ServerCommand(command, env | thread_environment(values), files)

    def configure(self, reach: ServerAddress, model: Model, values: Values) -> None:
        """By a new configuration; waits until the deployment has it. Replicas stay where only their number or what
        `reconfigure` is told changes.
        """
        dashboard = reach.more[0] if reach.more else None
        if dashboard is None:
            raise AdapterError("Ray's dashboard cannot be reached from here")
        bearer = {"Authorization": f"Bearer {_TOKEN}"}
        host, _, port = reach.url.removeprefix("http://").rpartition(":")
        wanted = _config(model, values, host, int(port))
        with bounded_client(dashboard, headers=bearer, timeout_s=_DEPLOYING_S) as client:
            try:
                answer = client.put("/api/serve/applications/", json=wanted)
                if not answer.is_success:
                    raise AdapterError(f"Ray Serve refuses {dict(values)}: {answer.text[:300]}")
                _await_deployed(client, wanted["applications"][0], model.name)
            except AdapterError:  # which is a ValueError too, and says enough
                raise
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                raise AdapterError(f"Ray Serve did not take {dict(values)}: {error or type(error).__name__}") from error

    def request(self, model: Model) -> ServerRequest:
        """What it takes is the application's own matter."""
        return ServerRequest(model.options.get("path", "/"))


def _config(model: Model, values: Values, host: str, port: int) -> dict[str, Any]:
    """What `serve run` reads, and the REST API too."""
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": host, "port": port},
        "logging_config": {"enable_access_log": False},
        "applications": [
            {
                "name": "tuned", "import_path": ":".join(python_object(model, "application")), "route_prefix": "/",
                "deployments": [_deployment(model, values)],
            }
        ],
    }  # fmt: skip


def _await_deployed(client: httpx.Client, wanted: dict[str, Any], deployment: str) -> None:
    """Blocks until the application runs with the configuration. Raises AdapterError where it does not."""
    until = time.monotonic() + _DEPLOYING_S
    while time.monotonic() < until:
        found = client.get("/api/serve/applications/").json()["applications"].get("tuned", {})
        if found.get("status") in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise AdapterError(f"Ray Serve says {found['status']}: {found.get('message', '')[:300]}")
        one = found.get("deployments", {}).get(deployment, {})
        now, asked = one.get("deployment_config") or {}, wanted["deployments"][0]
        has = all(now.get(key) == value for key, value in asked.items() if key in _LIVE)
        replicas = [replica["state"] for replica in one.get("replicas") or ()]
        complete = len(replicas) == asked.get("num_replicas", len(replicas)) and set(replicas) == {"RUNNING"}
        if found.get("status") == "RUNNING" and one.get("status") == "HEALTHY" and has and complete:
            return
        time.sleep(_LOOK_S)
    raise AdapterError(f"Ray Serve did not deploy {wanted['deployments'][0]} within {_DEPLOYING_S:g} s")


def _deployment(model: Model, values: Values) -> dict[str, Any]:
    found: dict[str, Any] = {"name": model.name}
    if (replicas := whole(values, "workers")) is not None:
        found["num_replicas"] = replicas
        # Ray books a core for each replica and starts none beyond the machine's; the tuner gives out cores itself.
        found["ray_actor_options"] = {"num_cpus": 0.01}
    if (limit := whole(values, "max_ongoing_requests")) is not None:
        found["max_ongoing_requests"] = limit
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
