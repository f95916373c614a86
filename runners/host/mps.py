"""CUDA's Multi-Process Service, which keeps a process to a part of a GPU's multiprocessors and memory where it runs.

https://docs.nvidia.com/deploy/mps/appendix-tools-and-interface-reference.html (environment variables of a client)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from runners.host.devices import gpus_text, slice_bytes
from runners.protocol import MIB, Resources

_FOLDER, _DEFAULT = "CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"  # noqa: S108 (the service's own)
_COMPUTE, _MEMORY = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"


def is_running() -> bool:
    """Whether the service's control is where its clients look for it."""
    return (Path(os.environ.get(_FOLDER, _DEFAULT)) / "control").exists()


def mps_refusal(resources: Resources, memory_bytes: int | None) -> str | None:
    """Why the service cannot keep a process to what is asked for, or None."""
    if not resources.gpu_count:
        return None
    if not is_running():
        return f"asks for {gpus_text(resources)}, and CUDA's MPS does not run here: nvidia-cuda-mps-control -d"
    slice_ = resources.gpu_memory
    if slice_ in (None, 1, 1.0, "100%") or slice_bytes(slice_, memory_bytes) is not None:
        return None
    return f"asks for {gpus_text(resources)}, which CUDA's MPS cannot keep: write a share (25%) or a size (8Gi)"


def mps_limits(resources: Resources, count: int, memory_bytes: int | None) -> dict[str, str]:
    """The variables by which the service keeps a process of so many GPUs to its shares of them; none where it is to
    have all. `memory_bytes` is what one GPU has.
    """
    limits = {_COMPUTE: resources.compute_percent} if resources.shares_compute else {}
    size = slice_bytes(resources.gpu_memory, memory_bytes)
    if size is not None:
        limits[_MEMORY] = ",".join(f"{device}={size // MIB}M" for device in range(max(1, count)))
    if limits and _FOLDER in os.environ:
        limits[_FOLDER] = os.environ[_FOLDER]
    return limits


def is_kept(env: Mapping[str, str]) -> bool:
    """Whether an environment has one of the limits."""
    return bool({_COMPUTE, _MEMORY} & env.keys())
