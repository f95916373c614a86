"""Whether a language model's weights and its cache of keys and values fit the memory of a configuration.

What is refused here surely does not fit: each part is taken at its least. A token takes 2 x layers x heads of keys and
values x their width x bytes per number of the cache (Kwon et al., Efficient Memory Management for Large Language Model
Serving with PagedAttention, SOSP 2023, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from runners.protocol import ParameterValue
from search_spaces import Configuration, parse_size, quantity
from search_spaces.values import GIB, MIG_PROFILE
from tuner.launch.adapter import Serving, serving
from tuner.launch.memory.model_file import ModelSize, UnreadableModelError, model_size
from tuner.launch.render import resources
from tuner.spec.reading import LoadedSpec

_SERVERS = ("vllm", "sglang", "llama.cpp", "tensorrt-llm", "lmdeploy")
_BYTES = {"fp32": 4.0, "float32": 4.0, "fp16": 2.0, "bf16": 2.0, "float16": 2.0, "bfloat16": 2.0, "fp8": 1.0}
_KV_BYTES = {"fp8": 1.0, "fp8_e5m2": 1.0, "fp8_e4m3": 1.0, "q8_0": 34 / 32, "f16": 2.0}
_HALF = 2.0  # what vLLM and SGLang load as without a word: 16 bits, of weights of 32 as well
_FRAMEWORK_GIB = {
    "vllm": 0.5,
    "sglang": 0.5,
    "llama.cpp": 0.05,
    "tensorrt-llm": 0.5,
    "lmdeploy": 0.5,
}  # at least: CUDA's context, or torch itself
_DEFAULT_SHARE = {"vllm": 0.9, "sglang": 0.9}  # of the GPU's memory
_CACHE_SHARE = {"tensorrt-llm": 0.9, "lmdeploy": 0.8}  # of what weights and framework leave
_CONTEXT = 4096  # llama.cpp's adapter: of one slot


@dataclass(frozen=True)
class MemoryNeed:
    """What one GPU, or the machine's memory, has to hold at least, in bytes; and what one more token takes there."""

    weights: float
    cache: float
    framework: float
    per_token: float

    @property
    def total(self) -> float:
        """The bytes of all parts together."""
        return self.weights + self.cache + self.framework


def misfit(loaded: LoadedSpec, configuration: Configuration) -> str | None:
    """Why the configuration's model surely does not fit. None if it may fit, or if its size or the memory is not
    known.
    """
    found = _served(loaded)
    if found is None:
        return None
    try:
        size = _size(loaded)
    except UnreadableModelError:
        return None  # the server says it better
    memory = _memory(loaded, configuration, found)
    if size is None or memory is None:
        return None
    need = memory_needed(size, found, configuration)
    if need.total <= memory:
        return None
    return (
        f"needs {need.total / GIB:.3g} GiB of memory at least (weights {need.weights / GIB:.3g}, cache of keys and "
        f"values {need.cache / GIB:.3g}, {found.adapter.title} itself {need.framework / GIB:.3g}), and has "
        f"{memory / GIB:.3g}"
    )


def memory_needed(size: ModelSize, found: Serving, configuration: Configuration) -> MemoryNeed:
    """The least memory that is needed: weights in the precision that is loaded, and the cache without which the
    server does not start.
    """
    values, name = found.values(configuration), found.adapter.name
    gpus = _whole(values.get("tensor_parallel")) * _whole(values.get("pipeline_parallel"))
    kv_bytes = _KV_BYTES.get(str(values.get("kv_cache_dtype")), _HALF)
    if bits := _whole(values.get("kv_cache_bits"), 0):
        kv_bytes = bits / 8
    if name == "llama.cpp":
        weights = float(size.stored_bytes)
        kv_bytes = (kv_bytes + _HALF) / 2  # the type is that of keys alone
        tokens = found.model.number("context", _CONTEXT) * _whole(values.get("workers"))  # allocated at the start
    else:
        weights = _loaded(size, values)
        tokens = 0
        if name == "vllm":  # it does not start without room for one request of the longest kind
            tokens = _whole(values.get("max_model_len"), size.max_tokens or 0)
    per_token = size.kv_elements * kv_bytes / gpus
    return MemoryNeed(weights / gpus, tokens * per_token, _FRAMEWORK_GIB[name] * GIB, per_token)


