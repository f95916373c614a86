"""What a language model is predicted to take of memory, beside what torch, llama.cpp and vLLM really take for it.

    examples/setup vllm llama-cpp              # vLLM's environment has torch and transformers too
    python -m benchmarks.fit [--engines torch,llama.cpp,vllm]

torch: twelve configurations: two Llama models of random weights, in bfloat16 and float32, with 256, 1,024 and 2,048
tokens in the cache of keys and values. Each is loaded in a process of its own and reads so many tokens; measured is by
how much the process grew (proportional set size) from when it had used a tiny one. Predicted are weights and cache as
`tuner.launch.memory` reads them from the model's files, so what a framework takes by itself is in neither figure.

llama.cpp: its server with the example's model, six numbers of slots and contexts, keys in 16 and in 8 bits; measured is
by how much it grew from one slot of 256 tokens, so the cache alone. vLLM: its server with the example's model and one
GiB for the cache; predicted are as many tokens as it says that this has room for, measured is that GiB.

The goal is within 10% for each.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from runners.host.ports import Ports
from tuner.launch.memory.model_file import model_size

EXAMPLES = Path(__file__).parent.parent / "examples"
PYTHON = EXAMPLES / "vllm" / ".venv" / "bin" / "python"
ENGINES = {"torch": PYTHON, "llama.cpp": EXAMPLES / "llama-cpp" / ".venv" / "bin" / "llama-server",
           "vllm": EXAMPLES / "vllm" / ".venv" / "bin" / "vllm"}  # fmt: skip
SLOTS = ((1, 4096, "f16"), (4, 1024, "f16"), (4, 4096, "f16"), (8, 4096, "f16"), (4, 4096, "q8_0"), (8, 4096, "q8_0"))
KEY_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
READY_S = 300.0
MODELS = {"small": (768, 6), "large": (1024, 8)}  # width and layers; heads of 64, as many of keys and values
PRECISIONS = {"bfloat16": 2, "float32": 4}
TOKENS = (256, 1024, 2048)
GOAL = 0.1

_MAKE = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
folder, width, layers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = LlamaConfig(
    vocab_size=4096, hidden_size=width, intermediate_size=8 * width // 3, num_hidden_layers=layers,
    num_attention_heads=width // 64, num_key_value_heads=width // 64, max_position_embeddings=4096,
)
LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
"""

_USE = """
import ctypes, gc, sys, torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
folder, precision, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3])

def taken():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))

torch.set_num_threads(1)
tiny = LlamaConfig(
    vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1,
    num_key_value_heads=1,
)
with torch.inference_mode():  # whatever is loaded at the first use is loaded by then
    LlamaForCausalLM(tiny).to(getattr(torch, precision))(torch.zeros((1, 256), dtype=int), use_cache=True)
before = taken()
model = LlamaForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision))
cache = DynamicCache()
with torch.inference_mode():
    for begin in range(0, tokens, 256):
        model(torch.randint(0, 4096, (1, 256)), past_key_values=cache, use_cache=True, logits_to_keep=1)
print(taken() - before)
"""


def run(program: str, *words: object) -> str:
    """What a program of that environment prints. It is the environment of an example, which has torch."""
    done = subprocess.run(
        [PYTHON, "-c", program, *map(str, words)], capture_output=True, text=True, check=False,
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr.strip().splitlines()[-1])
    return done.stdout


@contextmanager
def serving(words: list[str], env: dict[str, str], log: Path, port: int) -> Iterator[int]:
    """A server that is ready; yields its process."""
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out, env=os.environ | env)
    try:
        ends = time.monotonic() + READY_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > ends:
                sys.exit(f"{words[0]} does not serve: {log.read_text(errors='replace').strip().splitlines()[-1:]}")
            time.sleep(0.3)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").is_success
    except httpx.HTTPError:
        return False


