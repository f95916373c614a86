"""What a server's GPUs do: through NVML (`nvidia-ml-py`) on this machine, through DCGM's exporter in a cluster.

What a device does not tell (a MIG slice has no utilisation of its own) is None. Memory is what the server holds: a
framework that takes all there is at its start holds more than it needs, so the smallest slice that works is found by
trial. https://docs.nvidia.com/deploy/nvml-api/, https://docs.nvidia.com/datacenter/dcgm/latest/gpu-telemetry/
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from runners.host.bounded_http import bounded_get
from runners.protocol import MIB

# The same field, by its older and its newer name.
_DCGM_REASONS = ("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS")
# Those by which a GPU is slower than it could be; idling and clocks that somebody has set are no throttling.
_THROTTLING = {0x04: "power cap", 0x08: "hardware slowdown", 0x20: "heat", 0x40: "heat", 0x80: "power brake"}


@dataclass(frozen=True)
class GpuLook:
    """One look at what a server uses of its GPUs: utilisation (0 to 1, the mean over them), memory it holds, power in
    watts, clock of the multiprocessors in MHz, and why they are slowed down.
    """

    utilization: float | None = None
    memory_bytes: int | None = None
    power_w: float | None = None
    clock_mhz: float | None = None
    throttled: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Gpu:
    """A GPU: its index in the order of the bus, UUID, name, whether it is split into slices (MIG), and its memory."""

    index: str
    uuid: str
    name: str
    in_slices: bool
    memory_bytes: int | None = None


class Nvml:
    """The GPUs of this machine. Use `nvml()`, which is None where there are none."""

    def __init__(self) -> None:
        """Raises ImportError without nvidia-ml-py, pynvml.NVMLError without a driver."""
        import pynvml

        pynvml.nvmlInit()
        self._nvml: Any = pynvml

    def names(self) -> tuple[str, ...]:
        """The names of the devices, as NVIDIA writes them: `Tesla T4`, `NVIDIA A100-SXM4-80GB`."""
        return tuple(one.name for one in self.gpus())

    def gpus(self) -> tuple[Gpu, ...]:
        """The devices, in the order of the bus."""
        nvml = self._nvml
        return tuple(
            Gpu(
                str(index), _text(self._ask(nvml.nvmlDeviceGetUUID, device)),
                _text(self._ask(nvml.nvmlDeviceGetName, device)),
                bool((self._ask(nvml.nvmlDeviceGetMigMode, device) or (0,))[0]),
                getattr(self._ask(nvml.nvmlDeviceGetMemoryInfo, device), "total", None),
            )
            for index, device in self._whole()
        )  # fmt: skip

    def look(self, pids: Collection[int], devices: Collection[str] = ()) -> GpuLook | None:
        """Of these processes, on the devices that they run on; or of whole devices, by index or UUID, where named (a
        container's processes have other ids here). None where none is in use.
        """
        used = [one for device in self._devices() if (one := self._used(device, pids, devices)) is not None]
        if not used:
            return None
        return GpuLook(
            utilization=_mean([one.utilization for one in used]),
            memory_bytes=_sum([one.memory_bytes for one in used]),
            power_w=_sum([one.power_w for one in used]),
            clock_mhz=_mean([one.clock_mhz for one in used]),
            throttled=frozenset().union(*(one.throttled for one in used)),
        )

    def _whole(self) -> Iterator[tuple[int, Any]]:
        """Every GPU that answers, with its index."""
        for index in range(self._ask(self._nvml.nvmlDeviceGetCount) or 0):
            device = self._ask(self._nvml.nvmlDeviceGetHandleByIndex, index)
            if device is not None:  # else it is lost
                yield index, device

    def _devices(self) -> Iterator[tuple[str, Any]]:
        """Each with its index; where a GPU is in slices (MIG), the slices by their UUIDs."""
        nvml = self._nvml
        for index, device in self._whole():
            mode = self._ask(nvml.nvmlDeviceGetMigMode, device)
            if not mode or not mode[0]:
                yield str(index), device
                continue
            for slot in range(self._ask(nvml.nvmlDeviceGetMaxMigDeviceCount, device) or 0):
                slice_ = self._ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, device, slot)
                if slice_ is not None:
                    yield f"{index}:{slot}", slice_

    def _used(self, found: tuple[str, Any], pids: Collection[int], devices: Collection[str]) -> GpuLook | None:
        nvml, (index, device) = self._nvml, found
        running = {one.pid: one for one in self._ask(nvml.nvmlDeviceGetComputeRunningProcesses, device) or ()}
        named = index in devices or _text(self._ask(nvml.nvmlDeviceGetUUID, device)) in devices
        ours = [one for pid, one in running.items() if pid in pids]
        if not named and not ours:
            return None
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, device)
        held = [one.usedGpuMemory for one in ours if one.usedGpuMemory is not None]
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, device)
        power = self._ask(nvml.nvmlDeviceGetPowerUsage, device)
        reasons = self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, device) or 0
        return GpuLook(
            utilization=None if rates is None else rates.gpu / 100,
            memory_bytes=sum(held) if held else None if memory is None else memory.used,
            power_w=None if power is None else power / 1e3,
            clock_mhz=self._ask(nvml.nvmlDeviceGetClockInfo, device, nvml.NVML_CLOCK_SM),
            throttled=frozenset(text for bit, text in _THROTTLING.items() if reasons & bit),
        )

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What the device tells; None if it, or its driver, does not tell that."""
        try:
            return call(*arguments)
        except self._nvml.NVMLError:
            return None


def nvml() -> Nvml | None:
    """The GPUs of this machine; None where there is no driver."""
    try:
        return Nvml()
    except Exception:  # noqa: BLE001 (NVMLError is only known where the module is)
        return None


@cache
def gpu_names() -> tuple[str, ...]:
    """The names of this machine's GPUs; none if there is no driver."""
    return tuple(one.name for one in _gpus())


def usable_gpus() -> tuple[Gpu, ...]:
    """This machine's whole GPUs: those of CUDA_VISIBLE_DEVICES, by index or UUID, where we were given only some."""
    return visible_gpus(_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible_gpus(gpus: tuple[Gpu, ...], named: str | None) -> tuple[Gpu, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, in its order, without slices (MIG); None if it is not set."""
    whole = tuple(one for one in gpus if not one.in_slices)
    if named is None:
        return whole
    words = [word.strip() for word in named.split(",") if word.strip()]
    found = [
        next((one for one in whole if word == one.index or (len(word) > 4 and one.uuid.startswith(word))), None)
        for word in words
    ]
    return tuple(one for one in found if one is not None)


@cache
def _gpus() -> tuple[Gpu, ...]:
    found = nvml()
    return () if found is None else found.gpus()


def is_of_type(name: str, asked: str) -> bool:
    """Whether a device of that name is what a spec calls `A100`, `A100-80GB` or `RTX4090`."""
    words = [word for word in re.split(r"[\s_-]+", asked.lower()) if word not in ("", "nvidia", "tesla")]
    parts = ["[\\s_-]*".join(re.findall(r"[a-z]+|\d+", word)) for word in words]
    return all(re.search(rf"(?<![a-z0-9]){part}(?![a-z0-9])", name.lower()) for part in parts)


def from_dcgm(text: str, pod: str) -> GpuLook | None:
    """What DCGM's exporter (its text) says of the GPUs of a pod; None where it says nothing of it."""
    found: dict[str, list[float]] = {}
    sliced = False
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if pod in (sample.labels.get("pod"), sample.labels.get("exported_pod")):
                found.setdefault(sample.name, []).append(sample.value)
                sliced = sliced or bool(sample.labels.get("GPU_I_ID"))
    if not found:
        return None
    utilization = found.get("DCGM_FI_DEV_GPU_UTIL")
    active = found.get("DCGM_FI_PROF_GR_ENGINE_ACTIVE")  # a share already, and told of MIG slices too
    memory = found.get("DCGM_FI_DEV_FB_USED")
    reasons = [int(one) for name in _DCGM_REASONS for one in found.get(name, ())]
    return GpuLook(
        utilization=_mean([one / 100 for one in utilization]) if utilization else _mean(active or []),
        memory_bytes=None if memory is None else int(sum(memory) * MIB),
        # Of a slice (MIG) the exporter says what all of its GPU draws, which others may use as well.
        power_w=None if sliced else _sum(found.get("DCGM_FI_DEV_POWER_USAGE", [])),
        clock_mhz=_mean(found.get("DCGM_FI_DEV_SM_CLOCK", [])),
        throttled=frozenset(text for bit, text in _THROTTLING.items() if any(one & bit for one in reasons)),
    )


def ask_dcgm(url: str, pod: str) -> GpuLook | None:
    """As `from_dcgm`, asking the exporter; None also if it does not answer."""
    with contextlib.suppress(httpx.HTTPError, ValueError):
        answer = bounded_get(url, timeout_s=2.0)
        return from_dcgm(answer.text, pod) if answer.is_success else None
    return None


def _mean(values: list[Any]) -> float | None:
    known = [float(one) for one in values if one is not None]
    return sum(known) / len(known) if known else None


def _sum(values: list[Any]) -> Any:
    known = [one for one in values if one is not None]
    return sum(known) if known else None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
