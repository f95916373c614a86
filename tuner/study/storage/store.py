"""A study that is written: trials are asked for and told.

Trials keep Optuna's own states (COMPLETE, PRUNED, FAIL), so that Optuna's tools show the study as it is; our state and
reason are in the record. A trial without a record proved nothing: a crash interrupted it, or two asked for it at once.

Several processes, on several machines, may share a study. A trial's number is given by the database, one after the
other, so the lowest of several trials of one configuration is the one that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import optuna
from optuna.trial import FrozenTrial, TrialState

from results import TrialRecord
from runners import retry
from search_spaces import Configuration, ParameterValue
from tuner.search.objective import Objective
from tuner.spec.reading import LoadedSpec
from tuner.study.plan import StudyPlan
from tuner.study.storage.attributes import StudyAttributes, now
from tuner.study.storage.claims import Claims, configuration_of
from tuner.study.storage.connection import reaching_study
from tuner.study.storage.distributions import distributions, records_of
from tuner.study.storage.keys import ENDED, EVIDENCE, RECORD

_AWAY_S = 60.0  # how long a database may be away before a finished trial is given up
_OPTUNA_STATE = {
    "complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED,
    "infeasible": TrialState.FAIL, "failed": TrialState.FAIL,
}  # fmt: skip

# What was measured, what is being measured, and how many trials there are: the configuration to try next.
Propose: TypeAlias = Callable[[Sequence[TrialRecord], Sequence[Configuration], int], Configuration]


class StudyStore:
    """One study, open for asking and telling. `plan` is what it was begun with, `claims` what this process has under
    way, `attributes` what is kept of the study as a whole. Everything here raises UnfitEnvironmentError when the
    storage is lost.
    """

    def __init__(self, study: optuna.Study, plan: StudyPlan, loaded: LoadedSpec, url: str) -> None:
        self._study, self._url, self.plan = study, url, plan
        self._distributions = distributions(loaded.space)
        self._objective = Objective.of(loaded.spec.objective)
        self.claims = Claims(study, on_file=url.startswith("sqlite"))
        self.attributes = StudyAttributes(study, url)
        self._known: dict[int, TrialRecord] = {}

    def records(self) -> list[TrialRecord]:
        """Every finished trial, by number."""
        with reaching_study(self._url):
            return self._records(self._study.get_trials(deepcopy=False))

    def look(self) -> tuple[list[TrialRecord], int]:
        """Every finished trial, by number, and how many trials other processes have under way. Trials of dead processes
        are first given back to everybody.
        """
        with reaching_study(self._url):
            trials = self.claims.retake()
        return self._records(trials), len(self.claims.of_others(trials))

    def _records(self, trials: Sequence[FrozenTrial]) -> list[TrialRecord]:
        """Read once each, since a record never changes."""
        for trial in trials:
            if trial.number not in self._known and trial.state.is_finished():
                self._known.update((trial.number, record) for record in records_of([trial]))
        return [self._known[number] for number in sorted(self._known)]

    def enqueue(self, configuration: Configuration) -> None:
        """Have a configuration asked next, before the sampler's own choice, unless it was measured, or is to be."""
        with reaching_study(self._url):
            trials = [one for one in self._study.get_trials(deepcopy=False) if _counts(one)]
            if not any(configuration_of(one) == dict(configuration) for one in trials):
                self._study.enqueue_trial(dict(configuration))

    def ask(self, budget: int, propose: Propose) -> tuple[int, dict[str, ParameterValue]] | None:
        """A trial's number and configuration: one that waits, or else what `propose` names. None when others have taken
        the rest of the budget meanwhile.

        Raises what `propose` raises.
        """
        with reaching_study(self._url):
            while True:
                trials = self._study.get_trials(deepcopy=False)
                waiting = any(trial.state == TrialState.WAITING for trial in trials)
                if waiting:
                    trial = self._study.ask(self._distributions)
                    self.claims.sign(trial)
                else:
                    pending = [configuration_of(one) for one in trials if not one.state.is_finished()]
                    trial = self._begin(propose(self._records(trials), pending, len(trials)))
                known = self._study.get_trials(deepcopy=False)
                # Another process may have taken what waited: then Optuna has drawn this one, heeding no constraint.
                drawn = waiting and "fixed_params" not in known[trial.number].system_attrs
                counted = [one for one in known[: trial.number] if _counts(one)]
                repeated = any(configuration_of(one) == trial.params for one in counted)
                if not drawn and not repeated and len(counted) < budget:
                    break
                self._study.tell(trial, state=TrialState.FAIL)
                if not drawn and not repeated:
                    return None
            self.claims.hold(trial)
        return trial.number, dict(trial.params)

    def _begin(self, configuration: Configuration) -> optuna.Trial:
        """A trial of that configuration, signed, in one transaction; Optuna's own way to it takes eight."""
        begun = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=dict(configuration), distributions=self._distributions,
            user_attrs=self.claims.signature(),
        )  # fmt: skip
        return optuna.Trial(self._study, self._study._storage.create_new_trial(self._study._study_id, begun))

    def tell(self, record: TrialRecord) -> bool:
        """Store a finished trial: first its record, then its state, so that no state is without a record. False when
        another process has taken it up before the record was there, so that it does not count.
        """
        trial = self.claims.trials.pop(record.number)
        values = self._objective.values(record)
        state = _optuna_state(record, values)
        with reaching_study(self._url):
            try:
                if record.evidence is not None:
                    _retried(self._url, trial.set_user_attr, EVIDENCE, record.evidence.model_dump(mode="json"))
                _retried(self._url, trial.set_user_attr, RECORD, record.model_dump(mode="json"))
                # Before what changes the study's version, by which others see that there is something to read.
                _retried(self._url, self._study.set_user_attr, ENDED, now())
                _retried(self._url, self._study.tell, trial, values=values, state=state)
            except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
                return RECORD in self._study.get_trials(deepcopy=False)[record.number].user_attrs
        return True

    def withdraw(self, number: int) -> None:
        """A trial that was asked for, and is not begun after all: it proved nothing."""
        trial = self.claims.trials.pop(number)
        with reaching_study(self._url):
            self._study.tell(trial, state=TrialState.FAIL)

    def give_up(self) -> None:
        """What was asked and not told is left for the next process, or the next run."""
        with reaching_study(self._url):
            self.claims.give_up()

    def under_way(self, but: Collection[int]) -> list[Configuration]:
        """The configurations that all processes measure now, without those of the trials `but`."""
        with reaching_study(self._url):
            running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [configuration_of(one) for one in running if one.number not in but]

    def waiting(self) -> bool:
        """Whether there is a trial that somebody left, or that was asked for in advance."""
        with reaching_study(self._url):
            return bool(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def close(self) -> None:
        """The heartbeats end. May be called twice."""
        self.claims.close()


def _optuna_state(record: TrialRecord, values: tuple[float, ...] | None) -> TrialState:
    """Optuna calls nothing complete that lacks the metric by which the study ranks."""
    state = _OPTUNA_STATE[record.state]
    return TrialState.FAIL if values is None and state is TrialState.COMPLETE else state


def _counts(trial: FrozenTrial) -> bool:
    """Whether the trial measured its configuration, or is to: one that was withdrawn or lost did neither."""
    return not trial.state.is_finished() or RECORD in trial.user_attrs


def _retried(url: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Repeat the call for a while if the database is away: a finished trial is worth the wait."""
    from sqlalchemy.exc import OperationalError

    def away(error: BaseException) -> bool:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        return isinstance(cause, OperationalError) and not url.startswith("sqlite")

    retry(away, _AWAY_S, call, *args, **kwargs)
