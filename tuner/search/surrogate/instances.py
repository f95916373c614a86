"""What a cloud's instance types have, read from their names: cores, memory, and GPUs.

`g5.2xlarge` has 8 cores by its size, and an A10G by its family; `n1-standard-8` and `Standard_D8s_v5` say their cores.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SIZES = {"nano": 2, "micro": 2, "small": 2, "medium": 1, "large": 2, "xlarge": 4, "metal": 96}
_AWS = re.compile(r"^(?:ml\.)?([a-z]+\d+[a-z-]*)\.(\d*)(x?large|medium|small|micro|nano|metal)")
_GCP = re.compile(r"^([a-z]\d[a-z]?)-(standard|highmem|highcpu|megagpu|highgpu|ultragpu)-(\d+)(g?)")
_AZURE = re.compile(r"^standard_([a-z]+)(\d+)([a-z]*)")
# By family: GPU, cores per GPU (the smallest instance has one GPU).
_AWS_GPUS = {
    "g3": ("M60", 16), "g4dn": ("T4", 16), "g4ad": ("V520", 16), "g5": ("A10G", 24), "g5g": ("T4G", 16),
    "g6": ("L4", 24), "g6e": ("L40S", 24), "p2": ("K80", 4), "p3": ("V100", 8), "p3dn": ("V100", 12),
    "p4d": ("A100", 12), "p4de": ("A100-80GB", 12), "p5": ("H100", 24), "p5e": ("H200", 24),
}  # fmt: skip
_GCP_GPUS = {"a2": "A100", "a3": "H100", "g2": "L4"}
_AZURE_GPUS = {"nc": "T4", "nv": "M60", "nd": "A100"}
_GIB_PER_CORE = {"c": 2.0, "m": 4.0, "r": 8.0, "t": 4.0, "x": 16.0, "g": 4.0, "p": 8.0, "i": 2.0}


class Hardware(NamedTuple):
    """Cores, GiB of memory, a GPU's name or None, how many of it."""

    cores: float
    memory_gib: float
    gpu: str | None
    gpus: int


def instance_hardware(name: str) -> Hardware | None:
    """None where the name says nothing."""
    text = name.lower()
    if found := _AWS.match(text):
        family, times, size = found.groups()
        cores = _SIZES[size] * int(times or 1)
        kind = _AWS_GPUS.get(family)
        gib = cores * (_GIB_PER_CORE.get(family[0], 4.0) if family not in ("inf1", "inf2") else 2.0)
        return Hardware(cores, gib, kind[0] if kind else None, max(1, round(cores / kind[1])) if kind else 0)
    if found := _GCP.match(text):
        family, shape, number, by_gpu = found.groups()
        gpu = _GCP_GPUS.get(family)
        cores = int(number) * (12 if by_gpu else 1)
        gib = cores * {"highmem": 8.0, "highcpu": 1.0}.get(shape, 4.0)
        return Hardware(cores, gib, gpu, (int(number) if by_gpu else 1) if gpu else 0)
    if found := _AZURE.match(text):
        family, number, _ = found.groups()
        cores = int(number)
        gpu = next((each for start, each in _AZURE_GPUS.items() if family.startswith(start)), None)
        gib = cores * {"f": 2.0, "e": 8.0}.get(family[0], 4.0)
        return Hardware(cores, gib, gpu, 1 if gpu else 0)
    return None
