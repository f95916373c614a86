"""The kernel's process table, read in one pass: the sampler does so some times a second beside a server under load."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from search_spaces.kernel import TICK_S, process_fields

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Entry:
    """One process. `started` counts clock ticks since boot: unlike a time of day it stays true when the clock is set.

    `cpu_s` is its own use of CPU, `reaped_cpu_s` that of its children that have ended and been waited for.
    """

    pid: int
    parent: int
    session: int
    started: int
    ended: bool
    cpu_s: float
    reaped_cpu_s: float
    memory_bytes: int

    @property
    def identity(self) -> tuple[int, int]:
        """Tells this process from a later one of the same id."""
        return self.pid, self.started


def read(pid: int) -> Entry | None:
    """One process, or None where there is none (or it may not be seen)."""
    field = process_fields(pid)
    if field is None:
        return None
    # A process whose first thread has ended shows as a zombie too, while its other threads go on.
    ended = field[0] in (b"Z", b"X") and int(field[17]) <= 1
    return Entry(
        pid=pid,
        parent=int(field[1]),
        session=int(field[3]),
        started=int(field[19]),
        ended=ended,
        cpu_s=(int(field[11]) + int(field[12])) * TICK_S,
        reaped_cpu_s=(int(field[13]) + int(field[14])) * TICK_S,
        memory_bytes=0 if ended else int(field[21]) * _PAGE_BYTES,
    )


def read_all() -> dict[int, Entry]:
    """Every process by its id."""
    entries = (read(int(name)) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208 (names suffice)
    return {entry.pid: entry for entry in entries if entry is not None}


def namespace(pid: int | None = None) -> str | None:
    """The pid namespace of a process (default: this one), within which process ids mean something. None: not known."""
    try:
        return str(Path(f"/proc/{'self' if pid is None else pid}/ns/pid").readlink())
    except OSError:
        return None
