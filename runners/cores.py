"""Who runs on which CPU cores: servers of one runner get cores of their own for as long as there are any."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runners.machine import usable_cores


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
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def take(self, count: int | None) -> Iterator[Allotment]:
        """So many cores (None: all) for as long as the block runs."""
        usable = self._usable()
        with self._lock:
            server = tuple(sorted(sorted(usable, key=lambda core: (self._held[core], core))[:count]))
            self._held.update(server)
            unheld = tuple(core for core in usable if not self._held[core])
        others = unheld or tuple(core for core in usable if core not in server)
        try:
            yield Allotment(server, others or usable)
        finally:
            with self._lock:
                self._held.subtract(server)


@contextlib.contextmanager
def affinity(cores: tuple[int, ...]) -> Iterator[None]:
    """A child inherits its affinity from the thread that starts it, so it never runs a moment on other cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
