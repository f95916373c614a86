"""Watches a running server: samples CPU and memory of its whole tree, and ends it when it takes too much memory."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from runners.process_tree import ProcessTree
from runners.protocol import Usage

_INTERVAL_S = 0.2
_FAST_INTERVAL_S = 0.05  # near the limit a server can take gigabytes within one slow interval
_NEAR = 0.7
_LEAST_FREE_BYTES, _LEAST_FREE_SHARE = 256 * 2**20, 0.03
_MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """One look: seconds of `time.monotonic()`, CPU seconds used by the tree so far, its memory, its processes."""

    at: float
    cpu_s: float
    memory_bytes: int
    processes: int


class Watch(threading.Thread):
    """Samples until stopped. `out_of_memory` becomes the reason when the limit was passed and the tree was killed.

    Memory is the sum over the tree's resident sets; where that passes the limit, pages that forked workers share are
    counted once (PSS) before it is judged, as a container's limit would count them.
    """

    def __init__(self, tree: ProcessTree, limit_bytes: int | None) -> None:
        super().__init__(name="usage", daemon=True)
        self._tree, self._limit = tree, limit_bytes
        self._done = threading.Event()
        self._cpu: dict[int, float] = {}
        self.samples: list[Sample] = []
        self.out_of_memory: str | None = None

    def run(self) -> None:
        """The thread's own loop; call `start`."""
        while not self._done.is_set():
            sample = self._look()
            self.samples.append(sample)
            if self.out_of_memory is None:
                self.out_of_memory = self._too_much(sample)
                if self.out_of_memory is not None:
                    self._tree.kill()
            near = self._limit is not None and sample.memory_bytes > _NEAR * self._limit
            self._done.wait(_FAST_INTERVAL_S if near or _free_bytes() < 4 * _floor_bytes() else _INTERVAL_S)

    def stop(self) -> None:
        """Take no more samples. Blocks for at most one of them."""
        self._done.set()
        self.join()

    def usage(self, start: float, end: float) -> Usage:
        """Mean cores and peak memory between two moments."""
        inside = [sample for sample in self.samples if start <= sample.at <= end]
        if len(inside) < 2:
            return Usage()
        first, last = inside[0], inside[-1]
        return Usage(
            cpu_cores_mean=(last.cpu_s - first.cpu_s) / (last.at - first.at),
            memory_peak_bytes=max(sample.memory_bytes for sample in inside),
        )

    def write(self, path: Path) -> None:
        """All samples as CSV; times count from the first."""
        begin = self.samples[0].at if self.samples else 0.0
        lines = [f"{s.at - begin:.3f},{s.cpu_s:.3f},{s.memory_bytes},{s.processes}" for s in self.samples]
        path.write_text("\n".join(["seconds,cpu_seconds,memory_bytes,processes", *lines]) + "\n", encoding="utf-8")

    def _look(self) -> Sample:
        memory, processes = 0, self._tree.living()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied), process.oneshot():
                times = process.cpu_times()
                self._cpu[process.pid] = times.user + times.system  # stays when the process is gone
                memory += process.memory_info().rss
        return Sample(time.monotonic(), sum(self._cpu.values()), memory, len(processes))

    def _too_much(self, sample: Sample) -> str | None:
        if self._limit is not None and sample.memory_bytes > self._limit:
            shared_once = self._proportional_bytes()
            if shared_once > self._limit:
                return f"out of memory: used {shared_once / _MIB:.0f} MiB of {self._limit / _MIB:.0f} MiB allowed"
        if sample.memory_bytes > _floor_bytes() and _free_bytes() < _floor_bytes():
            return f"out of memory: used {sample.memory_bytes / _MIB:.0f} MiB, and the machine has hardly any left"
        return None

    def _proportional_bytes(self) -> int:
        total = 0
        for process in self._tree.living():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
        return total


def _free_bytes() -> int:
    return int(psutil.virtual_memory().available)


def _floor_bytes() -> int:
    return max(_LEAST_FREE_BYTES, int(_LEAST_FREE_SHARE * psutil.virtual_memory().total))
