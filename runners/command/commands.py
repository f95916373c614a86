"""The user's three commands as plain words, and how one of them is run to its end."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runners.host.process_table import read
from runners.leftovers.ownership import LAUNCH
from runners.leftovers.process_tree import ProcessTree
from runners.protocol import ServerFailed
from runners.starting import inherited_environment, program_path

_POLL_S = 0.05
_GRACE_S = 2.0


@dataclass(frozen=True)
class Commands:
    """Rendered for one launch. `up` (empty: nothing is to be started) returns when the server is started or asked for;
    `url` is an address, or words whose first line of output is one; `down` (empty: nothing is to be ended) ends it.
    """

    up: tuple[str, ...]
    url: str | tuple[str, ...]
    down: tuple[str, ...]


@dataclass(frozen=True)
class CommandTimes:
    """`up_s` is for `up` and for the URL to be known, `down_s` for one run of `down`."""

    up_s: float = 600.0
    down_s: float = 300.0


class CommandFailed(Exception):
    """A command could not be run, ended with another code than 0, or took too long; the message says which."""


@dataclass(frozen=True)
class CommandSetting:
    """What the three commands of a launch have in common: folder, environment, log."""

    workdir: Path
    env: Mapping[str, str]
    log: Path

    def run(
        self, name: str, words: tuple[str, ...], timeout_s: float, *, go_on: Callable[[], None],
        began: Callable[[int], None] = lambda _pid: None, output: IO[bytes] | None = None,
    ) -> None:  # fmt: skip
        """Blocks until it ends; its output is appended to the log, or its standard output to `output`.

        `began` is told its process id, `go_on` is called often. Whatever ends the wait ends the program and all that
        it started. Raises CommandFailed.
        """
        with self._started(name, words, output) as process:
            began(process.pid)
            deadline = time.monotonic() + timeout_s
            while (code := process.poll()) is None:
                go_on()
                if time.monotonic() > deadline:
                    raise CommandFailed(f"{name} did not end within {timeout_s:g} s")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_S)
        if code:
            raise CommandFailed(f"{name} ended with code {code}")

    @contextlib.contextmanager
    def _started(
        self, name: str, words: tuple[str, ...], output: IO[bytes] | None
    ) -> Iterator[subprocess.Popen[bytes]]:
        environ = inherited_environment(self.env)
        process = None
        try:
            program = program_path(words[0], self.workdir, environ["PATH"])
            with _opened(self.log) as log:
                log.write(f"# {name}: {' '.join(words)}\n".encode())
                log.flush()
                process = subprocess.Popen(
                    [program, *words[1:]], cwd=self.workdir, env=environ, stdin=subprocess.DEVNULL,
                    stdout=output or log, stderr=log, start_new_session=True,
                )  # fmt: skip
            yield process
        except ServerFailed as error:
            raise CommandFailed(f"{name}: {error.reason}") from error
        except (OSError, ValueError) as error:
            raise CommandFailed(
                f"{name}: cannot run {words[0]!r}: {getattr(error, 'strerror', None) or error}"
            ) from error
        finally:
            if process is not None and process.poll() is None:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    entry = read(process.pid)
    try:
        if entry is not None:
            end_session(process.pid, entry.started)
    finally:
        process.kill()
        process.wait()


def end_session(leader: int, started: int) -> None:
    """End a command and its children, provided that the process `leader` is still the one that began at `started`.
    Commands carry no ownership marks, since these would travel with a job to machines where they mean another process.
    """
    entry = read(leader)
    if entry is None or entry.started != started:
        return
    tree = ProcessTree({LAUNCH: secrets.token_hex(8)})  # which no process carries
    tree.led_by(leader)
    tree.stop(_GRACE_S)


def _opened(log: Path) -> IO[bytes]:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "ab")
