"""TensorRT-LLM's server, `trtllm-serve`. Written from its documentation."""

from __future__ import annotations

import json
from typing import Any

from runners.protocol import Placement
from runners.servers.exposition import summed_samples
from runners.servers.openai import given, served_name, speculation, streamed
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
    "batch_size": "--max_batch_size",
    "max_batched_tokens": "--max_num_tokens",
    "max_model_len": "--max_seq_len",
    "tensor_parallel": "--tp_size",
    "pipeline_parallel": "--pp_size",
    "backend": "--backend",
}
_CONFIG = "trtllm.yaml"
_POLICIES = {"max_utilization": "MAX_UTILIZATION", "guaranteed_no_evict": "GUARANTEED_NO_EVICT"}


class TensorRtLlm(ServerAdapter):
    """`service.model.path` is a folder with a model or an engine, or the name of a model that it downloads.

    `draft_model` (an option) is the model that proposes tokens where `speculative` is a way that needs one.
    """

    name, title = "tensorrt-llm", "TensorRT-LLM"
    documentation = "https://nvidia.github.io/TensorRT-LLM/commands/trtllm-serve/trtllm-serve.html"
    package = "tensorrt_llm"
    image = "nvcr.io/nvidia/tensorrt-llm/release:1.2.0"
    ready_timeout_s = 1800.0  # engines are built, and kernels tuned
    streams = True
    fixes_lengths = True
    parallel = ("tensor_parallel", "pipeline_parallel")
    prefix_cache = CacheCounters(
        "trtllm_prompt_tokens_total", "trtllm_prompt_cached_tokens_total", path="/prometheus/metrics"
    )
    knobs = (
        Knob("batch_size", (16, 64, 128, 256), ("batch_size", "concurrency")),
        Knob("max_batched_tokens", (2048, 4096, 8192, 16384)),
        Knob("max_model_len", (2048, 4096, 8192)),
        Knob("kv_cache_share", (0.5, 0.7, 0.9), ("gpu_memory_share",)),  # of what the weights leave
        Knob("kv_cache_dtype", ("auto", "fp8")),
        Knob("precision", ("auto", "bf16", "fp16"), ("precision",)),
        Knob("tensor_parallel", (1, 2, 4)),
        Knob("pipeline_parallel", (1, 2)),
        Knob("backend", ("pytorch", "tensorrt"), ("engine",)),
        Knob("attention_backend", ("auto", "TRTLLM", "FLASHINFER")),
        Knob("block_size", (32, 64)),
        Knob("scheduling_policy", ("guaranteed_no_evict", "max_utilization")),
        Knob("chunked_prefill", (True, False)),
        Knob("prefix_caching", (True, False)),
        Knob("speculative", ("none", "ngram")),
        Knob("draft_tokens", (2, 4, 8)),
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """Answers once the model is loaded."""
        return "/health"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """There is a name."""
        needed(model, "a folder with a model or an engine, or the name of a model on the hub")

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`trtllm-serve`; what has no flag is in a file, which has its metrics counted too."""
        command = (
            "trtllm-serve", needed(model, "a model"), "--host", placement.host, "--port", str(placement.port),
            *served_name(model, "--served_model_name"), *flags(given(values), _FLAGS),
            *(("--enable_chunked_prefill",) if flag(values, "chunked_prefill") else ()),
            "--config", f"{placement.files}/{_CONFIG}",
        )  # fmt: skip
        return ServerCommand(command, {}, {_CONFIG: json.dumps(_config(model, values), indent=2) + "\n"})

    def request(self, model: Model) -> ServerRequest:
        """A stream of tokens."""
        return streamed(model)

    def statistics(self, reach: ServerAddress, model: Model) -> Statistics | None:  # noqa: ARG002
        """https://nvidia.github.io/TensorRT-LLM/commands/trtllm-serve/trtllm-serve.html#metrics-endpoint"""
        found = summed_samples(reach.url, self.prefix_cache.path)
        done = found.get("trtllm_request_success_total")
        return (
            None
            if done is None
            else Statistics(
                inferences=done,
                queue_s=found.get("trtllm_request_queue_time_seconds_sum"),
                cache_queries=found.get(self.prefix_cache.queries),
                cache_hits=found.get(self.prefix_cache.hits),
            )
        )


def _config(model: Model, values: Values) -> dict[str, Any]:
    """The file of `--config`: JSON, which is YAML."""
    tuned = given(values)
    cache = {
        "free_gpu_memory_fraction": tuned.get("kv_cache_share"),
        "dtype": tuned.get("kv_cache_dtype"),
        "tokens_per_block": tuned.get("block_size"),
        "enable_block_reuse": flag(values, "prefix_caching"),
    }
    policy = values.get("scheduling_policy")
    found: dict[str, Any] = {
        "kv_cache_config": {name: value for name, value in cache.items() if value is not None},
        "scheduler_config": {"capacity_scheduler_policy": _POLICIES.get(str(policy), policy)} if policy else None,
        "attn_backend": tuned.get("attention_backend"),
        "dtype": tuned.get("precision"),
    }
    if (proposed := speculation(model, values)) is not None:
        way = {"ngram": "NGram", "eagle3": "Eagle", "mtp": "MTP", "draft_model": "DraftTarget"}
        found["speculative_config"] = {
            "decoding_type": way.get(proposed.way, proposed.way),
            "max_draft_len": proposed.tokens,
            **({"speculative_model_dir": proposed.model} if proposed.model else {}),
        }
    metrics = {"return_perf_metrics": True, "enable_iter_perf_stats": True}
    return metrics | {name: value for name, value in found.items() if value}