def fit_lines(loaded: LoadedSpec) -> Iterator[str]:
    """A line for what the model needs, and one per type and slice of GPU: how many tokens its cache may hold there."""
    found = _served(loaded)
    if found is None:
        return
    try:
        size = _size(loaded)
    except UnreadableModelError as error:
        yield f"warning: {error}"
        return
    if size is None:
        return
    yield (
        f"model: {size.elements / 1e6:,.4g} million weights, {size.stored_bytes / GIB:.3g} GiB as stored; a token "
        f"takes {size.kv_elements * _HALF / 1024:.4g} KiB of cache in 16 bits"
    )
    seen: dict[str, list[str]] = {}
    roles = [parameter for role in ("gpu_type", "gpu_memory", "gpus", "memory") if (
        parameter := loaded.space.with_role(role))]  # fmt: skip
    asked = {parameter.role for parameter in roles}
    first = {parameter.name: parameter.choices[0] for parameter in loaded.space.parameters}
    for chosen in product(*(parameter.choices for parameter in roles)):
        own = dict(zip((parameter.name for parameter in roles), chosen, strict=True))
        shown = ", ".join(f"{name}={value}" for name, value in own.items()) or "this machine"
        configuration = first | own
        memory = _memory(loaded, configuration, found)
        if memory is None:
            remedy = "give it in prices.gpu_hour" if "gpu_type" in asked else "a parameter with the role memory says it"
            seen.setdefault(f"memory not known: {remedy}", []).append(shown)
            continue
        need = memory_needed(size, found, configuration)
        left = memory - need.weights - need.framework
        room = left * _cache_share(found, configuration) / need.per_token
        said = "does not fit" if need.total > memory else f"room for {int(room):,} tokens"
        seen.setdefault(said, []).append(shown)
    for said, where in seen.items():
        yield f"  {said}: {'; '.join(where[:12])}" + (f" and {len(where) - 12} more" if len(where) > 12 else "")


def _served(loaded: LoadedSpec) -> Serving | None:
    """The server's adapter, if it serves a language model and is launched here by the adapter's own command; else None.
    What a command of the user's says (a shorter context, parts on several GPUs) is not known here.
    """
    runner, service = loaded.spec.runner, loaded.spec.service
    if service.server not in _SERVERS or service.command or not runner.launches or runner.elsewhere:
        return None
    return serving(loaded)


def _size(loaded: LoadedSpec) -> ModelSize | None:
    path = loaded.spec.service.model.path
    return None if path is None else model_size((loaded.folder / Path(path).expanduser()).resolve())


def _loaded(size: ModelSize, values: dict[str, ParameterValue]) -> float:
    if size.quantised:
        return float(size.stored_bytes)
    quantised = values.get("quantization") not in (None, "none", "auto")
    return size.elements * (1.0 if quantised else _BYTES.get(str(values.get("precision")), _HALF))


def _memory(loaded: LoadedSpec, configuration: Configuration, found: Serving) -> float | None:
    """What the server may use of one GPU, or of the container's memory where it has none."""
    asked, values = resources(loaded.space, configuration), found.values(configuration)
    if not asked.gpu_count:
        return None if asked.memory_bytes is None else float(asked.memory_bytes)
    prices = loaded.spec.prices.gpu_hour
    only = next(iter(prices)) if len(prices) == 1 else ""
    gpu = prices.get(asked.gpu_type or only)
    whole = _slice_bytes(asked.gpu_memory, gpu.memory if gpu else None)
    if whole is None or not _all_on_gpu(found, values):
        return None
    share = values.get("gpu_memory_share", _DEFAULT_SHARE.get(found.adapter.name, 1.0))
    return whole * (float(share) if isinstance(share, int | float) else 1.0)


def _cache_share(found: Serving, configuration: Configuration) -> float:
    """The share of the memory left by weights and framework that the cache may take, 0 to 1."""
    share = found.values(configuration).get("kv_cache_share", _CACHE_SHARE.get(found.adapter.name, 1.0))
    return float(share) if isinstance(share, int | float) else 1.0


def _all_on_gpu(found: Serving, values: dict[str, ParameterValue]) -> bool:
    return found.adapter.name != "llama.cpp" or _whole(values.get("gpu_layers"), 0) >= 99


def _slice_bytes(slice_: ParameterValue | None, whole: int | None) -> float | None:
    """A MIG profile's size is that of its name in GiB, a little more than it has."""
    if slice_ is None:
        return None if whole is None else float(whole)
    if isinstance(slice_, str) and (profile := MIG_PROFILE.fullmatch(slice_)):
        return float(parse_size(f"{profile[2]}Gi"))
    share = quantity(slice_)
    if isinstance(share, float) and 0 < share <= 1:
        return None if whole is None else share * whole
    return float(parse_size(slice_))


def _whole(value: ParameterValue | None, default: int = 1) -> int:
    return int(value) if isinstance(value, int | float) else default
