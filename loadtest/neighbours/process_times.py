"""How much CPU time a set of processes has used, those that they start included."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtest.neighbours.pressure import memory_stalled_s
from search_spaces.kernel import TICK_S, cgroups_of, process_fields, unified

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_TOLERANCE_S = 0.03  # the kernel rounds the times of children that have ended to clock ticks

_KNOWN = 0.3  # of the time used: so much must be of threads that still live, for them to speak for the others

_Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Process:
    """One line of the process table. `started` counts clock ticks since boot, and tells two owners of one id apart."""

    pid: int
    parent: int
    session: int
    started: int
    cpu_s: float
    reaped_s: float

    @property
    def identity(self) -> _Identity:
        return self.pid, self.started


@dataclass(frozen=True)
class ThreadTimes:
    """For how long living threads ran so far, and for how long they were ready and waited for a core (schedstats)."""

    ran_s: float
    waited_s: float

    def waited_since(self, before: ThreadTimes, used_s: float) -> float | None:
        """Seconds between two readings. Threads that ended took what they waited with them, so the rest stands for
        them, by what all used. None where nothing is known: no statistics, or none that live now ran.
        """
        ran_s = self.ran_s - before.ran_s
        waited_s = max(0.0, self.waited_s - before.waited_s)
        if ran_s <= _KNOWN * used_s:
            return None
        return waited_s * max(1.0, used_s / ran_s)


class ProcessTimes:
    """The CPU time of a tree of processes. Not safe to use from several threads."""

    def __init__(self, roots: Iterable[int], environ: Mapping[str, str] | None = None, proc: Path = _PROC) -> None:
        self._proc, self._environ = proc, dict(environ or {})
        found = [read for pid in roots if (read := _read(proc, pid)) is not None]
        self._roots = {one.identity for one in found}
        self._known: dict[_Identity, _Process] = {one.identity: one for one in found}
        self._strangers: set[_Identity] = set()
        self._lost_s, self._total_s = 0.0, 0.0

    def cpu_s(self) -> float | None:
        """Seconds so far, never less than before; None where none of the processes was ever there."""
        if not self._roots:
            return None
        before, now = self._known, self._members()
        gained = {one.pid: one.reaped_s - (before[key].reaped_s if key in before else 0.0) for key, one in now.items()}
        for key, last in before.items():
            if key in now:
                continue
            used_s = last.cpu_s + last.reaped_s
            if gained.get(last.parent, -1.0) >= used_s - _TOLERANCE_S:
                gained[last.parent] -= used_s  # its parent waited for it, and has its time now
            else:
                self._lost_s += used_s
        self._known = now
        total_s = self._lost_s + sum(one.cpu_s + one.reaped_s for one in now.values())
        self._total_s = max(self._total_s, total_s)
        return self._total_s

    def memory_stalled_s(self) -> float | None:
        """For how long it waited for memory within a limit of its own: it has none."""
        return 0.0

    def threads(self) -> ThreadTimes:
        """The times of the threads that live now, in the processes that the last call of `cpu_s` found."""
        ran, waited = 0, 0
        for one in self._known.values():
            folder = self._proc / str(one.pid) / "task"
            with contextlib.suppress(OSError, ValueError):
                for thread in os.listdir(folder):  # noqa: PTH208
                    words = (folder / thread / "schedstat").read_text(encoding="ascii").split()
                    ran, waited = ran + int(words[0]), waited + int(words[1])
        return ThreadTimes(ran / 1e9, waited / 1e9)

    def _members(self) -> dict[_Identity, _Process]:
        table = [_read(self._proc, int(name)) for name in os.listdir(self._proc) if name.isdecimal()]  # noqa: PTH208
        processes = {one.pid: one for one in table if one is not None}
        leaders = {pid for pid, started in self._roots if pid in processes and processes[pid].started == started}
        found = {
            one.identity: one
            for one in processes.values()
            if one.identity in self._known or one.session in leaders or self._is_marked(one)
        }
        children: dict[int, list[_Process]] = {}
        for one in processes.values():
            children.setdefault(one.parent, []).append(one)
        waiting = [one.pid for one in found.values()]
        while waiting:
            for child in children.get(waiting.pop(), []):
                if child.identity not in found:
                    found[child.identity] = child
                    waiting.append(child.pid)
        return found

    def _is_marked(self, one: _Process) -> bool:
        """By its environment, which is that of its start and is read once."""
        if not self._environ or one.identity in self._strangers:
            return False
        try:
            words = set((self._proc / str(one.pid) / "environ").read_bytes().split(b"\0"))
        except OSError:
            words = set()
        if all(f"{name}={value}".encode() in words for name, value in self._environ.items()):
            return True
        self._strangers.add(one.identity)
        return False


def own_cpu_s(pid: int) -> float | None:
    """Seconds that one process has used so far, without its children; None where there is none."""
    found = _read(_PROC, pid)
    return None if found is None else found.cpu_s


def _read(proc: Path, pid: int) -> _Process | None:
    field = process_fields(pid, proc)
    if field is None:
        return None
    counted_s = (int(field[11]) + int(field[12])) * TICK_S
    exact_s = _clock_s(pid) if proc == _PROC else None
    return _Process(
        pid,
        int(field[1]),
        int(field[3]),
        int(field[19]),
        counted_s if exact_s is None else exact_s,
        (int(field[13]) + int(field[14])) * TICK_S,
    )


def _clock_s(pid: int) -> float | None:
    """A process's CPU clock, which counts nanoseconds where `/proc` counts ticks: see clock_getcpuclockid(3)."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


@dataclass(frozen=True)
class CgroupTimes:
    """The CPU time of a cgroup, version 1 or 2: what its ended processes used is in it. `folders` are where each
    version keeps it.
    """

    folders: tuple[Path, ...]

    @classmethod
    def own_of(cls, pid: int, proc: Path = _PROC, root: Path = _CGROUPS) -> CgroupTimes | None:
        """That of a process which has one for itself and its children, told by its being another than ours."""
        own, ours = _cpu_group(proc / str(pid) / "cgroup"), _cpu_group(proc / "self" / "cgroup")
        if own is None or own == ours or not (place := own.strip("/")):
            return None
        found = cls((root / "cpuacct" / place, root / "cpu,cpuacct" / place, unified(root) / place))
        return None if found.cpu_s() is None else found

    def cpu_s(self) -> float | None:
        """Seconds so far; None where it has ended."""
        for folder in self.folders:
            with contextlib.suppress(OSError, ValueError):
                return int((folder / "cpuacct.usage").read_text(encoding="ascii")) / 1e9
            with contextlib.suppress(OSError, ValueError):
                words = (folder / "cpu.stat").read_text(encoding="ascii").split()
                return int(words[words.index("usage_usec") + 1]) / 1e6
        return None

    def memory_stalled_s(self) -> float | None:
        """For how long its processes waited for memory within its limit; None where the kernel does not say."""
        found = [memory_stalled_s(folder / "memory.pressure") for folder in self.folders]
        return next((seconds for seconds in found if seconds is not None), None)


def _cpu_group(membership: Path) -> str | None:
    """The cgroup that counts a process's CPU time: version 1's where there is one."""
    groups = cgroups_of(membership)
    return groups.get("cpuacct", groups.get(""))
