"""What the files of a language model say of its size, from their headers alone.

- `config.json` as transformers writes it: https://huggingface.co/docs/transformers/main_classes/configuration
- safetensors: 8 bytes of length, then JSON: https://github.com/huggingface/safetensors#format
- GGUF, versions 2 and 3: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

_MAX_CONFIG, _MAX_HEADER, _MAX_GGUF = 4 << 20, 100 << 20, 256 << 20  # bytes; larger ones are no model's
_MAX_COUNT, _MAX_TEXT = 10_000_000, 1 << 20
_QUANTISED = ("quantization_config", "compression_config")
# GGUF's types of metadata that are numbers: struct's letters. 8 is a text, 9 a list.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9


class UnreadableModelError(Exception):
    """The files are not what their names say; says which, and why."""


@dataclass(frozen=True)
class ModelSize:
    """`elements` are the weights' numbers, `stored_bytes` what they take as stored. `kv_elements` are those that one
    token adds to the cache of keys and values. `quantised` weights are loaded as they are stored.
    """

    elements: int
    stored_bytes: int
    kv_elements: int
    max_tokens: int | None
    quantised: bool = False


_NO_MODEL = (
    OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError, ArithmeticError,
)  # fmt: skip


@lru_cache(maxsize=16)
def model_size(path: Path) -> ModelSize | None:
    """The size of the model in a folder with `config.json` and safetensors, or in a GGUF file. None for anything
    else, and for attention of a form that is not known. Raises UnreadableModelError.
    """
    try:
        if path.is_file() and path.suffix == ".gguf":
            return _gguf(path)
        if (path / "config.json").is_file():
            return _transformers(path)
    except _NO_MODEL as error:
        raise UnreadableModelError(f"{path} cannot be read as a model: {error or type(error).__name__}") from error
    return None


def _transformers(folder: Path) -> ModelSize | None:
    config = _json(folder / "config.json", _MAX_CONFIG)
    config = config.get("text_config", config)
    files = sorted(folder.glob("*.safetensors"))
    layers = _full_layers(config)
    if not files or not layers:
        return None
    shapes = [one for file in files for one in _tensors(file)]
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
    longest = config.get("max_position_embeddings")
    return ModelSize(
        elements=sum(math.prod(shape) for shape, _ in shapes), stored_bytes=sum(size for _, size in shapes),
        kv_elements=2 * layers * kv_heads * head_dim,
        max_tokens=None if longest is None else int(longest),
        quantised=any(config.get(key) for key in _QUANTISED),
    )  # fmt: skip


def _full_layers(config: dict[str, Any]) -> int:
    """How many layers keep keys and values of every token. 0 if that is not known: latent attention, state spaces and
    sliding windows keep less.
    """
    if "layer_types" in config:
        return sum(kind == "full_attention" for kind in config["layer_types"])
    windowed = config.get("sliding_window") and config.get("use_sliding_window", True)
    if windowed or "kv_lora_rank" in config or any(key.startswith(("mamba", "ssm", "attn_layer")) for key in config):
        return 0
    return int(config.get("num_hidden_layers", 0))


def _tensors(path: Path) -> list[tuple[list[int], int]]:
    """The shape and the bytes of each tensor."""
    if not path.is_file():
        raise ValueError(f"{path.name} is not a file")
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", _exactly(file, 8))
        if length > _MAX_HEADER:
            raise ValueError(f"{path.name} has a header of {length} bytes")
        header = json.loads(_exactly(file, length))
    found = []
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            found.append(([int(size) for size in tensor["shape"]], int(end) - int(begin)))
    return found


def _gguf(path: Path) -> ModelSize | None:
    with path.open("rb") as file:
        if _exactly(file, 4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version, tensors, pairs = struct.unpack("<IQQ", _exactly(file, 20))
        if version not in (2, 3) or tensors > _MAX_COUNT or pairs > _MAX_COUNT:
            raise ValueError(f"version {version} with {tensors} tensors is not known")
        known = dict(_pair(file) for _ in range(pairs))
        elements = sum(_tensor_elements(file) for _ in range(tensors))
        aligned = int(known.get("general.alignment", 32))
        begin = -(-file.tell() // aligned) * aligned
    kind = known["general.architecture"]
    less = (f"{kind}.attention.sliding_window", f"{kind}.attention.kv_lora_rank", f"{kind}.ssm.state_size")
    if any(known.get(key) for key in less):
        return None
    heads, layers = int(known[f"{kind}.attention.head_count"]), int(known[f"{kind}.block_count"])
    kv_heads = int(known.get(f"{kind}.attention.head_count_kv", heads))
    width = int(known[f"{kind}.embedding_length"]) // heads
    keys = int(known.get(f"{kind}.attention.key_length", width))
    values = int(known.get(f"{kind}.attention.value_length", width))
    longest = known.get(f"{kind}.context_length")
    return ModelSize(
        elements=elements, stored_bytes=path.stat().st_size - begin, kv_elements=layers * kv_heads * (keys + values),
        max_tokens=None if longest is None else int(longest), quantised=True,
    )  # fmt: skip


def _pair(file: IO[bytes]) -> tuple[str, Any]:
    key = _text(file)
    (kind,) = struct.unpack("<I", _exactly(file, 4))
    return key, _value(file, kind)


def _value(file: IO[bytes], kind: int) -> Any:
    if kind == _TEXT:
        return _text(file)
    if kind == _LIST:
        inner, count = struct.unpack("<IQ", _exactly(file, 12))
        if count > _MAX_COUNT or inner == _LIST:
            raise ValueError("a list of its metadata is too long")
        return [_value(file, inner) for _ in range(count)] if inner not in _NUMBERS else _skipped(file, inner, count)
    return struct.unpack(f"<{_NUMBERS[kind]}", _exactly(file, struct.calcsize(f"<{_NUMBERS[kind]}")))[0]


def _skipped(file: IO[bytes], kind: int, count: int) -> int:
    """Lists of numbers are the tokenizer's. Their least is all that anybody asks for, as of heads per layer."""
    letters = f"<{count}{_NUMBERS[kind]}"
    return min(struct.unpack(letters, _exactly(file, struct.calcsize(letters))), default=0)


def _tensor_elements(file: IO[bytes]) -> int:
    _text(file)
    (dimensions,) = struct.unpack("<I", _exactly(file, 4))
    if dimensions > 8:
        raise ValueError(f"a tensor has {dimensions} dimensions")
    sizes = struct.unpack(f"<{dimensions}Q", _exactly(file, 8 * dimensions))
    _exactly(file, 12)  # its type, and where it begins
    return math.prod(sizes)


def _text(file: IO[bytes]) -> str:
    (length,) = struct.unpack("<Q", _exactly(file, 8))
    if length > _MAX_TEXT:
        raise ValueError(f"a text of {length} bytes")
    return _exactly(file, length).decode("utf-8", errors="replace")


def _exactly(file: IO[bytes], count: int) -> bytes:
    if file.tell() + count > _MAX_GGUF:
        raise ValueError("its header is too long")
    found = file.read(count)
    if len(found) < count:
        raise ValueError("it ends within its header")
    return found


def _json(path: Path, max_bytes: int) -> dict[str, Any]:
    with path.open("rb") as file:
        text = file.read(max_bytes + 1)
    if len(text) > max_bytes:
        raise ValueError(f"{path.name} is larger than {max_bytes} bytes")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError(f"{path.name} holds no mapping")
    return found
