"""Tells which run owns a process: by marks that every launched process carries, and by a lease file per launch.

The marks are environment variables, inherited by whatever the server starts; the lease also names the server's session,
for servers that overwrite their environment. An owner is a process id with its start in clock ticks, so that neither a
later process of the same id is taken for it, nor a change of the clock makes it look dead. Marks name the state folder
too: a clean-up judges only what was started with its own, so that runs of another user, another version or a test are
never touched.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from runners.host.process_table import namespace, read
from runners.protocol import RunnerUnavailable
from search_spaces.reading import read_state

OWNER, STATE, STUDY, TRIAL, LAUNCH = "TUNE_OWNED_BY", "TUNE_STATE", "TUNE_STUDY", "TUNE_TRIAL", "TUNE_LAUNCH"
PLACE = "TUNE_PLACE"
_MARKS = (OWNER, STATE, STUDY, TRIAL, LAUNCH)
TEMPORARY_PREFIX = "tune-"
_UNREADABLE_FOR_S = 86_400.0


class Lease(BaseModel):
    """One launch: its owner, the server's session (0: not yet started) and when that began, its temporary files.

    `place` is where the ids mean something. Fields that a later version adds are passed over.
    """

    model_config = ConfigDict(frozen=True)

    owner: str
    study: str
    trial: int
    place: str
    temporary: str
    session: int = 0
    session_started: int = 0


@dataclass(frozen=True)
class HeldLease:
    """A lease and the file that holds it."""

    lease: Lease
    path: Path

    def name_session(self, leader: int) -> None:
        """Add the session that the process `leader` leads, once it runs."""
        entry = read(leader)
        if entry is not None:
            _write(self.path, self.lease.model_copy(update={"session": leader, "session_started": entry.started}))

    def release(self) -> None:
        """The server is gone: so are its temporary files. May be called twice."""
        temporary = Path(self.lease.temporary)
        if temporary.name.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(temporary, ignore_errors=True)
        self.path.unlink(missing_ok=True)


def this_owner() -> str:
    """This process as an owner: `PID-STARTED`."""
    entry = read(os.getpid())
    assert entry is not None  # noqa: S101 (it runs)
    return f"{entry.pid}-{entry.started}"


def is_dead(owner: str) -> bool:
    """Whether that very process, of this pid namespace, has ended. An owner in another form than ours is never dead."""
    pid, _, started = owner.partition("-")
    if not (pid.isdecimal() and started.isdecimal()):
        return False
    entry = read(int(pid))
    return entry is None or entry.ended or entry.started != int(started)


def ownership_environment(study: str, trial: int) -> dict[str, str]:
    """The marks that a process started for a trial carries; every launch has its own."""
    return {
        OWNER: this_owner(), STATE: str(state_folder()), STUDY: study, TRIAL: str(trial), LAUNCH: secrets.token_hex(8)
    }  # fmt: skip


def ownership_labels(study: str, trial: int) -> dict[str, str]:
    """The same marks for containers and cluster objects, with the place within which the owner's process id is
    valid.
    """
    return ownership_environment(study, trial) | {PLACE: this_place()}


def is_gone(owner: str, place: str) -> bool:
    """Whether an owner at a place is surely dead: it was on this machine, where that can be seen."""
    return is_over(place) or (place == this_place() and is_dead(owner))


def is_abandoned(owner: str, place: str, state: str) -> bool:
    """Whether the owner is surely dead, and belonged to us: it was started with our state folder."""
    return state == str(state_folder()) and is_gone(owner, place)


def marks_of(pid: int) -> dict[str, str]:
    """The marks in a process's environment; empty where it has none, or may not be read."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    if OWNER.encode() not in environment:
        return {}
    pairs = (item.decode(errors="replace").partition("=") for item in environment.split(b"\0"))
    return {name: value for name, _, value in pairs if name in _MARKS}


@contextlib.contextmanager
def lease(study: str, trial: int, temporary: Path) -> Iterator[HeldLease]:
    """Write down that this process owns a launch, before there is anything to own. Released on leaving.

    Raises RunnerUnavailable where no lease can be written.
    """
    content = Lease(owner=this_owner(), study=study, trial=trial, place=this_place(), temporary=str(temporary))
    path = _folder() / f"{content.owner}-{secrets.token_hex(4)}.json"
    held = HeldLease(content, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(path, content)
    except OSError as error:
        raise RunnerUnavailable(
            f"cannot write a lease to {path.parent}: {error.strerror}; set XDG_STATE_HOME to a writable folder"
        ) from error
    try:
        yield held
    finally:
        held.release()


def leases() -> list[HeldLease]:
    """Every lease of this user, whoever holds it. A file that cannot be understood is passed over, and removed when
    it is a day old: until then a later version's owner may need it.
    """
    found = []
    for path in sorted((*_folder().glob("*.json"), *_folder().glob("*.partial"))):  # the latter where we were killed
        try:
            found.append(HeldLease(Lease.model_validate_json(read_state(path)), path))
        except (OSError, ValueError, ValidationError):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _UNREADABLE_FOR_S:
                    path.unlink()
    return found


def state_folder() -> Path:
    """The folder with this user's leases."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "tune"


def this_place() -> str:
    """Within which process ids mean something: this machine, since its boot, and this pid namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{platform.node()}/{boot}/{namespace()}"


def is_over(place: str) -> bool:
    """Whether nothing of that place can still run: it is this machine before its last boot."""
    node, boot, _ = (*place.split("/", 2), "", "")[:3]
    here_node, here_boot, _ = this_place().split("/", 2)
    return node == here_node and boot != here_boot


def _write(path: Path, content: Lease) -> None:
    """Write a lease in one step, since another run may read it at any moment."""
    partial = path.with_suffix(".partial")
    partial.write_text(content.model_dump_json(), encoding="utf-8")
    partial.replace(path)


def _folder() -> Path:
    return state_folder() / "leases"
