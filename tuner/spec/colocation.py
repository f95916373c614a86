"""Several services on one machine (`services:`): one search space of all their parameters, within one budget."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from search_spaces import Constraint, SearchSpace, mig_memory, quantity
from search_spaces.expression import Value
from tuner.spec.model import BudgetSpec, ColocatedSpec, ObjectiveSpec
from tuner.spec.yaml_file import KeyPath

_SHARES_ADD_UP = 0.005
_NOT_BEST_EFFORT = {
    "slo": "has no SLO",
    "share": "has no share of the requests: its users ask it all the while",
    "after": "is no part of a chain",
    "entry": "is no part of a chain",
}
_GRANTED = ("cpu_cores", "memory", "gpu_type", "gpu_memory", "gpu_compute", "gpus")  # to one service alone


class ColocationError(ValueError):
    """The services do not go together. `key` is where, in the spec."""

    def __init__(self, message: str, key: KeyPath) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class ServiceSpace:
    """A service's own space within the common one: its parameters have the prefix there."""

    name: str
    prefix: str
    space: SearchSpace
    best_effort: bool = False


def prefix_of(name: str) -> str:
    """What a service's parameters begin with: `rank` makes `workers` into `rank_workers`."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name if name[:1].isalpha() else f"s{name}") + "_"


def shares_of(services: Sequence[ColocatedSpec]) -> tuple[float, ...]:
    """Each service's share of the requests. Shares add up to 1, and a best-effort service has none. Raises
    ColocationError.
    """
    judged = [index for index, service in enumerate(services) if not service.best_effort]
    given = {index: services[index].share for index in judged}
    if all(share is None for share in given.values()):
        return tuple(1 / len(judged) if index in given else 0.0 for index in range(len(services)))
    for index, share in given.items():
        if not share:
            said = "is missing; give every service its share, or none" if share is None else "must be above 0"
            raise ColocationError(said, ("services", index, "share"))
    whole = sum(share for share in given.values() if share is not None)
    if abs(whole - 1) > _SHARES_ADD_UP:
        raise ColocationError(f"the shares add up to {whole:.4g} of the requests, not to 100%", ("services",))
    return tuple((given.get(index) or 0.0) / whole for index in range(len(services)))


def check_best_effort(services: Sequence[ColocatedSpec], objective: ObjectiveSpec, *, is_chain: bool) -> None:
    """Raises ColocationError where a best-effort service is told what only the others can be, or is all there is."""
    if not any(one.best_effort for one in services) and objective.held_qps is not None:
        raise ColocationError("best_effort_qps needs a service with best_effort: true", ("objective", "maximize"))
    for index, one in enumerate(services):
        at: KeyPath = ("services", index)
        if not one.best_effort:
            if one.users is not None:
                raise ColocationError("users ask a best-effort service; add best_effort: true", (*at, "users"))
            continue
        for key, why in _NOT_BEST_EFFORT.items():
            if key in one.model_fields_set and getattr(one, key):
                raise ColocationError(f"a best-effort service {why}; remove {key}, or best_effort", (*at, key))
        if is_chain:
            raise ColocationError(
                "a best-effort service stands beside others, not beside a chain", (*at, "best_effort")
            )
    if all(one.best_effort for one in services):
        raise ColocationError("all are best_effort, and one has to have an SLO", ("services",))


def common_space(parts: Sequence[ServiceSpace], budget: BudgetSpec, constraints: Sequence[Constraint]) -> SearchSpace:
    """All parameters of all services. Raises ColocationError, and SpaceError.

    Roles stay with the services: a price, or what a server asks for, is each service's own.
    """
    _check_cores(parts)
    for index, part in enumerate(parts):
        granted = [one.name for one in part.space.parameters if part.best_effort and one.role in _GRANTED]
        if granted:
            raise ColocationError(
                f"a best-effort service takes what the others leave; remove {granted[0]}",
                ("services", index, "space", "parameters", granted[0]),
            )
    parts_judged = [part for part in parts if not part.best_effort]
    seen: dict[str, str] = {}
    for index, part in enumerate(parts):
        for parameter in part.space.parameters:
            name = part.prefix + parameter.name
            if name in seen:
                raise ColocationError(
                    f"its {parameter.name} and a parameter of {seen[name]} are both called {name}; name one otherwise",
                    ("services", index, "service", "name"),
                )
            seen[name] = part.name
        if part.space.with_role("replicas") is not None:
            raise ColocationError(
                "several services are measured with one container each; remove replicas", ("services", index, "space")
            )
    parameters = [
        replace(parameter, name=part.prefix + parameter.name, role=None)
        for part in parts
        for parameter in part.space.parameters
    ]
    own = [constraint.prefixed(part.prefix) for part in parts for constraint in part.space.constraints]
    return SearchSpace(tuple(parameters), (*constraints, *own, *_within(parts_judged, budget)))


def _check_cores(parts: Sequence[ServiceSpace]) -> None:
    """A server without a number of cores may use all, so none would be left for one that asks for its own."""
    judged = [index for index, part in enumerate(parts) if not part.best_effort]
    without = [index for index in judged if parts[index].space.with_role("cpu_cores") is None]
    if 0 < len(without) < len(judged):
        raise ColocationError(
            "has no parameter of the role cpu_cores, and others have; give every service one, or none",
            ("services", without[0], "space"),
        )


def _within(parts: Sequence[ServiceSpace], budget: BudgetSpec) -> Iterator[Constraint]:
    """A constraint for everything that the budget bounds."""
    if budget.cpu_cores is not None:
        yield _sum_within("cpu_cores", budget.cpu_cores, [_sized(part, "cpu_cores") for part in parts])
    if budget.memory is not None:
        yield _sum_within("memory", budget.memory, [_sized(part, "memory") for part in parts])
    if budget.gpu_memory is not None:
        yield _sum_within("gpu_memory", budget.gpu_memory, [_on_gpu(part, _bytes) for part in parts])
    if budget.gpus is not None:
        yield _sum_within("gpus", budget.gpus, [_on_gpu(part, _share) for part in parts])


_Use = tuple[frozenset[str], Callable[[Mapping[str, Value]], float]]


def _sum_within(what: str, limit: float, uses: Sequence[_Use]) -> Constraint:
    names = frozenset().union(*(names for names, _ in uses))
    return Constraint.of(
        f"budget.{what} <= {limit:g}", names, lambda values: sum(use(values) for _, use in uses) <= limit * (1 + 1e-9)
    )


def _sized(part: ServiceSpace, role: str) -> _Use:
    """What a service asks for of cores or memory."""
    parameter = next((one for one in part.space.parameters if one.role == role), None)
    if parameter is None:
        raise ColocationError(
            f"{part.name} has no parameter of the role {role}, so nothing bounds what it takes", ("budget", role)
        )
    name = part.prefix + parameter.name
    return frozenset({name}), lambda values: float(values[name])


def _on_gpu(part: ServiceSpace, amount: Callable[[Value | None], float]) -> _Use:
    """What a service takes of the GPU: nothing where it chooses none."""
    kind, slice_ = part.space.with_role("gpu_type"), part.space.with_role("gpu_memory")
    gpu_count = part.space.with_role("gpus")
    names = {one.name: part.prefix + one.name for one in (kind, slice_, gpu_count) if one is not None}
    for one in slice_.choices if slice_ else ():
        amount(quantity(one))  # what cannot be added up is said now

    def use(values: Mapping[str, Value]) -> float:
        if not names:
            return 0.0
        if kind is not None and values[names[kind.name]] == "none":
            return 0.0
        number = values[names[gpu_count.name]] if gpu_count else 1.0
        count = number if isinstance(number, int | float) else 1.0
        return count * amount(values[names[slice_.name]] if slice_ else None) if count else 0.0

    return frozenset(names.values()), use


def _bytes(slice_: Value | None) -> float:
    if (size := mig_memory(slice_)) is not None:
        return float(size)
    if isinstance(slice_, int | float) and slice_ > 1:
        return float(slice_)
    shown = slice_ or "of a whole GPU"
    raise ColocationError(f"the slice {shown} has no size; bound it by budget.gpus", ("budget", "gpu_memory"))


def _share(slice_: Value | None) -> float:
    if slice_ is None:
        return 1.0
    if isinstance(slice_, int | float) and 0 < slice_ <= 1:
        return float(slice_)
    raise ColocationError(f"the slice {slice_} is no share of a GPU; bound it by budget.gpu_memory", ("budget", "gpus"))
