"""A server that is already running: it is told what a running server can be told, but neither launched nor stopped."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from runners.protocol import Container, Endpoint, Leftover, Placement, Resources, ServerFailed
from runners.readiness import await_server
from runners.remote import Address, RemoteServer, WrongUrl, check_scheme

_WAIT_S = 0.1


class AttachRunner:
    """The one server at `address`. It runs one configuration at a time, so launches wait for one another. See
    `runners.protocol.Runner`; here "launch" means to tell the server and to wait until it answers.
    """

    def __init__(self, address: Address) -> None:
        self._address, self._lock = address, threading.Lock()

    @property
    def near(self) -> bool:
        """Whether the server is on this machine; a load generator runs here either way."""
        return True

    def refuses(self, resources: Resources) -> str | None:  # noqa: ARG002
        """Refuses nothing: what the server has cannot be changed, and roles only say what to price."""
        return None

    def place(self, folder: Path) -> Placement:
        """Where the server listens. Its other ports are not known."""
        return Placement(self._address.host, self._address.port, str(folder.resolve() / "files"))

    @contextlib.contextmanager
    def launch(self, container: Container) -> Iterator[Endpoint]:
        """See `runners.protocol.Runner.launch`; on leaving, the server goes on as it was told last."""
        with _held(self._lock, container.go_on):
            begun = time.monotonic()
            server = RemoteServer(self._address, 0.0, (_note(self._address),))
            try:
                check_scheme(self._address, container.readiness)
            except WrongUrl as error:
                raise ServerFailed(f"runner.url: {error}") from error
            server.notes += await_server(self._address.url, replace(container, running=True), _nothing, lambda: "")
            server.cold_start_s = time.monotonic() - begun
            yield server

    def close(self) -> None:
        """Nothing of ours runs."""

    def remove_leftovers(self) -> list[Leftover]:
        """Nothing was launched."""
        return []


def _note(address: Address) -> str:
    return (
        f"The server at {address.url} was there already: nothing was launched or stopped, it was measured again "
        "without a fresh start, and that it has the cores, memory and GPUs that the spec names was not checked."
    )


def _nothing() -> None:
    """The check while waiting for the server. There is no process of ours to look after."""


@contextlib.contextmanager
def _held(lock: threading.Lock, go_on: Callable[[], None]) -> Iterator[None]:
    while not lock.acquire(timeout=_WAIT_S):
        go_on()
    try:
        yield
    finally:
        lock.release()
