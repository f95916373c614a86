"""Will a model fit: headers of small files that are made here, and what is refused without a launch."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from tuner.launch.memory.fit import fit_lines, misfit
from tuner.launch.memory.model_file import UnreadableModelError, model_size
from tuner.spec.reading import load_spec

CONFIG = {
    "hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4,
    "max_position_embeddings": 2048,
}  # fmt: skip
KV_ELEMENTS = 2 * 4 * 2 * 64


def transformers(folder: Path, elements: int = 1000, size: int = 4, **config: Any) -> Path:
    """A folder whose safetensors file says that its weights are there; nobody reads them."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    header = json.dumps(
        {"__metadata__": {}, "w": {"dtype": "F32", "shape": [elements], "data_offsets": [0, size * elements]}}
    ).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


def gguf(path: Path, **more: int) -> Path:
    """A file of one tensor of 64 x 8 16-bit numbers, with a tokenizer's lists before it."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    numbers = {"block_count": 2, "embedding_length": 64, "attention.head_count": 4, "attention.head_count_kv": 2,
               "context_length": 512} | more  # fmt: skip
    pairs = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    pairs += [text(f"llama.{name}") + struct.pack("<II", 4, value) for name, value in numbers.items()]
    pairs.append(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"))
    pairs.append(text("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, 2) + struct.pack("<2f", 0.5, 1.5))
    tensor = text("w") + struct.pack("<I2QIQ", 2, 64, 8, 1, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    path.write_bytes(head + b"\0" * (-len(head) % 32) + b"\1" * 1024)
    return path


def test_sizes_come_from_the_headers_of_safetensors(tmp_path: Path) -> None:
    size = model_size(transformers(tmp_path / "m"))
    assert size is not None
    assert (size.elements, size.stored_bytes, size.kv_elements, size.max_tokens) == (1000, 4000, KV_ELEMENTS, 2048)


def test_sizes_come_from_the_header_of_a_gguf_file(tmp_path: Path) -> None:
    size = model_size(gguf(tmp_path / "m.gguf"))
    assert size is not None
    assert (size.elements, size.stored_bytes, size.max_tokens) == (512, 1024, 512)
    assert size.kv_elements == 2 * 2 * 2 * 16


def test_where_attention_keeps_less_nothing_is_said(tmp_path: Path) -> None:
    for number, kind in enumerate(({"kv_lora_rank": 512}, {"sliding_window": 4096}, {"mamba_d_state": 16})):
        assert model_size(transformers(tmp_path / str(number), **kind)) is None
    assert model_size(gguf(tmp_path / "m.gguf", **{"attention.sliding_window": 128})) is None
    assert model_size(tmp_path) is None
    mixed = model_size(transformers(tmp_path / "x", layer_types=["full_attention", "sliding_attention"]))
    assert mixed is not None
    assert mixed.kv_elements == KV_ELEMENTS / 4


@pytest.mark.parametrize("wrong", [b"", b"\xff" * 8, struct.pack("<Q", 10) + b"{}", struct.pack("<Q", 2) + b"[]"])
def test_a_broken_header_is_an_error_and_no_crash(tmp_path: Path, wrong: bytes) -> None:
    folder = transformers(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(wrong)
    with pytest.raises(UnreadableModelError, match="cannot be read as a model"):
        model_size(folder)


@pytest.mark.parametrize(
    "wrong", [{"num_attention_heads": 0, "head_dim": None}, {"max_position_embeddings": float("inf")}]
)
def test_a_config_that_no_model_has_is_an_error_and_no_crash(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UnreadableModelError, match="cannot be read as a model"):
        model_size(transformers(tmp_path / "m", **wrong))


def test_heads_of_nothing_are_an_error_and_no_crash(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModelError):
        model_size(gguf(tmp_path / "m.gguf", **{"attention.head_count": 0}))


def test_nobody_waits_for_weights_that_are_a_pipe(tmp_path: Path) -> None:
    folder = transformers(tmp_path / "m")
    os.mkfifo(folder / "more.safetensors")
    with pytest.raises(UnreadableModelError, match=r"more\.safetensors is not a file"):
        model_size(folder)


@pytest.mark.parametrize("cut", [3, 10, 24, 60, 150, 300])
def test_a_cut_gguf_file_is_an_error_and_no_crash(tmp_path: Path, cut: int) -> None:
    whole = gguf(tmp_path / "m.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:cut])
    with pytest.raises(UnreadableModelError):
        model_size(tmp_path / "cut.gguf")


SPEC = """\
version: 1
service: {{name: m, server: {server}, model: {{path: {path}}}, image: x}}
slo: {{p99: 1s}}
space:
  parameters:
    gpu_type: [small]
    gpu_memory: {{choices: [25%, 100%], role: gpu_memory}}
    {more}
