"""LitServe: the user's `LitAPI` class, served by a small program that is written for each configuration.

LitServe takes its knobs as arguments of `LitServer`, not from the outside, so that program passes them on.
"""

from __future__ import annotations

from runners.protocol import Placement
from runners.servers.protocol import (
    THREADS,
    Knob,
    Model,
    ServerAdapter,
    ServerCommand,
    ServerRequest,
    Values,
    python_object,
    thread_environment,
    whole,
)

_PROGRAM = '''\
"""Serves {target} with LitServe. Written by tune."""
import importlib, inspect, os, signal, sys

import litserve

API = {api}
SERVER = {server}


def main():
    sys.path.insert(0, os.getcwd())
    kind = getattr(importlib.import_module({module!r}), {name!r})
    taken = inspect.signature(litserve.LitAPI.__init__).parameters
    ours = {{key: value for key, value in API.items() if key in taken}}  # since 0.2.12 these are the API's
    api = kind(**ours)
    server = litserve.LitServer(api, **SERVER, **{{key: value for key, value in API.items() if key not in ours}})
    # Its children outlive a SIGTERM that reaches only this process; an interrupt ends them all.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    server.run(host={host!r}, port={port}, generate_client_file=False)


if __name__ == "__main__":
    main()
'''


class LitServe(ServerAdapter):
    """`service.model.path` names the class: `module:Class` (a LitAPI), the module in the spec's folder."""

    name, title = "litserve", "LitServe"
    documentation = "https://lightning.ai/docs/litserve/api-reference/litserver"
    tried = True
    package = "litserve"
    knobs = (
        Knob("batch_size", (1, 2, 4, 8, 16), ("batch_size",)),
        Knob("batch_delay", (0, 5, 20), ("batch_delay",)),
        Knob("workers", (1, 2, 4), ("workers",)),
        THREADS,
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """Answers 200 once every worker has been set up."""
        return "/health"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """It names a class."""
        python_object(model, "class")

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`python {files}/serve.py`."""
        module, name = python_object(model, "class")
        api: dict[str, object] = {}
        if (batch := whole(values, "batch_size")) is not None:
            api["max_batch_size"] = batch
        if (delay := values.get("batch_delay")) is not None:
            api["batch_timeout"] = float(delay) / 1e3
        server = {"accelerator": model.options.get("accelerator", "auto")}
        workers = whole(values, "workers")
        more = {} if workers is None else {"workers_per_device": workers}
        text = _PROGRAM.format(
            target=f"{module}:{name}", module=module, name=name, api=repr(api), server=repr({**server, **more}),
            host=placement.host, port=placement.port,
        )  # fmt: skip
        return ServerCommand(("python", f"{placement.files}/serve.py"), thread_environment(values), {"serve.py": text})

    def request(self, model: Model) -> ServerRequest:
        """What it takes is the class's own matter."""
        return ServerRequest(model.options.get("path", "/predict"))
