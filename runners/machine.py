"""What this machine, or the container that we run in, has to give: CPU cores, memory, GPUs."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> tuple[int, ...]:
    """The CPU cores that this process may use: its affinity, cut to a cgroup's quota where there is one."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    quota = _cpu_quota()
    return cores if quota is None else cores[: max(1, math.ceil(quota - 1e-6))]


def usable_memory_bytes() -> int:
    """The machine's memory, or its cgroup's limit where that is less."""
    limits = [_number(_CGROUP / "memory.max"), _number(_CGROUP / "memory" / "memory.limit_in_bytes")]
    return min([psutil.virtual_memory().total, *(int(limit) for limit in limits if limit is not None and limit > 0)])


def has_gpu() -> bool:
    """Whether an NVIDIA device is there."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def _cpu_quota() -> float | None:
    """Cores by CFS quota: cgroup v2's `cpu.max`, or version 1's pair of files. None: no quota."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    quota_us = _number(_CGROUP / "cpu" / "cpu.cfs_quota_us")
    period_us = _number(_CGROUP / "cpu" / "cpu.cfs_period_us")
    return quota_us / period_us if quota_us and period_us and quota_us > 0 else None


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # absent, or the word "max"
        return None
