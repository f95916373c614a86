"""The search space: which configurations exist, how many, and how to walk through them without holding them all."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from search_spaces.expression import Constraint, ExpressionError
from search_spaces.parameter import (
    RESOURCE_ROLES,
    Configuration,
    Parameter,
    ParameterValue,
    Role,
    SpaceError,
    text_of,
)
from search_spaces.values import quantity

_MAX_STEPS = 150_000  # about a second: what is beyond is counted as "over"
_MAX_DRAWS = 20_000
_MOST_DRAWS = 200_000  # some seconds
_FEW = 20
_FIRST = 100


@dataclass(frozen=True)
class SpaceSize:
    """The number of valid configurations; where `exact` is false there are at least so many."""

    count: int
    exact: bool

    def __str__(self) -> str:
        return f"{self.count:,}" if self.exact else f"over {self.count:,}"


@dataclass(frozen=True)
class SearchSpace:
    """Parameters and the constraints between them. Raises SpaceError when made from what contradicts itself."""

    parameters: tuple[Parameter, ...]
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        names = [parameter.name for parameter in self.parameters]
        if not names:
            raise SpaceError("the space has no parameters", ("parameters",))
        for role in RESOURCE_ROLES:  # two parameters for one resource would contradict each other
            holders = [parameter.name for parameter in self.parameters if parameter.role == role]
            if len(holders) > 1:
                raise SpaceError(f"{' and '.join(holders)} both have the role {role}", ("parameters", holders[1]))
        for index, constraint in enumerate(self.constraints):
            unknown = sorted(constraint.names - set(names))
            if unknown:
                raise SpaceError(
                    f"{constraint.text!r} names {unknown[0]}, which is not a parameter; there are {', '.join(names)}",
                    ("constraints", index),
                )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in the spec's order."""
        return tuple(parameter.name for parameter in self.parameters)

    def with_role(self, role: Role) -> Parameter | None:
        """The first parameter of that role."""
        return next((parameter for parameter in self.parameters if parameter.role == role), None)

    def __iter__(self) -> Iterator[dict[str, ParameterValue]]:
        """Every valid configuration, lazily, the last parameter varying fastest."""
        return _walk(self.parameters, self.constraints, None)

    @cached_property
    def size(self) -> SpaceSize:
        """Parameters that no constraint joins multiply, so only joined ones are walked through to be counted."""
        total, exact = 1, True
        for group in _joined(self.parameters, self.constraints):
            limits = [constraint for constraint in self.constraints if constraint.names & {p.name for p in group}]
            if not limits:
                total *= math.prod(len(parameter.choices) for parameter in group)
                continue
            steps = _Steps(_MAX_STEPS)
            count = sum(1 for _ in _walk(group, limits, steps))
            if steps.left <= 0:
                exact = False
                count = count or len(_drawn(group, limits, _MAX_DRAWS, _MAX_DRAWS, seed=0))
            total *= count
        # A constraint over no parameter at all ("1 > 2") belongs to no group.
        if any(not constraint.holds({}) for constraint in self.constraints if not constraint.names):
            return SpaceSize(0, exact=True)
        return SpaceSize(total, exact)

    def why_invalid(self, configuration: Configuration) -> str | None:
        """What is wrong with a configuration that somebody wrote, in one sentence, or None."""
        if missing := [name for name in self.names if name not in configuration]:
            return f"it gives no {missing[0]}"
        if unknown := [name for name in configuration if name not in self.names]:
            return f"{unknown[0]} is not a parameter; there are {', '.join(self.names)}"
        for parameter in self.parameters:
            value = configuration[parameter.name]
            if self.rank(parameter, value) is None:
                allowed = ", ".join(text_of(value) for value in parameter.choices[:12])
                quotes = _quotes_meant(parameter.choices, value)
                return f"{parameter.name}={text_of(value)} is not among its choices: {allowed}{quotes}"
        values = quantities(configuration)
        try:
            broken = next((constraint for constraint in self.constraints if not constraint.holds(values)), None)
        except ExpressionError as error:
            return f"the constraint {error}"
        return f"it breaks the constraint {broken.text!r}" if broken else None

    @staticmethod
    def rank(parameter: Parameter, value: ParameterValue) -> int | None:
        """A value's place among the choices, or None. 1 is not True, but 1.0 is 1."""
        if isinstance(parameter.choices, range):
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            whole = whole and not isinstance(value, bool)
            return parameter.choices.index(int(value)) if whole and int(value) in parameter.choices else None
        for index, choice in enumerate(parameter.choices):
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return index
        return None

    def ranks(self, configuration: Configuration) -> tuple[int, ...]:
        """A valid configuration as the positions of its values among the choices."""
        found = [self.rank(parameter, configuration[parameter.name]) for parameter in self.parameters]
        return tuple(-1 if rank is None else rank for rank in found)

    def sample(self, count: int, seed: int) -> list[dict[str, ParameterValue]]:
        """Up to `count` distinct valid configurations, drawn uniformly; all of them where there are no more."""
        generator = random.Random(seed)  # noqa: S311 (not for secrets)
        if self.size.exact and self.size.count <= max(50_000, count):
            everything = list(self)
            return generator.sample(everything, min(count, len(everything)))
        draws = min(200 * count, _MOST_DRAWS)
        found = _drawn(self.parameters, self.constraints, count, draws, seed, forgiving=True)
        if len(found) < count and (listed := _listed(self.parameters, self.constraints)):
            again = _drawn(self.parameters, self.constraints, count, draws, seed, forgiving=True, listed=listed)
            found = max(found, again, key=len)
        few = min(count, _FIRST)
        if len(found) >= few:
            return found
        # Where constraints leave so little that chance meets hardly any of it, the first ones stand for all.
        first = list(itertools.islice(_walk(self.parameters, self.constraints, _Steps(_MAX_STEPS)), few))
        return [*found, *(one for one in first if one not in found)][: max(few, len(found))]


