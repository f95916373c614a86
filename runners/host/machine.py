"""What this machine, or the container that we run in, has to give: CPU cores, memory, GPUs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from runners.host.cgroup import Cgroups


def usable_cores() -> tuple[int, ...]:
    """The CPU cores that this process may use: its affinity, cut to a cgroup's quota where there is one.

    Part of a core is not counted: a server pinned to it would be throttled and measured as slow.
    """
    cores = tuple(sorted(os.sched_getaffinity(0)))
    quota = Cgroups().cpu_quota()
    return cores if quota is None else cores[: max(1, int(quota + 1e-6))]


def usable_memory_bytes() -> int:
    """The machine's memory, or its cgroup's limit where that is less."""
    total, limit = int(psutil.virtual_memory().total), Cgroups().memory_limit_bytes()
    return total if limit is None else min(total, limit)


def has_gpu() -> bool:
    """Whether an NVIDIA device is there."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
