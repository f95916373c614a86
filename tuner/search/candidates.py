"""The configurations that a search may propose, by number: which are free, and which are unlike each other."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from search_spaces import Configuration, ParameterValue, SearchSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tuner.search.surrogate.features import Ints

Bools: TypeAlias = "NDArray[np.bool_]"

_MAX_CANDIDATES = 50_000


class SpaceExhausted(Exception):
    """Every configuration was asked."""


class TooDearError(Exception):
    """Every configuration that was not asked costs more than may be spent; the cheapest `per_hour`."""

    def __init__(self, per_hour: float) -> None:
        super().__init__(per_hour)
        self.per_hour = per_hour


class CandidatePool:
    """All configurations of a space, or many of a large one. What the runner `refuses` is free only when nothing else
    is left.
    """

    def __init__(self, space: SearchSpace, seed: int, refuses: Callable[[Configuration], bool] | None) -> None:
        self.space = space
        everything = space.size.exact and space.size.count <= _MAX_CANDIDATES
        # Some of a larger space: the same ones for every seed, and so for every process that shares a study.
        self.configurations = space.sample(_MAX_CANDIDATES, seed if everything else 0)
        if not everything:
            random.Random(seed).shuffle(self.configurations)  # noqa: S311 (not for secrets)
        self._numbers = {space.ranks(candidate): number for number, candidate in enumerate(self.configurations)}
        self._runnable = np.array([refuses is None or not refuses(candidate) for candidate in self.configurations])

    def __len__(self) -> int:
        return len(self.configurations)

    def configuration(self, number: int) -> dict[str, ParameterValue]:
        """A copy of one."""
        return dict(self.configurations[number])

    def number_of(self, configuration: Configuration) -> int | None:
        """A configuration's number; None if it is not a candidate."""
        return self._numbers.get(self.space.ranks(configuration))

    def numbers_of(self, configurations: Iterable[Configuration]) -> list[int]:
        """The numbers of those that are complete, and among them."""
        names = len(self.space.names)
        numbers = (self.number_of(one) for one in configurations if len(one) == names)
        return [number for number in numbers if number is not None]

    @cached_property
    def ranks(self) -> Ints:
        """A row per candidate: the place of each parameter's value among its choices."""
        return np.array(list(self._numbers))

    def free(self, taken: Iterable[Configuration], waiting: Sequence[int], spent: Bools | None) -> Ints:
        """The numbers of those that were not tried and are not waiting. Raises SpaceExhausted when there are none."""
        free = np.ones(len(self), dtype=bool) if spent is None else ~spent
        free[list(waiting)] = False
        for configuration in taken:
            number = self.number_of(configuration)
            if number is not None:
                free[number] = False
        if not free.any():
            raise SpaceExhausted
        runnable = free & self._runnable
        return np.flatnonzero(runnable if runnable.any() else free)

    def with_parts(self, parts: Sequence[Configuration]) -> Bools:
        """Which of them have one of these configurations, or of these parts of one."""
        found = np.zeros(len(self), dtype=bool)
        for part in parts:
            wanted = [(column, self.space.rank(one, part[one.name]))
                      for column, one in enumerate(self.space.parameters) if one.name in part]  # fmt: skip
            if all(rank is not None for _, rank in wanted):
                found |= np.all([self.ranks[:, column] == rank for column, rank in wanted], axis=0)
        return found

    def farthest(self, numbers: Ints, others: Sequence[int]) -> int:
        """The candidate that is least like any of the others: several first trials show more if they differ."""
        ranks = self.ranks / [max(1, len(one.choices) - 1) for one in self.space.parameters]
        steps = np.abs(ranks[numbers][:, None] - ranks[list(others)][None]).sum(axis=2)
        return int(numbers[steps.min(axis=1).argmax()])
