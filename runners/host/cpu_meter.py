"""CPU time of a tree whose processes come and go: what has ended must neither be lost nor counted twice."""

from __future__ import annotations

from collections.abc import Iterable

from runners.host.process_table import Entry

_TOLERANCE_S = 0.02  # the kernel rounds a process's two times to clock ticks, and its children's sums apart


class CpuMeter:
    """Fed with every look at a tree, says how much CPU time the tree has used so far.

    A process that ends between two looks is in its parent's sum of reaped children when the parent waited for it, and
    then also where it was never seen at all. Where no parent of the tree did, it counts with what was last seen of it.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], Entry] = {}
        self._lost_s = 0.0
        self._total_s = 0.0

    def read(self, entries: Iterable[Entry]) -> float:
        """CPU seconds of the tree until now; never less than before."""
        now = {entry.identity: entry for entry in entries}
        reaped = {entry.pid: entry.reaped_cpu_s - self._reaped_before(entry) for entry in now.values()}
        for identity, last in self._seen.items():
            if identity not in now:
                used = last.cpu_s + last.reaped_cpu_s
                if reaped.get(last.parent, -1.0) >= used - _TOLERANCE_S:
                    reaped[last.parent] -= used
                else:
                    self._lost_s += used
        self._seen = now
        total = self._lost_s + sum(entry.cpu_s + entry.reaped_cpu_s for entry in now.values())
        self._total_s = max(self._total_s, total)
        return self._total_s

    def _reaped_before(self, entry: Entry) -> float:
        before = self._seen.get(entry.identity)
        return 0.0 if before is None else before.reaped_cpu_s
