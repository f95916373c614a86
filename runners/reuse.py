"""One server for several configurations that differ only in what a running server can be told.

Wraps any runner. A launch gets the server that an earlier one has left if their other parameters agree. Otherwise the
kept server is stopped first, so that it holds no cores that the next server needs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from runners.protocol import (
    Container,
    Endpoint,
    InClusterLoad,
    Infeasible,
    Leftover,
    LocalProcesses,
    ParameterValue,
    Placement,
    Recorded,
    Resizable,
    Resources,
    Runner,
    RunsHere,
    ServerFailed,
    Usage,
)
from runners.readiness import await_server

_Key = tuple[tuple[str, ParameterValue], ...]


@dataclass
class _Kept:
    """A running server; `stop` ends it, and whatever its launch holds."""

    key: _Key
    container: Container
    endpoint: Endpoint
    stop: contextlib.ExitStack


@dataclass(frozen=True)
class _ReusedEndpoint:
    """A kept server as a trial's endpoint, with a note on how the trial came to it."""

    endpoint: Endpoint
    said: str
    cold_start_s: float
    reused_from: int | None = None
    recorded: Recorded | None = None

    @property
    def url(self) -> str:
        return self.endpoint.url

    @property
    def client_cores(self) -> tuple[int, ...]:
        return self.endpoint.client_cores

    @property
    def shares_cores(self) -> bool:
        return self.endpoint.shares_cores

    @property
    def processes(self) -> LocalProcesses | None:
        return self.endpoint.processes if isinstance(self.endpoint, RunsHere) else None

    @property
    def beside(self) -> InClusterLoad | None:
        return self.endpoint.beside

    @property
    def image(self) -> str | None:
        return self.endpoint.image

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.endpoint.notes, self.said)

    def check(self) -> None:
        self.endpoint.check()

    def usage(self, start: float, end: float) -> Usage:
        return self.endpoint.usage(start, end)


class ReusingRunner:
    """A runner whose servers outlive a trial that ends well, until one comes that they do not fit. See `Runner`."""

    def __init__(self, runner: Runner) -> None:
        self._runner, self._lock = runner, threading.Lock()
        self._idle: list[_Kept] = []
        self._starting = 0  # launches that may wait for what an idle server would hold

    @property
    def near(self) -> bool:
        """As the wrapped runner's."""
        return self._runner.near

    def refuses(self, resources: Resources) -> str | None:
        """As the wrapped runner's."""
        return self._runner.refuses(resources)

    def place(self, folder: Path) -> Placement:
        """As the wrapped runner's; a launch that reuses a server leaves these ports be."""
        return self._runner.place(folder)

    @contextlib.contextmanager
    def launch(self, container: Container) -> Iterator[Endpoint]:
        """See `runners.protocol.Runner.launch`. A trial that raises, or asks for a fresh launch, leaves no server."""
        key = tuple(sorted((name, value) for name, value in container.parameters.items() if name not in container.live))
        kept = None if container.fresh else self._take(key)
        if kept is None:
            with contextlib.ExitStack() as stack:
                with self._making_room():
                    endpoint = stack.enter_context(self._runner.launch(container))
                yield endpoint
                if container.live and not container.fresh:
                    self._keep(_Kept(key, container, endpoint, stack.pop_all()))
            return
        with contextlib.ExitStack() as stack:
            try:
                with kept.stop as running:
                    endpoint = self._reconfigured(kept, container)
                    stack.push(running.pop_all())
            except (ServerFailed, Infeasible) as error:  # it cannot be told, or not this: started anew it may do
                with self.launch(replace(container, fresh=True)) as anew:
                    why = error.reason if isinstance(error, ServerFailed) else error
                    said = f"It was launched anew, since a running server could not be told: {why}"
                    yield _ReusedEndpoint(anew, said, anew.cold_start_s)
                return
            yield endpoint
            now = replace(kept.container, resources=container.resources)
            self._keep(replace(kept, container=now, stop=stack.pop_all()))

    def _reconfigured(self, kept: _Kept, container: Container) -> Endpoint:
        """The server, once it serves by the new values. Raises as a launch does."""
        begun = time.monotonic()
        if container.resources != kept.container.resources:
            if not isinstance(kept.endpoint, Resizable):
                raise ServerFailed("it cannot be given other resources while it runs")
            kept.endpoint.resize(container.resources)
        now = replace(container, placement=kept.container.placement, running=True)
        await_server(kept.endpoint.url, now, kept.endpoint.check, lambda: "")
        changed = ", ".join(sorted(now.live))
        said = f"It ran in the server that trial {kept.container.trial} launched, told {changed} while it ran."
        return _ReusedEndpoint(kept.endpoint, said, time.monotonic() - begun, kept.container.trial)

    def close(self) -> None:
        """Stop what is kept, too."""
        try:
            self.stop_idle()
        finally:
            self._runner.close()

    def remove_leftovers(self) -> list[Leftover]:
        """As the wrapped runner's."""
        return self._runner.remove_leftovers()

    def stop_idle(self) -> None:
        """Blocks until no server runs that no trial uses."""
        while True:
            with self._lock:
                if not self._idle:
                    return
                kept = self._idle.pop()
            kept.stop.close()

    @contextlib.contextmanager
    def _making_room(self) -> Iterator[None]:
        """While this lasts, stop every server that is or becomes idle: a launch may be waiting for what it holds."""
        with self._lock:
            self._starting += 1
        try:
            self.stop_idle()
            yield
        finally:
            with self._lock:
                self._starting -= 1

    def _take(self, key: _Key) -> _Kept | None:
        with self._lock:
            fitting = next((one for one in self._idle if one.key == key), None)
            if fitting is not None:
                self._idle.remove(fitting)
        return fitting

    def _keep(self, kept: _Kept) -> None:
        with self._lock:
            wanted = self._starting == 0
            if wanted:
                self._idle.append(kept)
        if not wanted:
            kept.stop.close()
