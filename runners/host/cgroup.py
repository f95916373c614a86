"""Limits and counters of the cgroups that this process is in, for version 1, version 2, and both at once."""

from __future__ import annotations

from pathlib import Path

from search_spaces.kernel import cgroups_of, unified

_ROOT, _MEMBERSHIP, _VMSTAT = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), Path("/proc/vmstat")


class Cgroups:
    """Limits hold along the whole way from the process's own group to the root, so each is the least found there."""

    def __init__(self, root: Path = _ROOT, membership: Path = _MEMBERSHIP, vmstat: Path = _VMSTAT) -> None:
        self._vmstat = vmstat
        self._unified, self._memory, self._cpu = _folders(root, membership)

    def cpu_quota(self) -> float | None:
        """Cores by CFS quota, or None."""
        quotas = [_ratio(_words(folder / "cpu.max")) for folder in self._unified]
        quotas += [
            _ratio(_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")) for folder in self._cpu
        ]
        return min((quota for quota in quotas if quota is not None), default=None)

    def memory_limit_bytes(self) -> int | None:
        """The lowest limit, or None. Where there is none, version 1 has a number larger than any machine's memory."""
        return min((limit for _, limit in self._memory_limits()), default=None)

    def memory_free_bytes(self) -> int | None:
        """What may still be taken before the kernel's OOM killer comes, counting file pages that it would drop first.

        None where there is no limit.
        """
        free = []
        for folder, limit in self._memory_limits():
            used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
            counted = _table(folder / "memory.stat")
            free.append(limit - used + counted.get("total_inactive_file", counted.get("inactive_file", 0)))
        return min(free, default=None)

    def oom_kills(self) -> int:
        """Processes that the kernel has killed for memory: in our own group, or else on the whole machine."""
        for folder in self._unified:
            if "oom_kill" in (events := _table(folder / "memory.events")):
                return events["oom_kill"]
        for folder in self._memory:
            if "oom_kill" in (control := _table(folder / "memory.oom_control")):
                return control["oom_kill"]
        return _table(self._vmstat).get("oom_kill", 0)

    def _memory_limits(self) -> list[tuple[Path, int]]:
        limits = [(folder, _number(folder / "memory.max")) for folder in self._unified]
        limits += [(folder, _number(folder / "memory.limit_in_bytes")) for folder in self._memory]
        return [(folder, limit) for folder, limit in limits if limit is not None and limit < 2**60]


def _folders(root: Path, membership: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Our groups from the own one up: unified, memory (version 1), cpu (version 1)."""
    places = {"": "/", "memory": "/", "cpu": "/"} | cgroups_of(membership)
    return (
        _upwards(unified(root), places[""]),
        _upwards(root / "memory", places["memory"]),
        _upwards(root / "cpu", places["cpu"]),
    )


def _upwards(base: Path, place: str) -> list[Path]:
    """A container's own view may begin at its group, so the path that /proc names need not exist below the mount."""
    own = base / place.strip("/")
    return [folder for folder in (own, *own.parents) if folder.is_relative_to(base) and folder.is_dir()]


def _ratio(words: list[str]) -> float | None:
    """Quota over period; None for `max` and for -1, which mean none."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if words and words[0].isdecimal() else None


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:  # absent in the other version
        return []
