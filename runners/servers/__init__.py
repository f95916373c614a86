"""Server adapters: what is particular to one kind of inference server, one module each.

An adapter turns a model and the values of its knobs into a command, an environment and files; it knows where the
server answers, what a request looks like, how a running server is changed, and what its own counters say. Adapters of
other packages are found by the entry point group `tune.servers`.
"""

from runners.servers.preset import server_preset
from runners.servers.protocol import (
    AdapterError,
    CacheCounters,
    Knob,
    Launch,
    Model,
    Reach,
    ServerAdapter,
    ServerAddress,
    ServerCommand,
    ServerRequest,
    Statistics,
    Tensor,
)
from runners.servers.registry import adapter_named, adapter_names

__all__ = [
    "AdapterError",
    "CacheCounters",
    "Knob",
    "Launch",
    "Model",
    "Reach",
    "ServerAdapter",
    "ServerAddress",
    "ServerCommand",
    "ServerRequest",
    "Statistics",
    "Tensor",
    "adapter_named",
    "adapter_names",
    "server_preset",
]
