"""What Linux says of processes and of their cgroups, as text: one reader for who launches servers and who loads them.

It lies in the lowest room because those two do not know each other; what the figures mean to them is theirs.
"""

from __future__ import annotations

import os
from pathlib import Path

_MAX_BYTES = 4096  # of a line about a process, which has some hundreds

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def process_fields(pid: int, proc: Path | str = "/proc") -> list[bytes] | None:
    """The fields of `/proc/PID/stat` from the third on, its state: see proc_pid_stat(5). None where there is no such
    process, or it may not be seen.
    """
    try:
        file = os.open(f"{proc}/{pid}/stat", os.O_RDONLY)  # four times as fast as a Path's read_bytes
    except OSError:
        return None
    try:
        text = os.read(file, _MAX_BYTES)
    except OSError:
        return None
    finally:
        os.close(file)
    # The name, in parentheses, may itself hold spaces and parentheses.
    return text[text.rindex(b")") + 2 :].split()


def cgroups_of(membership: Path) -> dict[str, str]:
    """A process's cgroup by each controller of version 1, and that of version 2 by the empty name, from its
    `/proc/PID/cgroup`: see cgroups(7). Empty where there is no such file.
    """
    try:
        lines = [line.split(":", 2) for line in membership.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return {}
    return {name: line[2] for line in lines if len(line) == 3 for name in line[1].split(",")}


def unified(root: Path) -> Path:
    """Where the cgroups of version 2 are mounted, which those of version 1 may have beside them."""
    return root / "unified" if (root / "unified").is_dir() else root
