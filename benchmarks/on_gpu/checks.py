"""What `runners` reads of a GPU through NVML against what torch says of it, in a process of its own.

    python -m benchmarks.on_gpu.checks

prints a JSON object: `rows` of (quantity, runners, torch, holds), and `device`. Holding means: within 5% for memory,
10% for power and clocks, which are read at two moments; utilisation under 10% at rest, over 90% under matrix products.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from runners.host.gpu import GpuLook, nvml

_GIB = 2**30
_ROWS: list[tuple[str, str, str, bool]] = []
SIDE = 8192  # of the matrices by which the device's speed is told


def _near(one: float | None, other: float | None, within: float) -> bool:
    return one is not None and other is not None and abs(one - other) <= within * max(abs(one), abs(other), 1e-9)


def _row(quantity: str, ours: Any, theirs: Any, holds: bool) -> None:
    _ROWS.append((quantity, _text(ours), _text(theirs), holds))


def _text(value: Any) -> str:
    return "not told" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _asked(call: Callable[[], float]) -> float | None:
    """torch.cuda's own readings, where this version and driver have them."""
    try:
        return float(call())
    except Exception:  # noqa: BLE001 (a reading that is missing is what is shown)
        return None


def _memory(device: Any, look: Callable[[], GpuLook]) -> None:
    before, free_before = look(), torch.cuda.mem_get_info()[0]
    reserved_before = torch.cuda.memory_reserved()
    held = torch.empty(4 * _GIB, dtype=torch.uint8, device="cuda")
    held.fill_(1)
    torch.cuda.synchronize()
    after, free_after = look(), torch.cuda.mem_get_info()[0]
    ours = (
        None
        if None in (before.memory_bytes, after.memory_bytes)
        else (after.memory_bytes or 0) - (before.memory_bytes or 0)
    )
    grown = torch.cuda.memory_reserved() - reserved_before
    _row(
        "memory: what 4 GiB more add (GiB), torch's allocator",
        ours and ours / _GIB,
        grown / _GIB,
        _near(ours, grown, 0.05),
    )
    freed = free_before - free_after
    _row("memory: the same, torch's mem_get_info", ours and ours / _GIB, freed / _GIB, _near(ours, freed, 0.05))
    own = device.look({os.getpid()})
    _row(
        "memory: of this process by its id (GiB)", own and own.memory_bytes and own.memory_bytes / _GIB,
        torch.cuda.memory_reserved() / _GIB,
        own is not None and (own.memory_bytes or 0) >= torch.cuda.memory_reserved(),
    )  # fmt: skip
    del held
    torch.cuda.empty_cache()


def _busy(look: Callable[[], GpuLook], about: dict[str, Any]) -> None:
    """Under matrix products, on a thread that never waits for the readings."""
    ended, done = threading.Event(), 0
    one = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16)

    def multiply() -> None:
        nonlocal done
        while not ended.is_set():
            for _ in range(8):
                one @ one
            torch.cuda.synchronize()
            done += 8

    thread = threading.Thread(target=multiply, daemon=True)
    thread.start()
    time.sleep(0.5)
    begun, before = time.perf_counter(), done
    time.sleep(1.5)
    tflops = (done - before) * 2 * SIDE**3 / (time.perf_counter() - begun) / 1e12
    busy = look()  # NVML's utilisation is that of the last second at most
    utilization, power = _asked(torch.cuda.utilization), _asked(torch.cuda.power_draw)
    clock = _asked(torch.cuda.clock_rate)
    ended.set()
    thread.join()
    _row(f"bf16 matrix products, {SIDE} x {SIDE} (TFLOPS)", "no part of NVML", tflops, tflops > 0)
    about["tflops"] = round(tflops, 1)
    _row(
        "utilisation, under matrix products",
        busy.utilization,
        utilization and utilization / 100,
        (busy.utilization or 0) > 0.9,
    )
    _row(
        "power, under matrix products (W)",
        busy.power_w,
        power and power / 1e3,
        _near(busy.power_w, power and power / 1e3, 0.1),
    )
    _row("clock, under matrix products (MHz)", busy.clock_mhz, clock, _near(busy.clock_mhz, clock, 0.1))
    _row("slowed down by", ", ".join(sorted(busy.throttled)) or "nothing", "torch does not tell", True)


def _slice() -> None:
    """A process that holds itself to a twentieth of the memory, as the server's --memory-fraction does."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.05)
    fits = torch.empty(int(0.04 * total), dtype=torch.uint8, device="cuda")
    try:
        torch.empty(int(0.02 * total), dtype=torch.uint8, device="cuda")
        refused = "6% of the memory was given"
    except torch.OutOfMemoryError:
        refused = "out of memory beyond 5%"
    _row("a slice of 5% by memory fraction", "no part of NVML", refused, refused.startswith("out"))
    del fits
    torch.cuda.set_per_process_memory_fraction(1.0)


def main() -> None:
    """On device 0."""
    device = nvml()
    if device is None:
        raise SystemExit("NVML finds no driver")
    torch.zeros(1, device="cuda")
    cudnn: Any = torch.backends.cudnn
    properties = torch.cuda.get_device_properties(0)

    def look() -> GpuLook:
        return device.look((), devices=("0",)) or GpuLook()

    _row("name", device.names()[0], properties.name, device.names()[0] == properties.name)
    time.sleep(1.2)
    idle = look()
    _row(
        "utilisation, at rest",
        idle.utilization,
        (_asked(torch.cuda.utilization) or 0) / 100,
        (idle.utilization or 0) < 0.1,
    )
    power = _asked(torch.cuda.power_draw)
    _row("power, at rest (W)", idle.power_w, power and power / 1e3, _near(idle.power_w, power and power / 1e3, 0.1))
    about: dict[str, Any] = {
        "name": properties.name, "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / _GIB, 1), "capability": f"{properties.major}.{properties.minor}",
        "torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": cudnn.version(),
    }  # fmt: skip
    checks: tuple[Callable[[], None], ...] = (lambda: _memory(device, look), lambda: _busy(look, about), _slice)
    for check in checks:
        try:
            check()
        except Exception as error:  # noqa: BLE001 (a check that fails is a row)
            _row("a check failed", type(error).__name__, str(error).splitlines()[0] if str(error) else "", False)
    print(json.dumps({"rows": _ROWS, "device": about}))


if __name__ == "__main__":
    main()
