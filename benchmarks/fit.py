"""What a language model is predicted to take of memory, beside what torch really takes for it.

    examples/setup vllm                        # for torch and transformers
    python -m benchmarks.fit

Twelve configurations: two Llama models of random weights, in bfloat16 and float32, with 256, 1,024 and 2,048 tokens in
the cache of keys and values. Each is loaded in a process of its own and reads so many tokens; measured is by how much
the process grew (proportional set size) from when it had used a tiny one. Predicted are weights and cache as
`tuner.launch.memory` reads them from the model's files, so what a framework takes by itself is in neither figure. The
goal is within 10% for each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tuner.launch.memory.model_file import model_size

PYTHON = Path(__file__).parent.parent / "examples" / "vllm" / ".venv" / "bin" / "python"
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


def main() -> None:
    """Prints a row per configuration, and exits with 1 where the goal is missed."""
    if not PYTHON.exists():
        sys.exit("first: examples/setup vllm")
    print("| model | precision | tokens | predicted MiB | measured MiB | error |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        for model, (width, layers) in MODELS.items():
            folder = Path(name) / model
            run(_MAKE, folder, width, layers)
            size = model_size(folder)
            assert size is not None, json.dumps(model)
            for precision, number_bytes in PRECISIONS.items():
                for tokens in TOKENS:
                    predicted = number_bytes * (size.elements + tokens * size.kv_elements)
                    measured = int(run(_USE, folder, precision, tokens))
                    error = predicted / measured - 1
                    worst = max(worst, abs(error))
                    row = (model, precision, f"{tokens:,}", f"{predicted / 2**20:.1f}", f"{measured / 2**20:.1f}")
                    print(f"| {' | '.join(row)} | {error:+.1%} |", flush=True)
    print(f"\nthe largest error is {worst:.1%}, the goal {GOAL:.0%}")
    sys.exit(worst > GOAL)


if __name__ == "__main__":
    main()
