"""Limits that CUDA's Multi-Process Service keeps, as its clients are told them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners import ProcessRunner
from runners.host.mps import mps_limits, mps_refusal
from runners.protocol import Resources

GIB = 2**30


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where clients look for it; nothing is there yet."""
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    return tmp_path


def test_shares_of_a_gpu_are_told_as_threads_and_as_memory_of_each_device(service: Path) -> None:
    asked = Resources(gpu_memory="25%", gpu_compute=0.5, gpus=2)
    assert mps_limits(asked, 2, 80 * GIB) == {
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=20480M,1=20480M",
        "CUDA_MPS_PIPE_DIRECTORY": str(service),
    }
    assert mps_limits(Resources(gpu_memory="8Gi"), 1, None)["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=8192M"
    assert mps_limits(Resources(gpu_type="H100", gpu_memory=1, gpu_compute=1.0), 1, 80 * GIB) == {}


def test_what_the_service_cannot_keep_is_refused(service: Path) -> None:
    asked = Resources(gpu_type="T4", gpu_compute=0.25)
    runner = ProcessRunner(mps=True)
    said = "asks for 25% of the compute of the GPU T4, and CUDA's MPS does not run here: nvidia-cuda-mps-control -d"
    assert runner.refuses(asked) == said
    (service / "control").touch()
    assert mps_refusal(asked, None) is None
    for slice_, memory in (("1g.10gb", 80 * GIB), ("25%", None)):
        assert "which CUDA's MPS cannot keep" in str(mps_refusal(Resources(gpu_memory=slice_), memory))
    assert runner.refuses(Resources(cpu_cores=1)) is None
