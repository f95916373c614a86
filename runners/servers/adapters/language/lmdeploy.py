"""LMDeploy's server. Written from its documentation, and from the command line of its package 0.18."""

from __future__ import annotations

from runners.protocol import Placement
from runners.servers.openai import engine_statistics, given, streamed
from runners.servers.protocol import (
    CacheCounters,
    Knob,
    Model,
    ServerAdapter,
    ServerAddress,
    ServerCommand,
    ServerRequest,
    Statistics,
    Values,
    flag,
    flags,
    needed,
)

_FLAGS = {
    "batch_size": "--max-batch-size",
    "max_model_len": "--session-len",
    "max_prefill_tokens": "--max-prefill-token-num",
    "kv_cache_share": "--cache-max-entry-count",
    "kv_cache_bits": "--quant-policy",
    "precision": "--dtype",
    "tensor_parallel": "--tp",
    "backend": "--backend",
    "block_size": "--cache-block-seq-len",
}


class LmDeploy(ServerAdapter):
    """`service.model.path` is a folder with a model, or the name of one that it downloads."""

    name, title = "lmdeploy", "LMDeploy"
    documentation = "https://lmdeploy.readthedocs.io/en/latest/llm/api_server.html"
    package = "lmdeploy"
    image = "openmmlab/lmdeploy:v0.18.0-cu12"
    ready_timeout_s = 900.0
    streams = True
    parallel = ("tensor_parallel",)
    prefix_cache = CacheCounters("lmdeploy:prompt_tokens_total", "lmdeploy:cached_tokens_total")
    knobs = (
        Knob("batch_size", (16, 64, 128, 256), ("batch_size", "concurrency")),
        Knob("max_model_len", (2048, 4096, 8192)),
        Knob("max_prefill_tokens", (2048, 4096, 8192)),
        Knob("kv_cache_share", (0.5, 0.65, 0.8), ("gpu_memory_share",)),  # of what the weights leave
        Knob("kv_cache_bits", (0, 4, 8)),  # 0: those of the model
        Knob("precision", ("auto", "bf16", "fp16"), ("precision",)),
        Knob("tensor_parallel", (1, 2, 4)),
        Knob("backend", ("turbomind", "pytorch"), ("engine",)),
        Knob("block_size", (32, 64, 128)),
        Knob("prefix_caching", (True, False)),
        Knob("compile", (True, False), ("compile",)),
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """Answers once the model is loaded."""
        return "/health"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """There is a name."""
        needed(model, "a folder with a model, or the name of one on the hub")

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`lmdeploy serve api_server`; `compile: false` is its eager mode."""
        name = model.options.get("served_name", model.path or model.name)
        command = (
            "lmdeploy", "serve", "api_server", needed(model, "a model"), "--server-name", placement.host,
            "--server-port", str(placement.port), "--model-name", name, *flags(given(values), _FLAGS),
            *(("--enable-prefix-caching",) if flag(values, "prefix_caching") else ()),
            *(("--eager-mode",) if flag(values, "compile") is False else ()),
        )  # fmt: skip
        return ServerCommand(command)

    def request(self, model: Model) -> ServerRequest:
        """A stream of tokens."""
        return streamed(model)

    def statistics(self, reach: ServerAddress, model: Model) -> Statistics | None:  # noqa: ARG002
        """https://lmdeploy.readthedocs.io/en/latest/advance/metrics.html"""
        return engine_statistics(
            reach.url, "lmdeploy:request_success_total", "lmdeploy:request_queue_time_seconds_sum", self.prefix_cache
        )