prices: {{gpu_hour: {{small: {{price: 1, memory: 8Gi}}}}}}
runner: {{type: kubernetes}}
"""


def loaded(folder: Path, server: str, path: str, more: str = "") -> Any:
    (folder / "spec.yaml").write_text(SPEC.format(server=server, path=path, more=more))
    return load_spec(folder / "spec.yaml")


def test_what_cannot_fit_is_refused_with_its_parts(tmp_path: Path) -> None:
    """3 GiB of weights in 16 bits: 2 of 8 GiB are too few, all of them enough; in 32 bits it is 6."""
    transformers(tmp_path / "m", elements=3 * 2**29)
    spec = loaded(tmp_path, "vllm", "m", "precision: [auto, fp32]")
    reason = misfit(spec, {"gpu_type": "small", "gpu_memory": "25%", "precision": "auto"})
    assert reason is not None
    assert reason.startswith("needs 3.5 GiB of memory at least (weights 3, ")
    assert reason.endswith("and has 1.8")
    assert misfit(spec, {"gpu_type": "small", "gpu_memory": "100%", "precision": "auto"}) is None
    assert misfit(spec, {"gpu_type": "small", "gpu_memory": "100%", "precision": "fp32"}) is None
    lines = list(fit_lines(spec))
    assert lines[0].startswith("model: 1,611 million weights, 6 GiB as stored")
    assert lines[1] == "  does not fit: gpu_type=small, gpu_memory=25%"
    assert "room for" in lines[2]


def test_a_longest_request_that_the_cache_cannot_hold_does_not_start_vllm(tmp_path: Path) -> None:
    """A token takes 2 KiB: 4 million of them are 8 GiB."""
    transformers(tmp_path / "m", max_position_embeddings=4 * 2**20)
    spec = loaded(tmp_path, "vllm", "m", "max_model_len: [2048, 4194304]")
    whole = {"gpu_type": "small", "gpu_memory": "100%"}
    assert "cache of keys and values 8" in str(misfit(spec, {**whole, "max_model_len": 4194304}))
    assert misfit(spec, {**whole, "max_model_len": 2048}) is None


def test_two_gpus_have_half_of_the_weights_each(tmp_path: Path) -> None:
    transformers(tmp_path / "m", elements=5 * 2**30)
    spec = loaded(tmp_path, "vllm", "m", "gpus: [1, 2]\n    tensor_parallel: [1, 2]")
    whole = {"gpu_type": "small", "gpu_memory": "100%"}
    assert misfit(spec, {**whole, "gpus": 1, "tensor_parallel": 1}) is not None
    assert misfit(spec, {**whole, "gpus": 2, "tensor_parallel": 2}) is None


def test_what_is_not_known_is_never_refused(tmp_path: Path) -> None:
    spec = loaded(tmp_path, "vllm", "org/model-on-the-hub")
    assert misfit(spec, {"gpu_type": "small", "gpu_memory": "25%"}) is None
    assert list(fit_lines(spec)) == []


@pytest.mark.parametrize(("server", "default"), [("tensorrt-llm", 0.9), ("lmdeploy", 0.8)])
def test_a_cache_that_takes_a_share_of_what_is_left_has_room_for_as_much(
    tmp_path: Path, server: str, default: float
) -> None:
    """3 GiB of weights and half a GiB of the framework leave 4.5 of 8; a token takes 2 KiB."""
    transformers(tmp_path / "m", elements=3 * 2**29)
    left = 4.5 * 2**30 / 2048
    for more, share in (("", default), ("kv_cache_share: [0.5]", 0.5)):
        lines = list(fit_lines(loaded(tmp_path, server, "m", more)))
        assert lines[1] == "  does not fit: gpu_type=small, gpu_memory=25%"
        assert lines[2].startswith(f"  room for {int(left * share):,} tokens")
    eight = loaded(tmp_path, "lmdeploy", "m", "kv_cache_bits: [8]\n    kv_cache_share: [0.5]")
    assert list(fit_lines(eight))[2].startswith(f"  room for {int(left):,} tokens")


def test_what_a_command_of_the_users_says_is_not_known_and_refuses_nothing(tmp_path: Path) -> None:
    """Its context may be shorter than the model's longest, and its parts may lie on several GPUs."""
    transformers(tmp_path / "m", max_position_embeddings=4 * 2**20)
    asked = {"gpu_type": "small", "gpu_memory": "100%"}
    assert misfit(loaded(tmp_path, "vllm", "m"), asked) is not None
    text = (
        (tmp_path / "spec.yaml")
        .read_text()
        .replace("image: x", "image: x, command: [vllm, serve, m, --max-model-len, 4096]")
    )
    (tmp_path / "spec.yaml").write_text(text)
    assert misfit(load_spec(tmp_path / "spec.yaml"), asked) is None