def _quotes_meant(choices: Sequence[ParameterValue], value: ParameterValue) -> str:
    """What to do where a choice is written like the value, and only one of the two is text; or nothing."""
    if isinstance(choices, range):
        alike = isinstance(value, str) and value.isdecimal() and int(value) in choices
    else:
        alike = text_of(value) in map(text_of, choices)
    if not alike:
        return ""
    as_choices = f"{text_of(value)} without quotes" if isinstance(value, str) else f"'{text_of(value)}' in quotes"
    return f"; write {as_choices}, as its choices are"


def quantities(configuration: Configuration) -> dict[str, float | str]:
    """The configuration with every value as the number that it stands for."""
    return {name: quantity(value) for name, value in configuration.items()}


class _Steps:
    """How many more values a walk may try."""

    def __init__(self, left: int) -> None:
        self.left = left


def _drawn(
    parameters: Sequence[Parameter], constraints: Sequence[Constraint], count: int, max_draws: int, seed: int, *,
    forgiving: bool = False, listed: Sequence[Sequence[dict[str, ParameterValue]]] = (),
) -> list[dict[str, ParameterValue]]:  # fmt: skip
    """Up to `count` distinct valid ones of `max_draws` drawn uniformly, and no more than the first _MAX_DRAWS show
    where these are fewer than _FEW. `listed` has the valid values of some parameters together: they are drawn from it.

    One of which a constraint cannot be evaluated (1 / 0) raises ExpressionError, or, if `forgiving`, is not valid:
    where a space is too large to be counted, reading it may have met none.
    """
    generator = random.Random(seed)  # noqa: S311 (not for secrets)
    fixed = {name for one in listed for name in one[0]}
    free = [parameter for parameter in parameters if parameter.name not in fixed]
    unsure = [constraint for constraint in constraints if not constraint.names <= fixed]
    found: dict[tuple[ParameterValue, ...], dict[str, ParameterValue]] = {}
    for tried in range(max_draws):
        if tried == _MAX_DRAWS and len(found) < _FEW:
            break
        chosen = {parameter.name: generator.choice(parameter.choices) for parameter in free}
        for one in listed:
            chosen.update(generator.choice(one))
        values = quantities(chosen)
        try:
            valid = all(constraint.holds(values) for constraint in unsure)
        except ExpressionError:
            if not forgiving:
                raise
            continue
        if valid:
            drawn = {parameter.name: chosen[parameter.name] for parameter in parameters}
            found[tuple(drawn.values())] = drawn
            if len(found) == count:
                break
    return list(found.values())


def _listed(
    parameters: Sequence[Parameter], constraints: Sequence[Constraint]
) -> list[list[dict[str, ParameterValue]]]:
    """Per group of parameters that constraints join, all that they leave of it; without groups where that is too much
    to list, or nothing, or where a constraint cannot be evaluated.
    """
    found = []
    for group in _joined(parameters, constraints):
        names = {parameter.name for parameter in group}
        limits, steps = [one for one in constraints if one.names & names], _Steps(_MAX_STEPS)
        with suppress(ExpressionError):
            valid = list(_walk(group, limits, steps)) if limits else []
            if valid and steps.left > 0:
                found.append(valid)
    return found


def _walk(
    parameters: Sequence[Parameter], constraints: Sequence[Constraint], steps: _Steps | None
) -> Iterator[dict[str, ParameterValue]]:
    """Depth first; a constraint is tried as soon as the last parameter that it reads has a value. Ends early where the
    steps are used up.
    """
    names = [parameter.name for parameter in parameters]
    due: list[list[Constraint]] = [[] for _ in parameters]
    for constraint in constraints:
        positions = [names.index(name) for name in constraint.names if name in names]
        due[max(positions, default=0)].append(constraint)

    def descend(
        depth: int, chosen: dict[str, ParameterValue], values: dict[str, float | str]
    ) -> Iterator[dict[str, ParameterValue]]:
        if depth == len(parameters):
            yield dict(chosen)
            return
        parameter = parameters[depth]
        for choice in parameter.choices:
            if steps is not None:
                steps.left -= 1
                if steps.left < 0:
                    return
            chosen[parameter.name], values[parameter.name] = choice, quantity(choice)
            if all(constraint.holds(values) for constraint in due[depth]):
                yield from descend(depth + 1, chosen, values)

    return descend(0, {}, {})


def _joined(parameters: Sequence[Parameter], constraints: Sequence[Constraint]) -> list[list[Parameter]]:
    """The parameters in groups, such that no constraint reaches from one group into another."""
    group_of: Mapping[str, set[str]] = {parameter.name: {parameter.name} for parameter in parameters}
    merged = dict(group_of)
    for constraint in constraints:
        joined: set[str] = set().union(*(merged[name] for name in constraint.names))
        merged.update(dict.fromkeys(joined, joined))
    groups = {id(group): group for group in merged.values()}
    return [[parameter for parameter in parameters if parameter.name in group] for group in groups.values()]


__all__ = ["ExpressionError", "SearchSpace", "SpaceSize", "quantities"]
