"""SGLang's server. Written from its documentation, and from the command line of its package 0.5.23."""

from __future__ import annotations

from runners.protocol import Placement
from runners.servers.openai import engine_statistics, given, served_name, speculation, streamed
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
    "batch_size": "--max-running-requests",
    "gpu_memory_share": "--mem-fraction-static",
    "precision": "--dtype",
    "quantization": "--quantization",
    "kv_cache_dtype": "--kv-cache-dtype",
    "tensor_parallel": "--tp-size",
    "pipeline_parallel": "--pp-size",
    "data_parallel": "--dp-size",
    "chunked_prefill_size": "--chunked-prefill-size",
    "max_prefill_tokens": "--max-prefill-tokens",
    "schedule_policy": "--schedule-policy",
    "attention_backend": "--attention-backend",
    "block_size": "--page-size",
}
_WITH_A_MODEL = ("eagle", "eagle3", "standalone", "nextn")  # it proposes in steps


class SgLang(ServerAdapter):
    """`service.model.path` is a folder with a model, or the name of one that it downloads.

    `speculative` is one of SGLang's algorithms; `draft_model` (an option) the model of those that need one (EAGLE3).
    `chunked_prefill_size: -1` is none.
    """

    name, title = "sglang", "SGLang"
    documentation = "https://docs.sglang.ai/advanced_features/server_arguments.html"
    package = "sglang"
    image = "lmsysorg/sglang:v0.5.23"
    ready_timeout_s = 900.0
    streams = True
    fixes_lengths = True
    parallel = ("tensor_parallel", "pipeline_parallel", "data_parallel")
    prefix_cache = CacheCounters("sglang:prompt_tokens_total", "sglang:cached_tokens_total", "/flush_cache")
    knobs = (
        Knob("batch_size", (16, 64, 128, 256), ("batch_size", "concurrency")),
        Knob("gpu_memory_share", (0.6, 0.75, 0.88), ("gpu_memory_share",)),
        Knob("precision", ("auto", "bf16", "fp16"), ("precision",)),
        Knob("quantization", ("none", "fp8")),
        Knob("kv_cache_dtype", ("auto", "fp8_e5m2")),
        Knob("tensor_parallel", (1, 2, 4)),
        Knob("pipeline_parallel", (1, 2)),
        Knob("data_parallel", (1, 2)),
        Knob("chunked_prefill_size", (2048, 4096, 8192)),
        Knob("max_prefill_tokens", (8192, 16384)),
        Knob("schedule_policy", ("lpm", "fcfs", "dfs-weight")),
        Knob("attention_backend", ("auto", "fa3", "flashinfer", "triton")),
        Knob("block_size", (1, 16, 64)),
        Knob("prefix_caching", (True, False)),
        Knob("mixed_chunk", (True, False)),
        Knob("speculative", ("none", "ngram")),
        Knob("draft_tokens", (4, 8, 16)),
        Knob("compile", (True, False), ("compile",)),
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """It generates a token for it."""
        return "/health_generate"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """There is a name."""
        needed(model, "a folder with a model, or the name of one on the hub")

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`python3 -m sglang.launch_server`, with its metrics: its images have no `python`."""
        command = (
            "python3", "-m", "sglang.launch_server", "--model-path", needed(model, "a model"), "--host",
            placement.host, "--port", str(placement.port), "--enable-metrics", *served_name(model),
            *flags(given(values), _FLAGS),
            *(("--disable-radix-cache",) if flag(values, "prefix_caching") is False else ()),
            *(("--enable-mixed-chunk",) if flag(values, "mixed_chunk") else ()),
            *(("--enable-torch-compile",) if flag(values, "compile") else ()),
            *_speculative(model, values),
        )  # fmt: skip
        return ServerCommand(command)

    def request(self, model: Model) -> ServerRequest:
        """A stream of tokens."""
        return streamed(model)

    def statistics(self, reach: ServerAddress, model: Model) -> Statistics | None:  # noqa: ARG002
        """https://docs.sglang.ai/references/production_metrics.html"""
        return engine_statistics(
            reach.url, "sglang:num_requests_total", "sglang:queue_time_seconds_sum", self.prefix_cache, no_hits=0.0
        )


def _speculative(model: Model, values: Values) -> tuple[str, ...]:
    """One chain of proposals: so many steps, and the token that is sure beside them."""
    proposed = speculation(model, values)
    if proposed is None:
        return ()
    words = ["--speculative-algorithm", proposed.way.upper()]
    if proposed.model:
        words += ["--speculative-draft-model-path", proposed.model]
    if proposed.way.lower() in _WITH_A_MODEL:
        words += ["--speculative-num-steps", str(proposed.tokens), "--speculative-eagle-topk", "1"]
        return (*words, "--speculative-num-draft-tokens", str(proposed.tokens + 1))
    return (*words, "--speculative-num-draft-tokens", str(proposed.tokens))
