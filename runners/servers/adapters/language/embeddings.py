"""Servers that turn text into vectors: Text Embeddings Inference (written from its documentation) and Infinity."""

from __future__ import annotations

import json

from runners.protocol import Placement
from runners.servers.exposition import summed_samples
from runners.servers.openai import DTYPES, prompts
from runners.servers.protocol import (
    THREADS,
    GpuImage,
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
    thread_environment,
)

_TEI = {
    "batch_size": "--max-batch-requests",
    "max_batched_tokens": "--max-batch-tokens",
    "max_concurrent_requests": "--max-concurrent-requests",
    "workers": "--tokenization-workers",
    "precision": "--dtype",
}
_INFINITY = {"batch_size": "--batch-size", "engine": "--engine", "precision": "--dtype", "device": "--device"}
_TEI_IMAGE = "ghcr.io/huggingface/text-embeddings-inference"
_HUB = "a folder with a model, or the name of one on the hub"


class TextEmbeddingsInference(ServerAdapter):
    """`service.model.path` is a folder with a model, or the name of one that it downloads.

    A request that comes while `max_concurrent_requests` are under way is refused (429), which misses the SLO. Its image
    is for CPU cores. For GPUs name that of their generation in `service.image`: that of all of them has no program of
    this one's name. A spec has one image, so each generation needs a spec of its own.
    """

    name, title = "tei", "Text Embeddings Inference"
    documentation = "https://huggingface.co/docs/text-embeddings-inference/cli_arguments"
    image = f"{_TEI_IMAGE}:cpu-1.8"
    gpu_images = (
        GpuImage(f"{_TEI_IMAGE}:turing-1.8", ("T4",)), GpuImage(f"{_TEI_IMAGE}:1.8", ("A100", "A30")),
        GpuImage(f"{_TEI_IMAGE}:86-1.8", ("A10", "A10G", "A40")),
        GpuImage(f"{_TEI_IMAGE}:89-1.8", ("L4", "L40", "L40S")),
        GpuImage(f"{_TEI_IMAGE}:hopper-1.8", ("H100", "H200")),
    )  # fmt: skip
    ready_timeout_s = 300.0
    knobs = (
        Knob("batch_size", (4, 8, 16, 32, 64), ("batch_size",)),  # --max-batch-requests
        Knob("max_batched_tokens", (4096, 8192, 16384, 32768)),
        Knob("max_concurrent_requests", (128, 512, 2048), ("concurrency",)),
        Knob("workers", (1, 2, 4), ("workers",)),  # threads that tokenize
        Knob("precision", ("float16", "float32"), ("precision",)),
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """Answers once the model is loaded."""
        return "/health"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """There is a name."""
        needed(model, _HUB)

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`text-embeddings-router`, by whose own port for metrics two would meet on one machine."""
        command = (
            "text-embeddings-router", "--model-id", needed(model, _HUB), "--hostname", placement.host, "--port",
            str(placement.port), *(("--prometheus-port", str(placement.more[0])) if placement.more else ()),
            *flags(_named_types(values), _TEI),
        )  # fmt: skip
        return ServerCommand(command)

    def request(self, model: Model) -> ServerRequest:
        """`/embed` of texts of `prompt_words` words (default 64), one in a request."""
        return ServerRequest("/embed", tuple(json.dumps({"inputs": text}).encode() for text in prompts(model)))

    def statistics(self, reach: ServerAddress, model: Model) -> Statistics | None:  # noqa: ARG002
        """Its executions are the batches that it counted the sizes of."""
        found = summed_samples(reach.url)
        done = found.get("te_embed_success")
        return (
            None
            if done is None
            else Statistics(
                inferences=done,
                executions=found.get("te_batch_next_size_count"),
                queue_s=found.get("te_embed_queue_duration_sum"),
            )
        )


class Infinity(ServerAdapter):
    """`service.model.path` is a folder with a model, or the name of one that it downloads.

    `device` (an option: cpu, cuda; default: what it finds).
    """

    name, title = "infinity", "Infinity"
    documentation = "https://michaelfeil.eu/infinity/latest/cli_v2/"
    tried = True
    package = "infinity_emb"
    image = "michaelf34/infinity:0.0.77"
    ready_timeout_s = 300.0
    knobs = (
        Knob("batch_size", (4, 8, 16, 32, 64), ("batch_size",)),
        Knob("engine", ("torch", "optimum", "ctranslate2"), ("engine",)),
        Knob("precision", ("auto", "float16", "float32"), ("precision",)),
        Knob("better_transformer", (True, False)),
        Knob("compile", (True, False), ("compile",)),
        THREADS,
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """Answers once the model is loaded and was warmed up."""
        return "/health"

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """There is a name."""
        needed(model, _HUB)

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`infinity_emb v2`, with one model."""
        words = []
        for knob, word in (("better_transformer", "bettertransformer"), ("compile", "compile")):
            if (on := flag(values, knob)) is not None:
                words.append(f"--{word}" if on else f"--no-{word}")
        device = {"device": model.options["device"]} if "device" in model.options else {}
        command = (
            "infinity_emb", "v2", "--model-id", needed(model, _HUB), "--served-model-name", model.name, "--host",
            placement.host, "--port", str(placement.port), *flags(_named_types(values) | device, _INFINITY), *words,
        )  # fmt: skip
        env = {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}
        return ServerCommand(command, env | thread_environment(values))

    def request(self, model: Model) -> ServerRequest:
        """OpenAI's embeddings, of texts of `prompt_words` words (default 64), one in a request."""
        asked = ({"model": model.name, "input": [text]} for text in prompts(model))
        return ServerRequest("/embeddings", tuple(json.dumps(one).encode() for one in asked))


def _named_types(values: Values) -> dict[str, bool | int | float | str]:
    """Types as torch names them."""
    found = dict(values)
    if "precision" in found:
        found["precision"] = DTYPES.get(str(found["precision"]), found["precision"])
    return found
