"""CUDA's Multi-Process Service, by which a process gets a part of a GPU's multiprocessors: whether it works here.

https://docs.nvidia.com/deploy/mps/ (CUDA_MPS_ACTIVE_THREAD_PERCENTAGE)
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.on_gpu.run import PYTHON, environment

_CONTROL = "nvidia-cuda-mps-control"
_PROBE = """
import json, time, torch
count = torch.cuda.get_device_properties(0).multi_processor_count
one = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
for _ in range(3):
    one @ one
torch.cuda.synchronize()
begun = time.perf_counter()
for _ in range(10):
    one @ one
torch.cuda.synchronize()
rate = 10 * 2 * 8192**3 / (time.perf_counter() - begun) / 1e12
print(json.dumps({"multiprocessors": count, "tflops": round(rate, 1)}))
"""


class NoMps(Exception):
    """MPS cannot be used here; the message says why."""


@contextlib.contextmanager
def service() -> Iterator[dict[str, str]]:
    """The service for as long as the block runs; yields the variables by which processes find it. Raises NoMps."""
    control = shutil.which(_CONTROL)
    if control is None:
        raise NoMps(f"there is no {_CONTROL} here")
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        env = {"CUDA_MPS_PIPE_DIRECTORY": f"{folder}/pipe", "CUDA_MPS_LOG_DIRECTORY": f"{folder}/log"}
        for path in env.values():
            Path(path).mkdir()
        whole = environment() | env
        try:
            done = subprocess.run([control, "-d"], env=whole, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoMps(f"{_CONTROL} does not start: {error}") from error
        if done.returncode:
            raise NoMps(f"{_CONTROL} does not start: {(done.stderr or done.stdout).strip()[:200]}")
        try:
            yield env
        finally:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    [control], input="quit -t 5\n", env=whole, capture_output=True, text=True, timeout=10, check=False
                )


def measured(env: dict[str, str], percentage: int, timeout_s: float = 30.0) -> dict[str, float]:
    """Multiprocessors, and TFLOPS of matrix products, that a process of such a percentage has. Raises NoMps."""
    own = environment() | env | {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(percentage)}
    try:
        done = subprocess.run(
            [PYTHON, "-c", _PROBE], env=own, capture_output=True, text=True, timeout=timeout_s, check=True
        )
        found: dict[str, float] = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise NoMps(f"a process of {percentage}% hung for {timeout_s:.0f} s") from error
    except (subprocess.CalledProcessError, json.JSONDecodeError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise NoMps(f"a process of {percentage}% failed: {said[-1] if said else error}") from error
    return found
