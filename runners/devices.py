"""Which GPU devices a server gets: those that the spec names for its GPU type and slice, each held by one at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping

from runners.protocol import Resources

_LOOK_S = 0.25


class Devices:
    """Devices by GPU type, by slice, or by `type/slice`. Safe to use from several threads."""

    def __init__(self, named: Mapping[str, tuple[str, ...]]) -> None:
        self._named = {key: tuple(dict.fromkeys(devices)) for key, devices in named.items()}
        self._held: set[str] = set()
        self._freed = threading.Condition()

    def refuses(self, resources: Resources) -> str | None:
        """A GPU that no device is named for."""
        if _key(resources) is None or self._fitting(resources):
            return None
        known = ", ".join(self._named) or "none"
        return f"asks for the GPU {_key(resources)}, and runner.docker.gpus names no device for it (there is {known})"

    @contextlib.contextmanager
    def take(self, resources: Resources, go_on: Callable[[], None]) -> Iterator[tuple[str, ...]]:
        """One device for as long as the block runs, or none where none is asked for. Waits for one that is held; what
        `go_on` raises meanwhile ends that.
        """
        fitting = self._fitting(resources)
        if not fitting:
            yield ()
            return
        with self._freed:
            while (free := next((one for one in fitting if one not in self._held), None)) is None:
                go_on()
                self._freed.wait(_LOOK_S)
            self._held.add(free)
        try:
            yield (free,)
        finally:
            with self._freed:
                self._held.discard(free)
                self._freed.notify_all()

    def _fitting(self, resources: Resources) -> tuple[str, ...]:
        key = _key(resources)
        if key is None:
            return ()
        for name in (key, str(resources.gpu_memory), str(resources.gpu_type)):
            if name in self._named:
                return self._named[name]
        return ()


def _key(resources: Resources) -> str | None:
    """`type/slice`, or the one of them that is asked for."""
    parts = [str(part) for part in (resources.gpu_type, resources.gpu_memory) if part is not None]
    return "/".join(parts) or None
