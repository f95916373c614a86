"""The runner whose servers the user's own commands start, find and end."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from runners.command.commands import CommandFailed, Commands, CommandSetting, CommandTimes
from runners.command.teardown import HeldPending, pending_of, remove_commands
from runners.host.ports import Ports
from runners.host.server_log import BoundedLog, bounded_log, end_of_file
from runners.leftovers.cleanup import remove_leftovers
from runners.protocol import (
    Container,
    Endpoint,
    Leftover,
    Placement,
    Resources,
    RunnerUnavailable,
    ServerFailed,
)
from runners.readiness import await_server
from runners.remote import Address, RemoteServer, WrongUrl, address_of, check_scheme
from runners.starting import write_files

Render = Callable[[Container, str], Commands]
_DOWN_TRIES = 2  # a second interrupt leaves the rest to `tune clean`
_ASK_EVERY_S = 1.0
_ONE_ANSWER_S = 30.0
_FIRST_LINE_BYTES = 4096
_MAX_ID = 40


class CommandRunner:
    """`render` gives the commands of a launch, from its container and from an id that no other launch has. What a
    configuration asks of resources is for the commands to ask for, so nothing is refused here.
    """

    def __init__(self, render: Render, times: CommandTimes) -> None:
        self._render, self._times, self._ports = render, times, Ports()

    @property
    def near(self) -> bool:
        """True: where the servers are is not known, so the load generator runs here."""
        return True

    def refuses(self, resources: Resources) -> str | None:  # noqa: ARG002
        """Refuses nothing: only the commands know what there is."""
        return None

    def place(self, folder: Path) -> Placement:
        """A port that is free here, for servers that run on this machine or are tunnelled to it."""
        return Placement("127.0.0.1", self._ports.take(), str(folder.resolve() / "files"))

    @contextlib.contextmanager
    def launch(self, container: Container) -> Iterator[Endpoint]:
        """See `runners.protocol.Runner.launch`. Raises RunnerUnavailable where `down` fails twice: what `up` started
        may run on and cost money, so nothing further is launched.
        """
        launched = time.monotonic()
        try:
            write_files(container.files, Path(container.placement.files))
            commands = self._render(container, _launch_id(container))
            log_path = container.folder / "server.log"
            log_path.unlink(missing_ok=True)
            given = {name: value for name in container.secrets if (value := os.environ.get(name)) is not None}
            program = CommandSetting(container.workdir, given | dict(container.env), log_path)
            held = pending_of(container, commands, self._times.down_s, container.env)
            with bounded_log(log_path) as log, self._ended(held, program, commands):
                address = self._begun(container, held, program, commands, log)
                server = RemoteServer(address, 0.0, (_note(address),))
                server.notes += await_server(address.url, container, _nothing, lambda: end_of_file(log_path))
                server.cold_start_s = time.monotonic() - launched
                yield server
        finally:
            self._ports.give_back(container.placement.port)

    def close(self) -> None:
        """Every launch has run its own `down`."""

    def remove_leftovers(self) -> list[Leftover]:
        """Run `down` for launches whose run is dead. `tune clean` says what could not be ended."""
        return [*remove_commands()[0], *remove_leftovers()]

    def _begun(
        self, container: Container, held: HeldPending, program: CommandSetting, commands: Commands, log: BoundedLog
    ) -> Address:
        """Run `up` and ask for the address, both within `up_s`."""
        deadline = time.monotonic() + self._times.up_s

        def go_on() -> None:
            container.go_on()
            log.trim()

        try:
            if commands.up:
                program.run("up", commands.up, self._times.up_s, go_on=go_on, began=held.name_session)
            text = commands.url
            if not isinstance(text, str):
                text = _asked(program, text, deadline, go_on)
            address = address_of(text)
            check_scheme(address, container.readiness)
        except (CommandFailed, WrongUrl) as error:
            raise ServerFailed(f"runner.url: {error}" if isinstance(error, WrongUrl) else str(error),
                               end_of_file(program.log)) from error  # fmt: skip
        return address

    @contextlib.contextmanager
    def _ended(self, held: HeldPending, program: CommandSetting, commands: Commands) -> Iterator[None]:
        """Around work that may start something: runs `down` however the block ends, an interrupt included."""
        try:
            yield
        finally:
            try:
                interrupted = _down(program, commands.down, self._times.down_s) if commands.down else None
            except CommandFailed as error:
                raise RunnerUnavailable(
                    f"runner.down: {error}, so what up started may still run; its output is in {program.log}\n"
                    "End it by hand, or see to it that down succeeds and run tune clean, which tries again"
                ) from error
            held.release()
            if interrupted is not None:
                raise interrupted


def _down(program: CommandSetting, words: tuple[str, ...], timeout_s: float) -> KeyboardInterrupt | None:
    """Run `down`, and repeat it if it fails or an interrupt ends it. Returns an interrupt that came meanwhile. If every
    try failed, raises CommandFailed; if every try was interrupted, KeyboardInterrupt.
    """
    interrupted: KeyboardInterrupt | None = None
    for left in reversed(range(_DOWN_TRIES)):
        try:
            program.run("down", words, timeout_s, go_on=lambda: None)
            break
        except KeyboardInterrupt as error:
            interrupted = error
            if not left:
                raise
        except CommandFailed:
            if not left:
                raise
    return interrupted


def _asked(program: CommandSetting, words: tuple[str, ...], deadline: float, go_on: Callable[[], None]) -> str:
    """The first line that the command prints, asked again until there is one: a job may wait for a node."""
    while True:
        why = "url printed nothing"
        with tempfile.TemporaryFile() as output:
            try:
                program.run("url", words, min(_ONE_ANSWER_S, max(1.0, deadline - time.monotonic())), go_on=go_on,
                            output=output)  # fmt: skip
                output.seek(0)
                line = output.readline(_FIRST_LINE_BYTES).decode("utf-8", errors="replace").strip()
                if line:
                    return line
            except CommandFailed as error:
                why = str(error)
        if time.monotonic() >= deadline:
            raise CommandFailed(f"{why} until the time for up was over")
        pause = time.monotonic() + _ASK_EVERY_S
        while time.monotonic() < pause:
            go_on()
            time.sleep(0.05)


def _nothing() -> None:
    """The check while the server gets ready: one that does not listen yet is not a server that is gone."""


def _launch_id(container: Container) -> str:
    """Fit for the name of a job, a project or a release: letters, digits and dashes, in lower case."""
    study = re.sub(r"[^a-z0-9]+", "-", container.study.lower()).strip("-") or "tune"
    end = f"-{container.trial}-{secrets.token_hex(3)}"
    return study[: _MAX_ID - len(end)].rstrip("-") + end


def _note(address: Address) -> str:
    return (
        f"Commands of the spec started the server at {address.url}; that it has the cores, memory and GPUs that the "
        "spec names was not checked."
    )
