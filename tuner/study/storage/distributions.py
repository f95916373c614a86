"""A space as Optuna knows it, and the records that its trials hold."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

from results import TrialRecord
from results.stored import stored
from search_spaces import SearchSpace
from tuner.study.storage.keys import RECORD


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space as Optuna stores and shows it, with the values as the spec writes them."""
    found: dict[str, BaseDistribution] = {}
    for parameter in space.parameters:
        choices = parameter.choices
        if isinstance(choices, range):
            found[parameter.name] = IntDistribution(choices[0], choices[-1], step=choices.step)
        else:
            found[parameter.name] = CategoricalDistribution(tuple(choices))
    return found


def records_of(trials: Sequence[FrozenTrial]) -> list[TrialRecord]:
    """The finished trials' records; a trial that a crash interrupted has none."""
    return [stored(TrialRecord, trial.user_attrs[RECORD]) for trial in trials if RECORD in trial.user_attrs]
