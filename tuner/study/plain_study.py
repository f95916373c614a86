"""What the sampler has to heed in a study of the user's own, where trials are pruned, conditional, or run side by side.

There the only record of a configuration is what a trial has suggested so far: a trial that just began has suggested
nothing, and one that is over may never have asked for all parameters. None of these configurations is to come again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search_spaces import Configuration


class Proposed:
    """The configurations that this process has proposed, by their trials, until those have suggested them.

    Its lock lets one trial at a time choose, so that none chooses what another is about to.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._by_trial: dict[tuple[str, int], dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process has proposed nothing."""
        return {}

    def __setstate__(self, _: Mapping[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def remember(self, study: optuna.Study, number: int, configuration: Configuration) -> None:
        """For the trial of that number."""
        self._by_trial[study.study_name, number] = dict(configuration)

    def spent(self, study: optuna.Study, trials: Sequence[FrozenTrial], names: Sequence[str]) -> list[dict[str, Any]]:
        """The configurations that are under way or over. A partial one stands for all configurations that contain
        it.
        """
        found = []
        for trial in trials:
            key = (study.study_name, trial.number)
            suggested = {name: trial.params[name] for name in names if name in trial.params}
            if trial.state.is_finished():
                self._by_trial.pop(key, None)
                whole = suggested
            else:
                whole = {**self._by_trial.get(key, {}), **suggested}
            if whole and trial.state != TrialState.WAITING:
                found.append(whole)
        return found


def own_part(trial: FrozenTrial, names: Sequence[str]) -> dict[str, Any] | None:
    """A trial's configuration without parameters that are not of the space; None if it lacks one of the space's."""
    if any(name not in trial.params for name in names):
        return None
    return {name: trial.params[name] for name in names}


def stop_after_this(study: optuna.Study) -> None:
    """Nothing is left to try, so make `optimize` end after the running trials. Whoever asks again gets an error."""
    try:
        study.stop()
    except RuntimeError:  # nobody optimises: somebody asks and tells
        return
