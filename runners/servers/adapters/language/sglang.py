"""SGLang's server. Written from its documentation."""

from __future__ import annotations

from runners.protocol import Placement
from runners.servers.exposition import counted
from runners.servers.openai import given, served_name, streamed
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
    "schedule_policy": "--schedule-policy",
}


class SgLang(ServerAdapter):
    """`service.model.path` is a folder with a model, or the name of one that it downloads."""

    name, title = "sglang", "SGLang"
    documentation = "https://docs.sglang.ai/advanced_features/server_arguments.html"
    package = "sglang"
    image = "lmsysorg/sglang:v0.5.4"
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
        Knob("schedule_policy", ("lpm", "fcfs")),
        Knob("compile", (True, False), ("compile",)),
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """It generates a token for it."""
        return "/health_generate"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """There is a name."""
        needed(model, "a folder with a model, or the name of one on the hub")

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`python -m sglang.launch_server`, with its metrics."""
        command = (
            "python", "-m", "sglang.launch_server", "--model-path", needed(model, "a model"), "--host", placement.host,
            "--port", str(placement.port), "--enable-metrics", *served_name(model),
            *flags(given(values), _FLAGS),
            *(("--enable-torch-compile",) if flag(values, "compile") else ()),
        )  # fmt: skip
        return ServerCommand(command)

    def request(self, model: Model) -> ServerRequest:
        """A stream of tokens."""
        return streamed(model)

    def statistics(self, reach: ServerAddress, model: Model) -> Statistics | None:  # noqa: ARG002
        """https://docs.sglang.ai/references/production_metrics.html"""
        found = counted(reach.url)
        done = found.get("sglang:num_requests_total")
        return (
            None
            if done is None
            else Statistics(
                inferences=done,
                queue_s=found.get("sglang:queue_time_seconds_sum"),
                cache_queries=found.get(self.prefix_cache.queries),
                cache_hits=found.get(self.prefix_cache.hits, 0.0),
            )
        )
