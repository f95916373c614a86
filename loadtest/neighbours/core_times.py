"""How long each CPU core was busy, by the kernel's own books (`/proc/stat`)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from search_spaces.kernel import TICK_S

_STAT, _CPUS = Path("/proc/stat"), Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class CoreTimes:
    """Seconds since boot, summed over some cores: idle, in interrupts, stolen by a hypervisor. `at` is this clock's
    time. Busy time is what is left of the time that passed: the kernel counts idle time exactly where its clock
    tick stops on idle cores, but charges whole ticks to whoever runs when one falls.
    """

    at: float
    cores: int
    idle_s: float
    interrupts_s: float
    stolen_s: float

    def busy_since(self, before: CoreTimes) -> float:
        """Core seconds in which tasks ran between two readings of the same cores."""
        passed_s = (self.at - before.at) * self.cores
        away_s = self.idle_s - before.idle_s + self.interrupts_s - before.interrupts_s + self.stolen_s - before.stolen_s
        return max(0.0, passed_s - away_s)


def read_core_times(cores: Iterable[int], stat: Path = _STAT) -> CoreTimes | None:
    """The times of these cores now; None if the kernel does not list all of them."""
    wanted = {f"cpu{core}" for core in cores}
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    at = time.perf_counter()
    found = [
        [int(word) * TICK_S for word in words[1:]]
        for words in map(str.split, lines)
        if words[:1] and words[0] in wanted
    ]
    # See proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
    if len(found) != len(wanted) or not found or any(len(times) < 8 for times in found):
        return None
    idle_s, interrupts_s = (sum(times[i] + times[i + 1] for times in found) for i in (3, 5))
    return CoreTimes(at, len(found), idle_s, interrupts_s, sum(times[7] for times in found))


def highest_clock_khz(cores: Iterable[int], cpus: Path = _CPUS) -> int | None:
    """The highest clock of those cores at this moment; None where the kernel does not say."""
    found = []
    for core in cores:
        try:
            found.append(int((cpus / f"cpu{core}" / "cpufreq" / "scaling_cur_freq").read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return max(found, default=None)
