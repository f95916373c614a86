"""Removes what crashed runs left: servers whose owner is dead, and their leases. Never anything of a living owner."""

from __future__ import annotations

import contextlib
import os

from runners.host.process_table import namespace, read, read_all
from runners.leftovers.ownership import (
    LAUNCH,
    OWNER,
    STATE,
    STUDY,
    TRIAL,
    HeldLease,
    is_dead,
    is_over,
    leases,
    marks_of,
    state_folder,
    this_place,
)
from runners.leftovers.process_tree import ProcessTree
from runners.protocol import Leftover, RunnerUnavailable

_GRACE_S = 2.0


def remove_leftovers() -> list[Leftover]:
    """Kill what belongs to dead owners, by marks and by leases, and remove their leases. Blocks until it is gone.

    Only what was started with this state folder (XDG_STATE_HOME) is judged. A process that cannot be ended is left out,
    and found again by the next call.
    """
    removed: list[Leftover] = []
    here = namespace()
    for pid in sorted(read_all()):
        marks = marks_of(pid)
        # An owner's id means nothing outside its pid namespace: whether a container's run lives is not seen from here.
        if _was_abandoned(marks) and namespace(pid) == here and pid != os.getpid():
            removed += _remove(pid, marks)
    for held in leases():
        removed += _remove_leased(held)
    return removed


def _was_abandoned(marks: dict[str, str]) -> bool:
    """Started with our state folder, by an owner that is surely dead."""
    whole = {OWNER, STATE, STUDY, TRIAL} <= marks.keys()
    return whole and marks[STATE] == str(state_folder()) and is_dead(marks[OWNER])


def _remove_leased(held: HeldLease) -> list[Leftover]:
    lease = held.lease
    if is_over(lease.place):
        held.release()
        return []
    if lease.place != this_place() or not is_dead(lease.owner):
        return []
    removed: list[Leftover] = []
    marks = {OWNER: lease.owner, STUDY: lease.study, TRIAL: str(lease.trial), LAUNCH: ""}
    for pid in _members(lease.session, lease.session_started):
        removed += _remove(pid, marks)
    held.release()
    return removed


def _members(session: int, started: int) -> list[int]:
    """The processes of a session, while its leader is there, ended or not: the kernel then gives its number to no other
    session. Once it is gone, only the marks in a process's environment say whose it is.
    """
    leader = read(session) if session else None
    if leader is None or leader.started != started:
        return []
    return [
        entry.pid
        for entry in read_all().values()
        if entry.session == session and entry.started >= started and not _has_living_owner(entry.pid)
    ]


def _has_living_owner(pid: int) -> bool:
    owner = marks_of(pid).get(OWNER)
    return owner is not None and not is_dead(owner)


def _remove(pid: int, marks: dict[str, str]) -> list[Leftover]:
    entry = read(pid)
    if entry is None or entry.ended:
        return []
    tree = ProcessTree(marks)
    tree.led_by(pid)
    with contextlib.suppress(RunnerUnavailable):
        tree.stop(_GRACE_S)
        return [Leftover(f"process {pid}", marks[STUDY], marks[TRIAL])]
    return []
