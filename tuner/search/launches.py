"""What launches showed of configurations, and how far one launch may be from another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results import Estimate, TrialRecord

Floats = NDArray[np.float64]

# Of two launches' logarithms: on a shared machine, before any configuration was launched twice.
LAUNCH_SPREAD, SPREAD_DOUBT = 0.1, 0.6
SPREADS = np.geomspace(0.01, 0.5, 18)
DISTURBED = 0.05  # of launches
SLOWED, SLOWED_SPREAD = 0.5, 0.35  # by so much, in logs: a halved capacity is 0.69


def log_prior(usual: float, doubt: float) -> Floats:
    """The log weights of `SPREADS` before anything was seen: a normal distribution of their logarithms."""
    return np.asarray(-0.5 * (np.log(SPREADS / usual) / doubt) ** 2)


@dataclass(frozen=True)
class LaunchFigure:
    """What one launch showed: the figure and the standard deviation of its measurement. `below`: it is a bound that the
    figure stayed under. `round`: in which round of the final it was; None: in none. `work`: the logarithm of the time
    that fixed work took meanwhile, and its standard error; nan where that is not known.
    """

    figure: float
    error: float
    below: bool = False
    round: int | None = None
    work: float = math.nan
    work_error: float = math.nan


@dataclass(frozen=True)
class Expectation:
    """What others' trials make one expect of a configuration's figure: mean and standard deviation."""

    mean: float
    spread: float


@dataclass(frozen=True)
class Contender:
    """A configuration by its trial's number, with all of its launches.

    `scale` is the logarithm of what its figure is worth at the same loss as others' (its price, for a cost).
    """

    number: int
    launches: tuple[LaunchFigure, ...]
    expected: Expectation | None = None
    scale: float = 0.0

    @property
    def measured(self) -> list[float]:
        """The figures of launches that were measured, and not only bounded."""
        return [one.figure for one in self.launches if not one.below]

    @property
    def exact(self) -> bool:
        """Whether its figure is taken as it is, as a table's is."""
        return all(one.error == 0 for one in self.launches)


def log_capacity_of(record: TrialRecord, capacity: Estimate) -> float:
    """The logarithm of the capacity. Where neighbours disturbed the launch that is the middle of its interval, whose
    upper end allows for what they took: what was measured is more likely too low than too high.
    """
    disturbed = record.machine is not None and bool(record.machine.disturbed)
    if disturbed and 0 < capacity.low < capacity.high:
        return math.log(capacity.low * capacity.high) / 2
    return math.log(capacity.value)
