"""Which process a running trial belongs to, and when it belongs to nobody any more.

A running trial says whose it is; it is taken up by another when its owner is seen to be dead, or when its heartbeats
(in a database that machines share) have stopped.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from runners import is_gone, this_owner, this_place
from tuner.study.storage.keys import RECORD

_OWNER, _PLACE = "tune:owner", "tune:place"
BEAT_S, SILENT_S = 5, 30
_UNSIGNED_S = 10.0  # a trial says whose it is at once


class Claims:
    """The trials that this process has under way, by number; `on_file` says that no other machine can see them."""

    def __init__(self, study: optuna.Study, *, on_file: bool) -> None:
        self._study, self._on_file = study, on_file
        self.trials: dict[int, optuna.Trial] = {}
        self._heart: Heart | None = None

    @staticmethod
    def signature() -> dict[str, str]:
        """A trial's attributes that say which process, on which machine, measures it."""
        return {_OWNER: this_owner(), _PLACE: this_place()}

    def sign(self, trial: optuna.Trial) -> None:
        """Write into a trial that it is measured here."""
        for key, value in self.signature().items():
            trial.set_user_attr(key, value)

    def of_others(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those of the trials that other processes have under way."""
        return [one for one in trials if one.state == TrialState.RUNNING and one.number not in self.trials]

    def hold(self, trial: optuna.Trial) -> None:
        """It is ours until it is told. Machines that share a database cannot see each other's processes: heartbeats
        tell that they live.
        """
        self.trials[trial.number] = trial
        if self._on_file:
            return
        if self._heart is None:
            self._heart = Heart(self._study, self.trials)
        self._heart.beat()

    def give_up(self) -> None:
        """What was asked and not told is left for the next process, or the next run."""
        for number in list(self.trials):
            self._reopen(self.trials.pop(number).number)

    def retake(self, *, resumed: bool = False) -> list[FrozenTrial]:
        """Close the trials whose owner has ended without a word, and let somebody have them. Where a run that lies on a
        file is `resumed`, a trial that ran on another machine, or in a container before, is nobody's any more.

        Returns all trials, as they are then.
        """
        trials = self._study.get_trials(deepcopy=False)
        running = self.of_others(trials)
        if running and not self._on_file:
            optuna.storages.fail_stale_trials(self._study)
            trials = self._study.get_trials(deepcopy=False)
        ended = []
        for trial in running:
            now = trials[trial.number]
            silent = now.state == TrialState.FAIL and RECORD not in now.user_attrs
            moved = resumed and self._on_file and now.user_attrs.get(_PLACE) != this_place()
            if silent or (now.state == TrialState.RUNNING and (moved or _is_left(now))):
                ended.append(now.number)
        for number in ended:
            self._reopen(number)
        return self._study.get_trials(deepcopy=False) if ended else trials

    def _reopen(self, number: int) -> None:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):
            self._study.tell(number, state=TrialState.FAIL)
        if configuration := configuration_of(self._study.trials[number]):
            self._study.enqueue_trial(configuration)

    def close(self) -> None:
        """The heartbeats end. May be called twice."""
        if self._heart is not None:
            self._heart.stop()


class Heart(threading.Thread):
    """Beats for the trials of this process while it lives; `asked` is looked at, never changed."""

    def __init__(self, study: optuna.Study, asked: Mapping[int, optuna.Trial]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._storage: Any = study._storage
        self._asked, self._done = asked, threading.Event()

    def beat(self) -> None:
        """Now, and from now on."""
        for trial in list(self._asked.values()):
            self._storage.record_heartbeat(trial._trial_id)
        if not self.is_alive():
            self.start()

    def run(self) -> None:
        """The loop of the thread: a sign of life every `BEAT_S` seconds, until `stop`."""
        while not self._done.wait(BEAT_S):
            with contextlib.suppress(Exception):  # the database may be away; the next beat comes soon
                self.beat()

    def stop(self) -> None:
        """End the signs of life: the trials may be taken up by another worker."""
        self._done.set()


def configuration_of(trial: FrozenTrial) -> dict[str, Any]:
    """The configuration of a trial that runs, or waits to run."""
    return dict(trial.params) or dict(trial.system_attrs.get("fixed_params", {}))


def _is_left(trial: FrozenTrial) -> bool:
    """Whether the owner of a running trial is surely dead, or never said who it is."""
    owner, place = trial.user_attrs.get(_OWNER), trial.user_attrs.get(_PLACE)
    if owner is not None and place is not None:
        return is_gone(owner, place)
    began = trial.datetime_start
    return began is not None and (datetime.datetime.now() - began).total_seconds() > _UNSIGNED_S
