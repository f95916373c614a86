"""Hands out CPU cores: the servers of one runner get cores of their own for as long as there are any."""

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
    def take(
        self, count: int | None, go_on: Callable[[], None], *, leftovers: bool = False
    ) -> Iterator[Allotment]:  # fmt: skip
        """Hold `count` cores for as long as the block runs; None: all but those that are left to the load generator.

        Waits while others hold them, since two servers on one core would be measured as slow. `go_on` is called often
        meanwhile, and ends the wait by raising. With `leftovers` the server gets all cores at once and keeps them from
        nobody: it is one that runs on a core only while nobody else wants it.
        """
        usable = self._usable()
        if leftovers:
            yield Allotment(usable, ())
            return
        with self._freed:
            while count is not None and len(usable) > self._free(usable) < count:
                go_on()
                self._freed.wait(_LOOK_S)
            allotment = self._all_but_the_generators(usable) if count is None else self._least_used(usable, count)
            # Whoever asks for cores of its own gets none of a server's that asked for none, nor of its generator's.
            held = usable if count is None else allotment.server
            self._held.update(held)
        try:
            yield allotment
        finally:
            with self._freed:
                self._held.subtract(held)
                self._freed.notify_all()

    def _least_used(self, usable: tuple[int, ...], count: int) -> Allotment:
        server = tuple(sorted(sorted(usable, key=lambda core: (self._held[core], core))[:count]))
        unheld = tuple(core for core in usable if not self._held[core] and core not in server)
        return Allotment(server, unheld or tuple(core for core in usable if core not in server) or usable)

    def _all_but_the_generators(self, usable: tuple[int, ...]) -> Allotment:
        """The cores of a server that asks for no number: all but the load generator's, which are one in eight and at
        least one. A generator that had to wait for a core would read answers late, and the server would be blamed.
        """
        if len(usable) == 1:
            return Allotment(usable, usable)
        spare = sorted(usable, key=lambda core: (self._held[core], -core))[: max(1, len(usable) // 8)]
        return Allotment(tuple(core for core in usable if core not in spare), tuple(sorted(spare)))

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
