"""The cheapest mixture of replicas of several kinds for a load: integer programs, solved by SciPy's HiGHS.

A load balancer gives each replica its part by weight: its capacity. So capacities add up, and what one kind cannot fill
with whole replicas another one may.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TIME_S = 3.0  # of one program; what is found until then is a fleet that carries the load, if not the cheapest
_MIN_S = 0.01
_GAP = 1e-4
_SLACK = 1e-9


class OutOfTimeError(Exception):
    """No further program may begin."""


@dataclass(frozen=True)
class SolverTime:
    """How long programs may take: each at most `each_s`, and none begins when the thread's CPU time is past `end_s`."""

    each_s: float = _TIME_S
    end_s: float = math.inf

    @classmethod
    def together(cls, seconds: float) -> SolverTime:
        """Time for several programs together, counted from now on."""
        return cls(end_s=time.thread_time() + seconds)

    @property
    def is_over(self) -> bool:
        """Whether no further program may begin."""
        return time.thread_time() >= self.end_s

    def left_s(self) -> float:
        """How many seconds the next program may take. Raises OutOfTimeError if none may begin."""
        if self.is_over:
            raise OutOfTimeError
        return max(_MIN_S, min(self.each_s, self.end_s - time.thread_time()))


UNHURRIED = SolverTime()  # each as long as it may, and all of them


@dataclass(frozen=True)
class Kind:
    """One replica: what it carries within the SLO, in requests/s, and its price per hour."""

    capacity_qps: float
    price_per_hour: float


@dataclass(frozen=True)
class Need:
    """What a fleet must have besides the load's capacity: `spare` replicas as big as its biggest, enough replicas where
    one of `zones` is lost (each kind spread evenly over them), `min_replicas` in all, and few kinds to look after.
    """

    spare: int = 0
    zones: int = 1
    min_replicas: int = 0
    max_kinds: int = 3


def undominated(kinds: Sequence[Kind], max_kinds: int) -> list[int]:
    """Which kinds a mixture may be of: none of another that carries as much for less. At most `max_kinds`, the cheapest
    per request first, and always the smallest, which wastes least.
    """
    order = sorted(range(len(kinds)), key=lambda at: (kinds[at].price_per_hour, -kinds[at].capacity_qps))
    front: list[int] = []
    for at in order:
        if not front or kinds[at].capacity_qps > kinds[front[-1]].capacity_qps * (1 + _SLACK):
            front.append(at)
    best = sorted(front, key=lambda at: kinds[at].price_per_hour / kinds[at].capacity_qps)[: max(1, max_kinds - 1)]
    return sorted({*best, *front[:1]})


def fixed_mixture(
    kinds: Sequence[Kind], load_qps: float, need: Need, solver_time: SolverTime = UNHURRIED
) -> Ints | None:
    """How many replicas of each kind carry the load at the least price; None where no program was solved in time.
    Raises OutOfTimeError where none may begin.

    Variables per kind: replicas n, those lost with a zone l (at least n / zones), spares s, and whether it is used y.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    count = len(kinds)
    capacity = np.array([one.capacity_qps for one in kinds])
    price = np.array([one.price_per_hour for one in kinds])
    ceiling = float(np.ceil(load_qps / capacity.min()) * max(2, need.zones) + need.spare + need.min_replicas + 1)
    zero, one = np.zeros((count, count)), np.eye(count)
    lost = capacity if need.zones > 1 else np.zeros(count)
    limits = [
        LinearConstraint(np.concatenate([capacity, -lost, np.zeros(2 * count)]), load_qps * (1 - _SLACK), np.inf),
        LinearConstraint(np.hstack([-one, need.zones * one, zero, zero]), 0, np.inf),
        LinearConstraint(np.hstack([-one, zero, -one, ceiling * one]), 0, np.inf),
        LinearConstraint(np.concatenate([np.zeros(3 * count), np.ones(count)]), 0, need.max_kinds),
        LinearConstraint(
            np.concatenate([np.ones(count), np.zeros(count), np.ones(count), np.zeros(count)]), need.min_replicas
        ),
    ]
    if need.spare:  # as big together as so many of any kind that is used
        spares = np.tile(np.concatenate([np.zeros(2 * count), capacity]), (count, 1))
        limits.append(LinearConstraint(np.hstack([spares, -need.spare * np.diag(capacity)]), -_SLACK, np.inf))
    upper = np.concatenate([np.full(3 * count, ceiling), np.ones(count)])
    found = milp(
        np.concatenate([price, np.zeros(count), price, np.zeros(count)]), constraints=limits,
        integrality=np.ones(4 * count), bounds=Bounds(0, upper),
        options={"time_limit": solver_time.left_s(), "mip_rel_gap": _GAP},
    )  # fmt: skip
    if found.x is None:
        return None
    whole = np.rint(found.x).astype(np.int64)
    return np.asarray(whole[:count] + whole[2 * count : 3 * count])


def base_below(
    kinds: Sequence[Kind], scaled: int, loads_qps: Floats, weights: Floats, max_kinds: int,
    solver_time: SolverTime = UNHURRIED,
) -> Ints | None:  # fmt: skip
    """Replicas that run all the time below one kind that follows the load: the mixture of least mean price. Raises
    OutOfTimeError where no program may begin.

    `loads_qps` are levels of the load, each for a share `weights` of the time. At most `max_kinds` kinds in the
    base. Variables: the base b and whether a kind is in it y, and the followers x at each level.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    count, levels = len(kinds), len(loads_qps)
    capacity = np.array([one.capacity_qps for one in kinds])
    price = np.array([one.price_per_hour for one in kinds])
    follower = kinds[scaled]
    bound = float(np.ceil(loads_qps.max() / capacity.min()) + 1)
    carried = np.hstack(
        [np.tile(capacity, (levels, 1)), np.zeros((levels, count)), follower.capacity_qps * np.eye(levels)]
    )
    used = np.hstack([-np.eye(count), bound * np.eye(count), np.zeros((count, levels))])
    few = np.concatenate([np.zeros(count), np.ones(count), np.zeros(levels)])
    found = milp(
        np.concatenate([price, np.zeros(count), follower.price_per_hour * weights / weights.sum()]),
        constraints=[
            LinearConstraint(carried, loads_qps * (1 - _SLACK), np.inf),
            LinearConstraint(used, 0, np.inf),
            LinearConstraint(few, 0, max_kinds),
        ],
        integrality=np.ones(2 * count + levels),
        bounds=Bounds(0, np.concatenate([np.full(count, bound), np.ones(count), np.full(levels, bound)])),
        options={"time_limit": solver_time.left_s(), "mip_rel_gap": _GAP},
    )
    return None if found.x is None else np.rint(found.x[:count]).astype(np.int64)
