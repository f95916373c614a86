"""Watches a running server: samples CPU and memory of its whole tree, and ends it when it takes too much memory."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable

import psutil

from runners.host.cgroup import Cgroups
from runners.host.cpu_meter import CpuMeter
from runners.host.gpu import nvml
from runners.host.process_table import Entry
from runners.host.samples import Sample, Samples
from runners.leftovers.process_tree import ProcessTree
from runners.protocol import MIB

_INTERVAL_S, _MAX_SHARE = 0.2, 0.01  # between looks; of one core, which they may take where there are many processes
_MAX_WAIT_S = 2.0  # however many there are: a short trial needs samples too
_FAST_INTERVAL_S = 0.05  # near the limit a server can take gigabytes within one slow interval
_NEAR = 0.7
_JUDGED_FOR_S = 1.0
_MIN_FREE_BYTES, _MIN_FREE_SHARE = 256 * MIB, 0.03


class _MachineMemory:
    """What the machine, or the cgroup that we are in, has left; `floor_bytes` of it no server may use up."""

    def __init__(self, cgroups: Cgroups | None = None) -> None:
        self._cgroups = cgroups or Cgroups()
        total, limit = int(psutil.virtual_memory().total), self._cgroups.memory_limit_bytes()
        self.floor_bytes = max(_MIN_FREE_BYTES, int(_MIN_FREE_SHARE * (total if limit is None else min(total, limit))))

    def free_bytes(self) -> int:
        free, in_cgroup = int(psutil.virtual_memory().available), self._cgroups.memory_free_bytes()
        return free if in_cgroup is None else min(free, in_cgroup)


class _TreeMemory:
    """What a server's tree has, and when that is too much: more than `limit_bytes` (None: no limit), or nearly all that
    the machine has.

    Memory is the sum over the tree's resident sets; where that passes the limit, pages that forked workers share are
    counted once (PSS) before it is judged, as a container's limit would count them.
    """

    def __init__(self, limit_bytes: int | None) -> None:
        self._limit, self._machine = limit_bytes, _MachineMemory()
        self._counted: tuple[float, int, int] | None = None
        self._holds_s = _JUDGED_FOR_S

    def free_bytes(self) -> int:
        """What the machine has left."""
        return self._machine.free_bytes()

    def is_near(self, used: int | None, free: int) -> bool:
        """Whether it may soon be too much. Nobody may know what is used (None)."""
        if used is not None and self._limit is not None and used > _NEAR * self._limit:
            return True
        return free < 4 * self._machine.floor_bytes

    def too_much(self, used: int, free: int) -> str | None:
        """Why the server has to end, in words; None if it may go on."""
        said = f"out of memory: used {used / MIB:.0f} MiB"
        if self._limit is not None and used > self._limit:
            return f"{said} of {self._limit / MIB:.0f} MiB allowed"
        if used > self._machine.floor_bytes and free < self._machine.floor_bytes:
            return f"{said}, and the machine has hardly any left"
        return None

    def used_bytes(self, running: list[Entry], now: float) -> int:
        """Shared pages are counted once only beyond the limit, and when it may have changed: the kernel walks all pages
        for it.
        """
        resident = sum(entry.memory_bytes for entry in running)
        if self._limit is None or resident <= self._limit:
            return resident
        if self._counted is not None:
            at, resident_then, shared_once = self._counted
            if now - at < self._holds_s and abs(resident - resident_then) < 0.01 * resident_then:
                return shared_once
        begun = time.thread_time()
        shared_once = sum(_proportional_bytes(entry) for entry in running)
        self._holds_s = max(_JUDGED_FOR_S, (time.thread_time() - begun) / _MAX_SHARE)
        self._counted = (now, resident, shared_once)
        return shared_once


class _Pace:
    """How often all processes are looked through, which takes long where there are many."""

    def __init__(self) -> None:
        self._looked, self._took_s, self._wait_s = -math.inf, math.inf, 0.0

    def is_due(self, now: float) -> bool:
        return now - self._looked >= self._wait_s

    def looked(self, now: float, took_s: float) -> None:
        """A look began at `now`. The first, with all that is started for it, tells nothing of others."""
        usual_s = min(took_s, self._took_s)
        self._looked, self._took_s = now, took_s
        self._wait_s = min(_MAX_WAIT_S, max(0.95 * _INTERVAL_S, usual_s / _MAX_SHARE))


class Watch(threading.Thread):
    """Samples until stopped. `out_of_memory` becomes the reason when the limit was passed and the tree was killed.

    `gpus` are looked at even where the driver does not know our processes' ids, as in a container. `each_time` is
    called beside.
    """

    def __init__(
        self, tree: ProcessTree, limit_bytes: int | None, has_failed: Callable[[], bool], gpus: tuple[str, ...] = (),
        each_time: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        super().__init__(name="usage", daemon=True)
        self._tree, self._has_failed, self._each_time, self._devices = tree, has_failed, each_time, gpus
        self._done = threading.Event()
        self._memory, self._pace, self._cpu, self._gpus = _TreeMemory(limit_bytes), _Pace(), CpuMeter(), nvml()
        self.samples = Samples()
        self.out_of_memory: str | None = None

    def run(self) -> None:
        """The thread's own loop; call `start`."""
        while not self._done.is_set():
            self._each_time()
            free, used = self._memory.free_bytes(), None
            with contextlib.suppress(OSError):  # too many open files here must not end the watch over memory
                used = self._used_bytes()
                if self.out_of_memory is None:
                    self.out_of_memory = self._memory.too_much(used, free)
                # Children of a server that has failed would keep a client waiting for an answer that never comes.
                if self.out_of_memory is not None or self._has_failed():
                    self._tree.kill()
            self._done.wait(_FAST_INTERVAL_S if self._memory.is_near(used, free) else _INTERVAL_S)

    def stop(self) -> None:
        """Take no more samples. Blocks for at most one of them. May be called before the start."""
        self._done.set()
        if self.is_alive():
            self.join()

    def _used_bytes(self) -> int:
        """What the tree has now: by a look at all processes where one is due, else at those it found."""
        now = time.monotonic()
        if not self._pace.is_due(now):
            return self._memory.used_bytes([entry for entry in self._tree.glance() if not entry.ended], now)
        begun = time.thread_time()
        sample = self._look()
        self.samples.add(sample)
        self._pace.looked(now, time.thread_time() - begun)
        return sample.memory_bytes

    def _look(self) -> Sample:
        entries = self._tree.look()
        at = time.monotonic()
        running = [entry for entry in entries if not entry.ended]
        gpu = None if self._gpus is None else self._gpus.look({entry.pid for entry in running}, self._devices)
        return Sample(at, self._cpu.read(entries), self._memory.used_bytes(running, at), len(running), gpu=gpu)


def _proportional_bytes(entry: Entry) -> int:
    try:
        return int(psutil.Process(entry.pid).memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0
    except psutil.AccessDenied:  # not ours to look into, so taken as sharing nothing
        return entry.memory_bytes
