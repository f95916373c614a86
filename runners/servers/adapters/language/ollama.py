"""Ollama, configured by its environment. Written from its documentation."""

from __future__ import annotations

from runners.protocol import Placement
from runners.servers.openai import streamed
from runners.servers.protocol import (
    Knob,
    Model,
    ServerAdapter,
    ServerCommand,
    ServerRequest,
    Values,
    as_text,
    flag,
    needed,
)

_VARIABLES = {
    "workers": "OLLAMA_NUM_PARALLEL",
    "context": "OLLAMA_CONTEXT_LENGTH",
    "queue_size": "OLLAMA_MAX_QUEUE",
    "kv_cache_dtype": "OLLAMA_KV_CACHE_TYPE",
}


class Ollama(ServerAdapter):
    """`service.model.path` is the name of a model that was pulled (`ollama pull llama3.2:1b`).

    A cache of keys and values of other types than f16 needs `flash_attention: true`. Its threads and layers on the GPU
    are parameters of the model's own Modelfile.
    """

    name, title = "ollama", "Ollama"
    documentation = "https://docs.ollama.com/faq"
    image = "ollama/ollama:0.12.6"
    ready_timeout_s = 300.0
    streams = True
    knobs = (
        Knob("workers", (1, 2, 4, 8), ("workers", "concurrency", "instances")),  # requests that it answers at once
        Knob("context", (2048, 4096, 8192)),
        Knob("queue_size", (64, 512)),
        Knob("kv_cache_dtype", ("f16", "q8_0", "q4_0")),
        Knob("flash_attention", (True, False)),
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """Answers before a model is loaded, which the first request does."""
        return "/api/version"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """There is a name."""
        needed(model, "the name of a model that was pulled, as in llama3.2:1b")

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`ollama serve`, which keeps the model and has no other beside it."""
        needed(model, "the name of a model")
        env = {
            "OLLAMA_HOST": f"{placement.host}:{placement.port}",
            "OLLAMA_KEEP_ALIVE": "-1",
            "OLLAMA_MAX_LOADED_MODELS": "1",
            **{name: as_text(values[knob]) for knob, name in _VARIABLES.items() if knob in values},
        }
        if (attention := flag(values, "flash_attention")) is not None:
            env["OLLAMA_FLASH_ATTENTION"] = "1" if attention else "0"
        return ServerCommand(("ollama", "serve"), env)

    def request(self, model: Model) -> ServerRequest:
        """A stream of tokens."""
        return streamed(model)
