"""How long a run may take, and what its machines cost in that time: an upper bound, shown before the run begins."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from runners import ReplayRunner, Runner
from search_spaces import Configuration, ParameterValue
from tuner.launch.price import price_of
from tuner.spec.model import FINAL_OVERTIME, final_launches
from tuner.spec.reading import LoadedSpec


@dataclass(frozen=True)
class RunEstimate:
    """`seconds` of warm-up and load at most (the servers' own start is not known before), and `cost` of that time at
    the mean price of the space's configurations; None where they have no price.
    """

    seconds: float
    cost: float | None


def estimate_run(
    loaded: LoadedSpec, trials: int, among: Sequence[Configuration] | None = None, *, earlier_trials: int = 0,
    earlier_launches: int = 0,
) -> RunEstimate | None:  # fmt: skip
    """Estimate a run; None for a replay, which takes no load. `among` is a sample of what can run; without it, the
    space is sampled. The final is that of all trials, earlier runs' included, less the launches that it had then.
    """
    if not loaded.spec.runner.launches:
        return None
    confirmations = final_launches(loaded.spec.objective.final, earlier_trials + trials)
    confirmations = max(0, confirmations + FINAL_OVERTIME - earlier_launches) if confirmations else 0
    seconds = loaded.max_load_s(confirmation=False) * trials + loaded.max_load_s(confirmation=True) * confirmations
    sample = loaded.space.sample(1000, seed=0) if among is None else among
    prices = [price for found in sample if (price := price_of(loaded, found))]
    return RunEstimate(seconds, statistics.fmean(prices) * seconds / 3600 if prices else None)


def longest_load_s(loaded: LoadedSpec, runner: Runner, *, confirmation: bool) -> float:
    """The most that one trial loads its servers; in a replay, as long as the longest of its table did."""
    if isinstance(runner, ReplayRunner):
        return _longest_of_table(runner, tuple(one.choices for one in loaded.space.parameters))
    return loaded.max_load_s(confirmation=confirmation)


@lru_cache(maxsize=4)  # asked before every trial, and the same for all
def _longest_of_table(table: ReplayRunner, choices: tuple[Sequence[ParameterValue], ...]) -> float:
    return table.longest_trial_s(choices)
