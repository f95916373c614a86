"""Services that call one another (`after:`): their order from the entry on, and who calls whom."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.spec.colocation import ColocationError
from tuner.spec.model import ColocatedSpec
from tuner.spec.yaml_file import KeyPath


@dataclass(frozen=True)
class Chain:
    """`names` begins with the entry, and every service stands after those that call it. `calls` says which services
    each one calls.
    """

    names: tuple[str, ...]
    calls: Mapping[str, tuple[str, ...]]

    @property
    def entry(self) -> str:
        """The service that all requests go to."""
        return self.names[0]

    def callers(self, name: str) -> tuple[str, ...]:
        """The services that call this one."""
        return tuple(one for one in self.names if name in self.calls[one])


def chain_of(services: Sequence[ColocatedSpec]) -> Chain | None:
    """The services' chain; None if they stand side by side. Raises ColocationError for what is no chain."""
    if not any(one.after or one.entry for one in services):
        return None
    names = [one.service.name for one in services]
    _check_names(services, names)
    order = _in_order(services, names)
    entries = [index for index, one in enumerate(services) if not one.after]
    if len(entries) > 1:
        first, second = (names[index] for index in entries[:2])
        raise ColocationError(
            f"{first} and {second} come after no other service, and a chain has one entry; write after: [{first}] in "
            f"{second}, or after: [{second}] in {first}",
            ("services", entries[1]),
        )
    for index, one in enumerate(services):
        _check_stage(one, index, names[entries[0]])
    calls = {name: tuple(one for one in order if name in services[names.index(one)].after) for name in names}
    return Chain(tuple(order), calls)


def _check_names(services: Sequence[ColocatedSpec], names: Sequence[str]) -> None:
    for index, one in enumerate(services):
        for place, name in enumerate(one.after):
            key: KeyPath = ("services", index, "after", place)
            if name == names[index]:
                raise ColocationError(f"{name} cannot come after itself; name the service that calls it", key)
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
                raise ColocationError(f"no service is called {name}; {hint}", key)


def _in_order(services: Sequence[ColocatedSpec], names: Sequence[str]) -> list[str]:
    """Callers first, else as the spec lists them."""
    order: list[str] = []
    while len(order) < len(services):
        free = [name for name, one in zip(names, services, strict=True) if set(one.after) <= set(order)]
        following = next((name for name in free if name not in order), None)
        if following is None:
            circle = _circle({name: one.after for name, one in zip(names, services, strict=True)}, order)
            raise ColocationError(
                f"{' after '.join(circle)}: a chain has no circle; remove one of these",
                ("services", names.index(circle[0]), "after"),
            )
        order.append(following)
    return order


def _circle(after: Mapping[str, Sequence[str]], done: Sequence[str]) -> list[str]:
    """Services of which each comes after the next, the last of them being the first again."""
    path = [next(name for name in after if name not in done)]
    while path[-1] not in path[:-1]:
        path.append(next(name for name in after[path[-1]] if name not in done))
    return path[path.index(path[-1]) :]


def _check_stage(service: ColocatedSpec, index: int, entry: str) -> None:
    """What belongs to the chain as a whole stands at its entry."""
    at: KeyPath = ("services", index)
    if service.share is not None:
        raise ColocationError("a chain's requests all go to its entry; remove share", (*at, "share"))
    if not service.after:
        return
    if service.entry:
        raise ColocationError(f"the entry comes after no other service, and {entry} is that", (*at, "entry"))
    if "slo" in service.model_fields_set:
        raise ColocationError(f"a chain has one SLO, that of its entry; move it to {entry}", (*at, "slo"))
    if service.quality is not None:
        raise ColocationError(f"answers are checked at a chain's entry; move it to {entry}", (*at, "quality"))
