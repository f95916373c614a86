"""vLLM's OpenAI-compatible server. Its documentation: https://docs.vllm.ai/en/latest/cli/serve/."""

from __future__ import annotations

import json

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
    "batch_size": "--max-num-seqs",
    "max_batched_tokens": "--max-num-batched-tokens",
    "gpu_memory_share": "--gpu-memory-utilization",
    "precision": "--dtype",
    "quantization": "--quantization",
    "kv_cache_dtype": "--kv-cache-dtype",
    "tensor_parallel": "--tensor-parallel-size",
    "pipeline_parallel": "--pipeline-parallel-size",
    "data_parallel": "--data-parallel-size",
    "max_model_len": "--max-model-len",
    "block_size": "--block-size",
    "scheduling_policy": "--scheduling-policy",
    "attention_backend": "--attention-backend",
}


class Vllm(ServerAdapter):
    """`service.model.path` is a folder with a model, or the name of one that vLLM downloads (HF_TOKEN where needed).

    `speculative` is one of vLLM's methods; `draft_model` (an option) the model of those that need one (eagle3,
    draft_model).
    """

    name, title = "vllm", "vLLM"
    documentation = "https://docs.vllm.ai/en/latest/cli/serve/"
    tried = True
    package = "vllm"
    image = "vllm/vllm-openai:v0.32.0"
    ready_timeout_s = 900.0
    streams = True
    fixes_lengths = True
    parallel = ("tensor_parallel", "pipeline_parallel", "data_parallel")
    # https://docs.vllm.ai/en/latest/design/metrics/; it is reset where VLLM_SERVER_DEV_MODE=1
    prefix_cache = CacheCounters(
        "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total", "/reset_prefix_cache"
    )
    knobs = (
        Knob("batch_size", (16, 64, 128, 256), ("batch_size", "concurrency")),
        Knob("max_batched_tokens", (2048, 4096, 8192, 16384)),
        Knob("gpu_memory_share", (0.5, 0.7, 0.9), ("gpu_memory_share",)),
        Knob("precision", ("auto", "bf16", "fp16"), ("precision",)),
        Knob("quantization", ("none", "fp8")),
        Knob("kv_cache_dtype", ("auto", "fp8")),
        Knob("tensor_parallel", (1, 2, 4)),
        Knob("pipeline_parallel", (1, 2)),
        Knob("data_parallel", (1, 2)),
        Knob("max_model_len", (2048, 4096, 8192)),
        Knob("block_size", (16, 32, 64)),
        Knob("scheduling_policy", ("fcfs", "priority")),
        Knob("attention_backend", ("auto", "FLASH_ATTN", "FLASHINFER")),
        Knob("chunked_prefill", (True, False)),
        Knob("prefix_caching", (True, False)),
        Knob("speculative", ("none", "ngram")),
        Knob("draft_tokens", (2, 4, 8)),
        Knob("compile", (True, False), ("compile",)),
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """Answers once the model is loaded."""
        return "/health"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """There is a name."""
        needed(model, "a folder with a model, or the name of one on the hub")

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`vllm serve`; `compile: false` is its eager mode."""
        words: list[str] = []
        if (caching := flag(values, "prefix_caching")) is not None:
            words.append("--enable-prefix-caching" if caching else "--no-enable-prefix-caching")
        if (chunked := flag(values, "chunked_prefill")) is not None:
            words.append("--enable-chunked-prefill" if chunked else "--no-enable-chunked-prefill")
        if flag(values, "compile") is False:
            words.append("--enforce-eager")
        if (proposed := speculation(model, values)) is not None:
            way: dict[str, str | int] = {"method": proposed.way, "num_speculative_tokens": proposed.tokens}
            way |= {"model": proposed.model} if proposed.model else {}
            words += ["--speculative-config", json.dumps(way, separators=(",", ":"))]
        command = (
            "vllm", "serve", needed(model, "a model"), "--host", placement.host, "--port", str(placement.port),
            *served_name(model), *flags(given(values), _FLAGS), *words,
        )  # fmt: skip
        return ServerCommand(command)

    def request(self, model: Model) -> ServerRequest:
        """A stream of tokens."""
        return streamed(model)

    def statistics(self, reach: ServerAddress, model: Model) -> Statistics | None:  # noqa: ARG002
        """https://docs.vllm.ai/en/latest/design/metrics/"""
        return engine_statistics(
            reach.url, "vllm:request_success_total", "vllm:request_queue_time_seconds_sum", self.prefix_cache
        )
