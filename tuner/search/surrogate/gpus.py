"""What GPUs can do, from the makers' data sheets."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Dense 16-bit tensor TFLOP/s, GB/s and GiB, from the makers' data sheets.
GPUS: dict[str, tuple[float, float, float]] = {
    "k80": (8.7, 480, 24), "p4": (11, 192, 8), "p100": (19, 732, 16), "v100": (125, 900, 16), "t4": (65, 320, 16),
    "l4": (121, 300, 24), "a2": (18, 200, 16), "a10": (125, 600, 24), "a10g": (70, 600, 24), "a16": (18, 200, 16),
    "a30": (165, 933, 24), "a40": (150, 696, 48), "a100": (312, 1935, 80), "l40": (181, 864, 48),
    "l40s": (362, 864, 48), "h100": (989, 3350, 80), "h200": (989, 4800, 141), "b200": (2250, 8000, 180),
    "rtx3090": (71, 936, 24), "rtx4090": (165, 1008, 24), "mi300x": (1307, 5300, 192),
}  # fmt: skip


def gpu_physics(name: str) -> tuple[float, float, float] | None:
    """Of a GPU by whatever it is called: `NVIDIA-A100-SXM4-80GB` is an A100 of 80 GiB."""
    words = name.lower().replace("geforce", "").replace(" ", "-").replace("_", "-").split("-")
    found = next((GPUS[word] for word in words if word in GPUS), None)
    if found is None:
        joined = "".join(words)
        found = next((GPUS[key] for key in sorted(GPUS, key=len, reverse=True) if key in joined), None)
    size = next((float(word.removesuffix("gb")) for word in words if word.endswith("gb") and word[:-2].isdigit()), None)
    return found if found is None or size is None else (found[0], found[1], size)


def log_physics(name: str, compute: float, memory: float) -> Sequence[float]:
    """Logs of what shares of a GPU's compute, and of its memory and bandwidth, have; nan where it is unknown."""
    found = gpu_physics(name)
    shares = (compute, memory, memory)
    return (
        [math.nan] * 3 if found is None else [math.log(one * share) for one, share in zip(found, shares, strict=True)]
    )