def taken(pid: int) -> int:
    """Bytes of a process, what it shares counted by its part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


Row = tuple[str, str, str, float, float]  # model, precision, tokens, predicted and measured bytes


def of_torch(folder: Path) -> Iterator[Row]:
    """Weights and cache."""
    for model, (width, layers) in MODELS.items():
        run(_MAKE, folder / model, width, layers)
        size = model_size(folder / model)
        assert size is not None, json.dumps(model)
        for precision, number_bytes in PRECISIONS.items():
            for tokens in TOKENS:
                predicted = number_bytes * (size.elements + tokens * size.kv_elements)
                yield model, precision, f"{tokens:,}", predicted, int(run(_USE, folder / model, precision, tokens))


def of_llama_cpp(folder: Path) -> Iterator[Row]:
    """The cache alone."""
    path = EXAMPLES / "llama-cpp" / "made" / "small.gguf"
    size, port = model_size(path), Ports().take()
    assert size is not None, path

    def used(slots: int, context: int, keys: str) -> int:
        words = [str(ENGINES["llama.cpp"]), "--model", str(path), "--host", "127.0.0.1", "--port", str(port),
                 "--parallel", str(slots), "--ctx-size", str(slots * context), "--threads", "1", "--cache-type-k", keys,
                 "--flash-attn", "on"]  # fmt: skip
        with serving(words, {}, folder / "llama.log", port) as pid:
            return taken(pid)

    least = 256
    before = used(1, least, "f16")
    for slots, context, keys in SLOTS:
        bytes_each = size.kv_elements * (KEY_BYTES[keys] + 2.0) / 2
        predicted = slots * context * bytes_each - least * size.kv_elements * 2.0
        yield "llama.cpp's", f"keys {keys}", f"{slots} x {context:,}", predicted, used(slots, context, keys) - before


def of_vllm(folder: Path) -> Iterator[Row]:
    """The tokens that it says one GiB has room for."""
    path = EXAMPLES / "vllm" / "made"
    size, port = model_size(path), Ports().take()
    assert size is not None, path
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
           "PATH": f"{PYTHON.parent}:{os.environ['PATH']}"}  # fmt: skip
    for precision, number_bytes in PRECISIONS.items():
        log = folder / "vllm.log"
        words = [str(ENGINES["vllm"]), "serve", str(path), "--host", "127.0.0.1", "--port", str(port), "--dtype",
                 precision,
                 "--max-model-len", "512", "--max-num-seqs", "4", "--enforce-eager"]  # fmt: skip
        with serving(words, env, log, port):
            said = re.findall(r"KV cache size: ([\d,]+) tokens", log.read_text(errors="replace"))
        if not said:
            sys.exit("vLLM does not say for how many tokens its cache has room")
        tokens = int(said[-1].replace(",", ""))
        yield "vLLM's", precision, f"{tokens:,}", float(tokens * size.kv_elements * number_bytes), float(2**30)


def main() -> None:
    """Prints a row per configuration, and exits with 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default=",".join(ENGINES))
    engines = parser.parse_args().engines.split(",")
    if missing := [name for name in engines if not ENGINES[name].exists()]:
        sys.exit(f"first: examples/setup vllm llama-cpp ({', '.join(missing)} is not there)")
    print("| model | precision | tokens | predicted MiB | measured MiB | error |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    worst, count = 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        for engine in engines:
            for *shown, predicted, measured in {"torch": of_torch, "llama.cpp": of_llama_cpp, "vllm": of_vllm}[engine](
                Path(name)
            ):
                error = predicted / measured - 1
                worst, count = max(worst, abs(error)), count + 1
                row = (*shown, f"{predicted / 2**20:.1f}", f"{measured / 2**20:.1f}")
                print(f"| {' | '.join(row)} | {error:+.1%} |", flush=True)
    print(f"\n{count} configurations: the largest error is {worst:.1%}, the goal {GOAL:.0%}")
    sys.exit(worst > GOAL)


if __name__ == "__main__":
    main()
