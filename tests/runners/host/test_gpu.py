"""What is read of GPUs. What NVML tells of one is checked only where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from runners.host.gpu import GpuLook, ask_dcgm, from_dcgm, is_of_type, nvml
from runners.host.machine import has_gpu
from runners.host.samples import Sample, Samples

# As DCGM's exporter 3.3 writes it: https://github.com/NVIDIA/dcgm-exporter
EXPORTED = """\
# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-1",modelName="NVIDIA A100",pod="ours",namespace="default"} 1410
DCGM_FI_DEV_SM_CLOCK{gpu="1",UUID="GPU-2",modelName="NVIDIA A100",pod="theirs",namespace="default"} 210
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",modelName="NVIDIA A100",pod="ours",namespace="default"} 87
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-2",modelName="NVIDIA A100",pod="theirs",namespace="default"} 3
# HELP DCGM_FI_DEV_FB_USED Framebuffer memory used (in MiB).
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1",modelName="NVIDIA A100",pod="ours",namespace="default"} 2048
# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).
# TYPE DCGM_FI_DEV_POWER_USAGE gauge
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-1",modelName="NVIDIA A100",pod="ours",namespace="default"} 301.5
# HELP DCGM_FI_DEV_CLOCK_THROTTLE_REASONS Current clock throttle reasons (bitmask).
# TYPE DCGM_FI_DEV_CLOCK_THROTTLE_REASONS gauge
DCGM_FI_DEV_CLOCK_THROTTLE_REASONS{gpu="0",UUID="GPU-1",modelName="NVIDIA A100",pod="ours",namespace="default"} 36
"""


def test_an_exporter_tells_of_the_pods_own_gpus() -> None:
    found = from_dcgm(EXPORTED, "ours")
    assert found == GpuLook(0.87, 2 * 2**30, 301.5, 1410.0, frozenset({"power cap", "heat"}))
    assert from_dcgm(EXPORTED, "nobody") is None


def test_of_a_slice_the_power_is_not_that_of_its_whole_gpu() -> None:
    in_slices = EXPORTED.replace('UUID="GPU-1"', 'UUID="GPU-1",GPU_I_PROFILE="1g.10gb",GPU_I_ID="7"')
    newer = in_slices.replace("CLOCK_THROTTLE_REASONS", "CLOCKS_EVENT_REASONS")
    assert from_dcgm(newer, "ours") == GpuLook(0.87, 2 * 2**30, None, 1410.0, frozenset({"power cap", "heat"}))


class _Exporter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(EXPORTED.encode() if self.path == "/metrics" else b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def exporter() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Exporter) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_exporter_that_does_not_answer_tells_nothing(exporter: str) -> None:
    found = ask_dcgm(f"{exporter}/metrics", "ours")
    assert found is not None
    assert found.utilization == 0.87
    assert ask_dcgm(f"{exporter}/elsewhere", "ours") is None
    assert ask_dcgm("http://127.0.0.1:9/metrics", "ours") is None


def test_use_of_a_gpu_is_judged_over_a_stretch() -> None:
    samples = Samples()
    looks = [GpuLook(0.2, 100, 50.0, 1000.0), GpuLook(0.6, 300, 150.0, None, frozenset({"heat"})), None]
    for at, look in enumerate(looks):
        samples.add(Sample(float(at), float(at), 1, 1, gpu=look))
    found = samples.usage(0.0, 2.0)
    assert found.gpu_utilization == pytest.approx(0.4)
    assert found.gpu_memory_peak_bytes == 300
    assert (found.gpu_power_w, found.gpu_clock_mhz, found.gpu_throttling) == (100.0, 1000.0, ("heat",))


def test_a_machine_without_a_driver_has_no_gpus() -> None:
    if has_gpu():
        pytest.skip("there is a GPU here")
    assert nvml() is None


WORK = """
import sys, time, torch
x = torch.zeros(256 * 2**20, dtype=torch.uint8, device="cuda")
a = torch.rand(4096, 4096, device="cuda")
print("up", flush=True)
end = time.monotonic() + 10
while time.monotonic() < end:
    a = (a @ a).clamp(0, 1)
    torch.cuda.synchronize()
"""


@pytest.mark.parametrize(
    ("name", "asked", "same"),
    [
        ("Tesla T4", "T4", True), ("NVIDIA A100-SXM4-80GB", "A100", True), ("NVIDIA A100-SXM4-80GB", "A100-80GB", True),
        ("NVIDIA A100-SXM4-40GB", "A100-80GB", False), ("NVIDIA L40S", "L4", False), ("NVIDIA A10G", "A100", False),
        ("NVIDIA GeForce RTX 4090", "RTX4090", True), ("NVIDIA H100 80GB HBM3", "nvidia-h100", True),
    ],
)  # fmt: skip
def test_a_device_is_known_by_what_a_spec_calls_it(name: str, asked: str, same: bool) -> None:
    assert is_of_type(name, asked) == same


@pytest.mark.usefixtures("needs_machine")
@pytest.mark.skipif(not has_gpu(), reason="there is no GPU here")
def test_a_process_on_a_gpu_is_seen_with_its_memory_and_work() -> None:
    gpus = nvml()
    assert gpus is not None
    assert gpus.look({os.getpid()}) is None
    with subprocess.Popen([sys.executable, "-c", WORK], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        try:
            looks = [found for _ in range(20) if (found := gpus.look({process.pid})) is not None]
        finally:
            process.kill()
    assert looks
    assert looks[-1].memory_bytes is not None
    assert looks[-1].memory_bytes > 256 * 2**20
