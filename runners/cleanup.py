"""Removes what crashed runs left: servers whose owner is dead, and their leases. Never anything of a living owner."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import psutil

from runners.ownership import LAUNCH, OWNER, STUDY, TRIAL, boot_id, is_alive, leases, owner_of
from runners.process_tree import ProcessTree

_GRACE_S = 2.0


@dataclass(frozen=True)
class Leftover:
    """A process that outlived the run that started it."""

    pid: int
    study: str
    trial: str

    def __str__(self) -> str:
        return f"process {self.pid} of trial {self.trial} of {self.study}"


def remove_leftovers() -> list[Leftover]:
    """Kill what belongs to dead owners, by marks and by leases, and remove their leases. Blocks until it is gone."""
    removed: list[Leftover] = []
    for process in list(psutil.process_iter()):
        marks = owner_of(process)
        if process.pid != os.getpid() and {OWNER, STUDY, TRIAL} <= marks.keys() and not is_alive(marks[OWNER]):
            removed += _remove(process, marks)
    for held in leases():
        if is_alive(held.lease.owner):
            continue
        if held.lease.boot == boot_id():
            marks = {OWNER: held.lease.owner, STUDY: held.lease.study, TRIAL: str(held.lease.trial), LAUNCH: ""}
            for process in _members(held.lease.session, held.lease.leader_started):
                removed += _remove(process, marks)
        held.release()
    return removed


def _members(session: int, leader_started: float) -> list[psutil.Process]:
    """The processes of a session, unless its number has since been given to another."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if abs(psutil.Process(session).create_time() - leader_started) > 1:
            return []
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == session:
                found.append(process)
    return found


def _remove(process: psutil.Process, marks: dict[str, str]) -> list[Leftover]:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return []
    except psutil.NoSuchProcess:
        return []
    ProcessTree(process, marks).stop(_GRACE_S)
    return [Leftover(process.pid, marks[STUDY], marks[TRIAL])]
