"""Who runs on which CPU cores: servers of one runner get cores of their own for as long as there are any."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runners.host.machine import usable_cores

_LOOK_S = 0.25


@dataclass(frozen=True)
class Allotment:
    """The cores of one server, and those that a load generator should use."""

    server: tuple[int, ...]
    client: tuple[int, ...]

    @property
    def shared(self) -> bool:
        """Whether the two overlap."""
        return bool(set(self.server) & set(self.client))


class Cores:
    """Hands out this machine's cores, the least used first. Safe to use from several threads."""

    def __init__(self, usable: Callable[[], tuple[int, ...]] = usable_cores) -> None:
        self._usable = usable
        self._held: Counter[int] = Counter()
        self._freed = threading.Condition()

    @contextlib.contextmanager
    def take(self, count: int | None, go_on: Callable[[], None]) -> Iterator[Allotment]:
        """So many cores (None: all, shared) for as long as the block runs. While others hold them it waits, since two
        servers on one core would be measured as slow; what `go_on`, called often, raises ends that.
        """
        usable = self._usable()
        with self._freed:
            while count is not None and len(usable) > self._free(usable) < count:
                go_on()
                self._freed.wait(_LOOK_S)
            server = tuple(sorted(sorted(usable, key=lambda core: (self._held[core], core))[:count]))
            self._held.update(server)
            unheld = tuple(core for core in usable if not self._held[core])
        others = unheld or tuple(core for core in usable if core not in server)
        try:
            yield Allotment(server, others or usable)
        finally:
            with self._freed:
                self._held.subtract(server)
                self._freed.notify_all()

    def _free(self, usable: tuple[int, ...]) -> int:
        return sum(not self._held[core] for core in usable)


@contextlib.contextmanager
def affinity(cores: tuple[int, ...]) -> Iterator[None]:
    """A child inherits its affinity from the thread that starts it, so it never runs a moment on other cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
