"""Which GPU devices a server gets: those that the spec names for its GPU type and slice, each held by one at a time,
except that servers which are tuned together share one where each asks for a share of it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from runners.protocol import Infeasible, ParameterValue, Resources

_LOOK_S = 0.25


class Devices:
    """Devices by GPU type, by slice, or by `type/slice`. Safe to use from several threads."""

    def __init__(self, named: Mapping[str, tuple[str, ...]]) -> None:
        self._named = {key: tuple(dict.fromkeys(devices)) for key, devices in named.items()}
        self._held: defaultdict[str, list[tuple[str | None, float]]] = defaultdict(list)  # whose it is, and how much
        self._freed = threading.Condition()

    def refuses(self, resources: Resources) -> str | None:
        """A GPU that no device is named for."""
        if _key(resources) is None or self._fitting(resources):
            return None
        known = ", ".join(self._named) or "none"
        return f"asks for the GPU {_key(resources)}, and runner.docker.gpus names no device for it (there is {known})"

    @contextlib.contextmanager
    def take(
        self, resources: Resources, go_on: Callable[[], None], group: str | None = None
    ) -> Iterator[tuple[str, ...]]:
        """One device for as long as the block runs, or none where none is asked for. Waits for one that is held; what
        `go_on` raises meanwhile ends that. Of a `group`, those that ask for a share of a GPU get the same one.
        """
        fitting, taken = self._fitting(resources), (group, _share(resources.gpu_memory))
        if not fitting:
            yield ()
            return
        with self._freed:
            while (free := self._choose(fitting, *taken)) is None:
                if all(holder == group is not None for one in fitting for holder, _ in self._held[one]):
                    raise Infeasible(f"finds no room on a GPU {_key(resources)} beside the services of its own trial")
                go_on()
                self._freed.wait(_LOOK_S)
            self._held[free].append(taken)
        try:
            yield (free,)
        finally:
            with self._freed:
                self._held[free].remove(taken)
                self._freed.notify_all()

    def _choose(self, fitting: tuple[str, ...], group: str | None, share: float) -> str | None:
        """A device that the group has already and that has room for so much, or else a free one."""

        def has_room(one: str) -> bool:
            held = self._held[one]
            own = group is not None and all(holder == group for holder, _ in held)
            return bool(held) and own and sum(part for _, part in held) + share <= 1 + 1e-9

        return next(filter(has_room, fitting), None) or next((one for one in fitting if not self._held[one]), None)

    def _fitting(self, resources: Resources) -> tuple[str, ...]:
        key = _key(resources)
        if key is None:
            return ()
        for name in (key, str(resources.gpu_memory), str(resources.gpu_type)):
            if name in self._named:
                return self._named[name]
        return ()


def _share(slice_: ParameterValue | None) -> float:
    """`0.5` and `"50%"` are shares of a device; a size, a MIG profile or no slice is a whole one."""
    if isinstance(slice_, str) and slice_.strip().endswith("%"):
        return float(slice_.strip()[:-1]) / 100
    return slice_ if isinstance(slice_, float) and 0 < slice_ <= 1 else 1.0


def _key(resources: Resources) -> str | None:
    """`type/slice`, or the one of them that is asked for."""
    parts = [str(part) for part in (resources.gpu_type, resources.gpu_memory) if part is not None]
    return "/".join(parts) or None
