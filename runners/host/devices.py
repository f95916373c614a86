"""Hands out GPU devices. A server gets as many as it asks for, and one server at a time holds each; but servers that
are tuned together share a device if each asks for a share of one.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator

from runners.protocol import GIB, MIB, Infeasible, ParameterValue, Resources

_LOOK_S = 0.25
_UNITS = {"Ki": 2**10, "Mi": MIB, "Gi": GIB, "Ti": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(Ki|Mi|Gi|Ti)B?")


class Devices:
    """Hands out devices; `fitting` names those that would do for a server. `memory_bytes` is what one has, where slices
    may be given as sizes. Safe to use from several threads.
    """

    def __init__(
        self, fitting: Callable[[Resources], tuple[str, ...]], memory_bytes: Callable[[], int | None] = lambda: None
    ) -> None:
        self._fitting, self._memory_bytes = fitting, memory_bytes
        self._held: defaultdict[str, list[tuple[str | None, float]]] = defaultdict(list)  # whose it is, and how much
        self._freed = threading.Condition()

    @contextlib.contextmanager
    def take(
        self, resources: Resources, go_on: Callable[[], None], group: str | None = None
    ) -> Iterator[tuple[str, ...]]:
        """Hold devices for as long as the block runs; none if none is asked for, or none fits. Waits for devices
        that are held; `go_on` ends the wait by raising. Servers of one `group` that ask for a share of a GPU get the
        same one.
        """
        fitting, count = self._fitting(resources), resources.gpu_count
        if not fitting or not count:
            yield ()
            return
        share = max(share_of(resources.gpu_memory, self._memory_bytes()), resources.gpu_compute or 0.0)
        taken = (group, share if count == 1 else 1.0)
        with self._freed:
            while (free := self._choose(fitting, count, *taken)) is None:
                if len(fitting) - sum(self._is_ours(one, group) for one in fitting) < count:
                    shown = gpus_text(resources)
                    raise Infeasible(f"finds no room on {shown} beside the services of its own trial")
                go_on()
                self._freed.wait(_LOOK_S)
            for one in free:
                self._held[one].append(taken)
        try:
            yield free
        finally:
            with self._freed:
                for one in free:
                    self._held[one].remove(taken)
                self._freed.notify_all()

    def _is_ours(self, device: str, group: str | None) -> bool:
        """Whether servers of the same group hold the device: they will not give it back while this one waits."""
        return group is not None and any(holder == group for holder, _ in self._held[device])

    def _choose(self, fitting: tuple[str, ...], count: int, group: str | None, share: float) -> tuple[str, ...] | None:
        """One that the group has already and that has room for so much, or else free ones."""

        def has_room(one: str) -> bool:
            held = self._held[one]
            own = group is not None and all(holder == group for holder, _ in held)
            return bool(held) and own and sum(part for _, part in held) + share <= 1 + 1e-9

        if count == 1 and (shared := next(filter(has_room, fitting), None)) is not None:
            return (shared,)
        free = tuple(one for one in fitting if not self._held[one])[:count]
        return free if len(free) == count else None


def gpus_text(resources: Resources) -> str:
    """What is asked for, for a message: `the GPU A100/1g.10gb`, `4 GPUs H100`, `25% of the compute of the GPU T4`."""
    parts = [str(part) for part in (resources.gpu_type, resources.gpu_memory) if part is not None]
    name = " " + "/".join(parts) if parts else ""
    of = f"{resources.compute_percent}% of the compute of " if resources.shares_compute else ""
    return of + (f"{resources.gpu_count} GPUs{name}" if resources.gpu_count != 1 else f"the GPU{name}")


def slice_bytes(slice_: ParameterValue | None, memory_bytes: int | None) -> int | None:
    """A slice of a device's memory as bytes; None where it is the whole, or where neither it nor the device says."""
    if isinstance(slice_, str) and (size := _SIZE.fullmatch(slice_.strip())):
        return int(float(size[1]) * _UNITS[size[2]])
    share = share_of(slice_, memory_bytes)
    return None if share == 1.0 or memory_bytes is None else int(share * memory_bytes)


def share_of(slice_: ParameterValue | None, memory_bytes: int | None) -> float:
    """`0.5` and `"50%"` are shares of a device, and so is a size (`8Gi`) where its memory is known; a MIG profile or no
    slice is a whole one.
    """
    if isinstance(slice_, str) and slice_.strip().endswith("%"):
        return float(slice_.strip()[:-1]) / 100
    if isinstance(slice_, str) and memory_bytes and (size := _SIZE.fullmatch(slice_.strip())):
        return min(1.0, float(size[1]) * _UNITS[size[2]] / memory_bytes)
    return slice_ if isinstance(slice_, float) and 0 < slice_ <= 1 else 1.0
