"""Whose a process is: marks that every launched process carries, and a lease file per launch.

The marks are environment variables, inherited by whatever the server starts; the lease also names the server's session,
for servers that overwrite their environment. An owner is a process id with its start time, so that a later process of
the same id is never taken for it.
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

OWNER, STUDY, TRIAL, LAUNCH = "TUNE_OWNER", "TUNE_STUDY", "TUNE_TRIAL", "TUNE_LAUNCH"
TEMPORARY_PREFIX = "tune-"


class Lease(BaseModel):
    """One launched server: its session and that session's leader's start time, its temporary files, its owner."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: str
    study: str
    trial: int
    session: int
    leader_started: float
    boot: str
    temporary: str


@dataclass(frozen=True)
class HeldLease:
    """A lease and the file that holds it."""

    lease: Lease
    path: Path

    def release(self) -> None:
        """The server is gone: so are its temporary files. May be called twice."""
        temporary = Path(self.lease.temporary)
        if temporary.name.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(temporary, ignore_errors=True)
        self.path.unlink(missing_ok=True)


def this_owner() -> str:
    """This process as an owner: `PID-STARTED`."""
    return _owner(psutil.Process())


def is_alive(owner: str) -> bool:
    """Whether that very process still runs."""
    pid, _, _ = owner.partition("-")
    try:
        return _owner(psutil.Process(int(pid))) == owner
    except (ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def ownership_environment(study: str, trial: int) -> dict[str, str]:
    """The marks that a process started for a trial carries; every launch has its own."""
    return {OWNER: this_owner(), STUDY: study, TRIAL: str(trial), LAUNCH: secrets.token_hex(8)}


def owner_of(process: psutil.Process) -> dict[str, str]:
    """The marks in a process's environment; empty where it has none, or may not be read."""
    try:
        environment = process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return {}
    return {name: environment[name] for name in (OWNER, STUDY, TRIAL, LAUNCH) if name in environment}


def take_lease(study: str, trial: int, leader: psutil.Process, temporary: Path) -> HeldLease:
    """Write down that this process owns the session that `leader` leads."""
    lease = Lease(
        owner=this_owner(), study=study, trial=trial, session=leader.pid, leader_started=leader.create_time(),
        boot=boot_id(), temporary=str(temporary),
    )  # fmt: skip
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{leader.pid}-{lease.owner}.json"
    path.write_text(lease.model_dump_json(), encoding="utf-8")
    return HeldLease(lease, path)


def leases() -> list[HeldLease]:
    """Every lease of this user, whoever holds it. A file that a crash cut short is a lease on nothing: removed."""
    found = []
    for path in sorted(_folder().glob("*.json")):
        try:
            found.append(HeldLease(Lease.model_validate_json(path.read_text(encoding="utf-8")), path))
        except (OSError, ValidationError):
            path.unlink(missing_ok=True)
    return found


def boot_id() -> str:
    """Changes with every boot, after which process ids mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _owner(process: psutil.Process) -> str:
    return f"{process.pid}-{process.create_time():.2f}"


def _folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "tune" / "leases"
