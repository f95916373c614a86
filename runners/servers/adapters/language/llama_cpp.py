"""llama.cpp's server."""

from __future__ import annotations

from runners.protocol import Placement
from runners.servers.exposition import summed_samples
from runners.servers.openai import given, streamed
from runners.servers.protocol import (
    AdapterError,
    CacheCounters,
    GpuImage,
    Knob,
    Model,
    Reach,
    ServerAdapter,
    ServerCommand,
    ServerRequest,
    Statistics,
    Values,
    flag,
    flags,
    needed,
    whole,
)

_FLAGS = {
    "workers": "--parallel",
    "threads": "--threads",
    "batch_size": "--batch-size",
    "ubatch_size": "--ubatch-size",
    "gpu_layers": "--n-gpu-layers",
    "kv_cache_dtype": "--cache-type-k",
    "speculative": "--spec-type",
    "draft_tokens": "--spec-draft-n-max",
}


class LlamaCpp(ServerAdapter):
    """`service.model.path` is a .gguf file. `context` (an option, default 4096) is the context of one slot."""

    name, title = "llama.cpp", "llama.cpp"
    documentation = "https://github.com/ggml-org/llama.cpp/tree/master/tools/server"
    tried = True
    image = "ghcr.io/ggml-org/llama.cpp:server"
    gpu_images = (GpuImage("ghcr.io/ggml-org/llama.cpp:server-cuda"),)
    ready_timeout_s = 300.0
    path_is_file = True
    streams = True
    fixes_lengths = True
    # The first counts only what the cache did not have; its cache is each slot's last prompt, and cannot be emptied.
    prefix_cache = CacheCounters("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total")
    knobs = (
        Knob("workers", (1, 2, 4, 8), ("workers", "concurrency", "instances")),  # slots that answer at once
        Knob("threads", (1, 2, 4, 8), ("threads",)),
        Knob("batch_size", (512, 1024, 2048), ("batch_size",)),
        Knob("ubatch_size", (128, 256, 512)),
        Knob("gpu_layers", (0, 99)),
        Knob("kv_cache_dtype", ("f16", "q8_0")),
        Knob("flash_attention", (True, False)),
        Knob("speculative", ("none", "ngram-simple", "ngram-mod")),  # --spec-type; those of no draft model
        Knob("draft_tokens", (2, 3, 8)),
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """Answers 503 while the model loads."""
        return "/health"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """The file is there."""
        path = needed(model, "a .gguf file")
        if not path.endswith(".gguf") or (model.local is not None and not model.local.is_file()):
            raise AdapterError(f"{path} is no .gguf file that is there", ("service", "model", "path"))

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """The context that it is given is shared by its slots."""
        context = model.number("context", 4096) * (whole(values, "workers") or 1)
        attention = values.get("flash_attention")
        if attention not in (None, "auto"):
            attention = "on" if flag(values, "flash_attention") else "off"
        command = (
            "/app/llama-server" if model.contained else "llama-server",  # where the images have it, on no PATH
            "--model", needed(model, "a .gguf file"),
            "--host", placement.host, "--port", str(placement.port), "--ctx-size", str(context),
            "--metrics", *flags(given(values), _FLAGS),
            *(() if attention is None else ("--flash-attn", str(attention))),
        )  # fmt: skip
        return ServerCommand(command)

    def request(self, model: Model) -> ServerRequest:
        """A stream of tokens."""
        return streamed(model)

    def statistics(self, reach: Reach, model: Model) -> Statistics | None:  # noqa: ARG002
        """The prompts' tokens: those that were computed, and those that a slot still had."""
        found = summed_samples(reach.url)
        computed, cached = found.get(self.prefix_cache.queries), found.get(self.prefix_cache.hits)
        if computed is None or cached is None:
            return None
        return Statistics(cache_queries=computed + cached, cache_hits=cached)
