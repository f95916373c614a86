"""A launch's file on disk, written before `up` is run, so that `down` can be run even if this process is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from runners.command.commands import CommandFailed, Commands, CommandSetting, end_session
from runners.host.process_table import read
from runners.host.server_log import bounded_log
from runners.leftovers.ownership import is_gone, state_folder, this_owner, this_place
from runners.protocol import Container, Leftover, RunnerUnavailable
from search_spaces.reading import read_state


class Pending(BaseModel):
    """A launch whose `down` is still to be run. `session` is that of the command that runs (0: none), `env` what the
    spec adds to the environment; values of secrets are not among it.
    """

    model_config = ConfigDict(frozen=True)

    owner: str
    place: str
    study: str
    trial: int
    down: tuple[str, ...]
    down_s: float
    workdir: str
    log: str
    env: dict[str, str]
    session: int = 0
    session_started: int = 0


@dataclass(frozen=True)
class HeldPending:
    """A pending launch with the file that holds it. Whoever runs `down` holds the file's lock."""

    pending: Pending
    path: Path

    def name_session(self, leader: int) -> None:
        """Write down that a command of the launch now runs as the process `leader`."""
        entry = read(leader)
        if entry is not None:
            named = self.pending.model_copy(update={"session": leader, "session_started": entry.started})
            _write(self.path, named)

    def release(self) -> None:
        """Remove the file: nothing is left to be ended. May be called twice."""
        self.path.unlink(missing_ok=True)


def pending_of(container: Container, commands: Commands, down_s: float, env: Mapping[str, str]) -> HeldPending:
    """Write down what is to be run when the launch is over. Raises RunnerUnavailable where that cannot be written."""
    content = Pending(
        owner=this_owner(), place=this_place(), study=container.study, trial=container.trial, down=commands.down,
        down_s=down_s, workdir=str(container.workdir), log=str((container.folder / "server.log").resolve()),
        env=dict(env),
    )  # fmt: skip
    held = HeldPending(content, _folder() / f"{content.owner}-{secrets.token_hex(4)}.json")
    try:
        held.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(held.path, content)
    except OSError as error:
        raise RunnerUnavailable(
            f"cannot write to {held.path.parent}: {error.strerror}; set XDG_STATE_HOME to a writable folder"
        ) from error
    return held


def remove_commands() -> tuple[list[Leftover], list[str]]:
    """Run `down` of every launch whose owner is dead. Blocks. Returns what was ended, and what could not be."""
    removed, stuck = [], []
    for path in sorted(_folder().glob("*.json")):
        with _locked(path) as pending:
            if pending is None or not is_gone(pending.owner, pending.place):
                continue
            try:
                _run_down(pending)
            except CommandFailed as error:
                stuck.append(
                    f"trial {pending.trial} of {pending.study}: {error} (its output is in {pending.log}); "
                    f"end what is left by hand and remove {path}"
                )
                continue
            path.unlink(missing_ok=True)
            removed.append(Leftover("what the command down ended", pending.study, str(pending.trial)))
    return removed, stuck


def _run_down(pending: Pending) -> None:
    if pending.session and pending.place == this_place():
        end_session(pending.session, pending.session_started)
    if not pending.down:
        return
    log = Path(pending.log)
    there = log.parent.is_dir()
    with bounded_log(log) if there else contextlib.nullcontext():
        program = CommandSetting(Path(pending.workdir), pending.env, log if there else Path(os.devnull))
        program.run("down", pending.down, pending.down_s, go_on=lambda: None)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[Pending | None]:
    """The pending launch in a file, locked. None if another clean-up holds it, it is gone, or it cannot be
    understood.
    """
    with contextlib.ExitStack() as stack:
        found = None
        with contextlib.suppress(OSError, ValueError):  # BlockingIOError: held; ValidationError is a ValueError
            read_state(path)  # it is a file, and small
            file = stack.enter_context(path.open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists():
                found = Pending.model_validate_json(file.read())
        yield found


def _write(path: Path, content: Pending) -> None:
    """Write the file in one step, readable by its owner only."""
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content.model_dump_json())
    partial.replace(path)


def _folder() -> Path:
    return state_folder() / "commands"
