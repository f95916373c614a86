"""A container's use of CPU and memory, from its own cgroup files, for both versions of cgroups."""

from __future__ import annotations

from dataclasses import dataclass

from runners.host.samples import Sample

_ROOT = "/sys/fs/cgroup"
_V2 = ("memory.current", "cpu.stat", "memory.stat", "memory.events", "pids.current")
_V1 = (
    "memory/memory.usage_in_bytes", "cpuacct/cpuacct.usage", "cpu/cpu.stat", "memory/memory.stat",
    "memory/memory.oom_control",
)  # fmt: skip


@dataclass(frozen=True)
class PodUsage:
    """A sample, and how many processes the kernel has killed for memory."""

    sample: Sample
    oom_kills: int


def commands() -> tuple[tuple[str, ...], ...]:
    """What to run in the container, in the order to try."""
    return tuple(("cat", *(f"{_ROOT}/{name}" for name in names)) for names in (_V2, _V1))


def as_sample(text: str, at: float) -> PodUsage | None:
    """From what a command printed: bare numbers in the order of its files, and tables of a name and a number a line.

    None where that is not there.
    """
    numbers: list[int] = []
    table: dict[str, int] = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 1 and parts[0].isdecimal():
            numbers.append(int(parts[0]))
        elif len(parts) == 2 and parts[1].isdecimal():
            table.setdefault(parts[0], int(parts[1]))
    if "usage_usec" in table and numbers:
        memory, cpu_s, cache = numbers[0], table["usage_usec"] / 1e6, table.get("inactive_file", 0)
    elif len(numbers) == 2:
        memory, cpu_s, cache = numbers[0], numbers[1] / 1e9, table.get("total_inactive_file", 0)
    else:
        return None
    processes = numbers[1] if "usage_usec" in table and len(numbers) > 1 else 0
    sample = Sample(at, cpu_s, max(0, memory - cache), processes, table.get("nr_periods"), table.get("nr_throttled"))
    return PodUsage(sample, table.get("oom_kill", 0))
