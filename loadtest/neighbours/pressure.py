"""How long tasks waited for memory, and how often a shared CPU quota was used up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from search_spaces.kernel import cgroups_of, unified

_PRESSURE, _CGROUPS, _MEMBERSHIP = Path("/proc/pressure/memory"), Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def memory_stalled_s(path: Path = _PRESSURE) -> float | None:
    """For how long some task of the machine has waited for memory so far (PSI); None where the kernel does not say."""
    for line in _lines(path):
        words = line.split()
        if words[:1] == ["some"] and words[-1].startswith("total="):
            return int(words[-1].removeprefix("total=")) / 1e6
    return None


@dataclass(frozen=True)
class QuotaPeriods:
    """The scheduler's periods so far in a group with a CPU quota, and those in which it was used up."""

    periods: int
    throttled: int

    def share_since(self, before: QuotaPeriods) -> float:
        """The share of the periods between two readings in which the quota was used up."""
        periods = self.periods - before.periods
        return (self.throttled - before.throttled) / periods if periods > 0 else 0.0


def quota_periods(root: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> QuotaPeriods | None:
    """Of our own cgroup and those above it, the one that was throttled most; None where none has a quota.

    Such a quota is shared with others: a container's, for example, in which the server and the tuner run too.
    """
    groups = cgroups_of(membership)
    found: list[QuotaPeriods] = []
    for base, controller in ((unified(root), ""), (root / "cpu", "cpu"), (root / "cpu,cpuacct", "cpu")):
        folder = base / groups.get(controller, "").strip("/")
        for one in (folder, *folder.parents) if controller in groups else ():
            counted = _table(one / "cpu.stat") if one.is_relative_to(base) else {}
            if counted.get("nr_periods"):
                found.append(QuotaPeriods(counted["nr_periods"], counted.get("nr_throttled", 0)))
    return max(found, key=lambda one: one.throttled, default=None)


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:  # absent in the other version, or in this kernel
        return []
