"""The adapters by name: those of this product, and those that other packages offer as entry points."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points

from runners.servers.protocol import AdapterError, ServerAdapter

GROUP = "tune.servers"
_OURS: Mapping[str, str] = {
    "bentoml": "runners.servers.adapters.bentoml:BentoMl",
    "fastapi": "runners.servers.adapters.fastapi:FastApi",
    "infinity": "runners.servers.adapters.language.embeddings:Infinity",
    "kserve": "runners.servers.adapters.kserve:KServe",
    "litserve": "runners.servers.adapters.litserve:LitServe",
    "llama.cpp": "runners.servers.adapters.language.llama_cpp:LlamaCpp",
    "lmdeploy": "runners.servers.adapters.language.lmdeploy:LmDeploy",
    "mlserver": "runners.servers.adapters.mlserver:MlServer",
    "ollama": "runners.servers.adapters.language.ollama:Ollama",
    "onnxruntime": "runners.servers.adapters.fastapi:OnnxRuntime",
    "openvino": "runners.servers.adapters.fastapi:OpenVino",
    "ovms": "runners.servers.adapters.openvino_server:OpenVinoServer",
    "ray-serve": "runners.servers.adapters.ray_serve:RayServe",
    "sglang": "runners.servers.adapters.language.sglang:SgLang",
    "tei": "runners.servers.adapters.language.embeddings:TextEmbeddingsInference",
    "tensorrt-llm": "runners.servers.adapters.language.tensorrt_llm:TensorRtLlm",
    "tf-serving": "runners.servers.adapters.tf_serving:TfServing",
    "torchserve": "runners.servers.adapters.torchserve:TorchServe",
    "triton": "runners.servers.adapters.triton:Triton",
    "vllm": "runners.servers.adapters.language.vllm:Vllm",
}
_ALSO: Mapping[str, str] = {
    "seldon": "mlserver", "ray": "ray-serve", "rayserve": "ray-serve", "ray_serve": "ray-serve",
    "tfserving": "tf-serving", "tf_serving": "tf-serving", "tensorflow-serving": "tf-serving",
    "llama-cpp": "llama.cpp", "llamacpp": "llama.cpp", "llama_cpp": "llama.cpp", "tritonserver": "triton",
    "trtllm": "tensorrt-llm", "trtllm-serve": "tensorrt-llm", "tensorrt_llm": "tensorrt-llm",
    "infinity-emb": "infinity", "text-embeddings-inference": "tei",
    "openvino-model-server": "ovms", "openvino_model_server": "ovms",
}  # fmt: skip


def adapter_names() -> tuple[str, ...]:
    """The names of all adapters, in alphabetical order."""
    return tuple(sorted({*_OURS, *(point.name for point in entry_points(group=GROUP))}))


def adapter_named(name: str) -> ServerAdapter:
    """Raises AdapterError naming the nearest one, or all."""
    known = name.lower()
    known = _ALSO.get(known, known)
    if known in _OURS:
        module, _, kind = _OURS[known].partition(":")
        adapter: ServerAdapter = getattr(import_module(module), kind)()
        return adapter
    for point in entry_points(group=GROUP, name=name):
        try:
            made: ServerAdapter = point.load()()
        except Exception as error:
            raise AdapterError(
                f"the adapter {name} of {point.value} cannot be loaded: {error}", ("service", "server")
            ) from error
        return made
    names = ("custom", *adapter_names())
    close = difflib.get_close_matches(known, [*names, *_ALSO], n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    raise AdapterError(f"no server is named {name!r}; {hint}", ("service", "server"))
