"""Where a study lives: Optuna's storage, with every finished trial's record beside its parameters.

Trials keep Optuna's own states (COMPLETE, PRUNED, FAIL), so that Optuna's tools show the study as it is; our state and
reason are in the record. A trial without a record proved nothing: a crash interrupted it, or two asked for it at once.

Several processes, on several machines, may share a study. A trial's number is given by the database, one after the
other, so the lowest of several trials of one configuration is the one that counts. A running trial says whose it is; it
is taken up by another when its owner is seen to be dead, or when its heartbeats (in a database that machines share)
have stopped.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from results import TrialRecord
from runners import is_gone, retry, this_owner, this_place
from search_spaces import Configuration, ParameterValue
from search_spaces.reading import quoted
from tuner.errors import UsageError
from tuner.search.objective import Objective
from tuner.spec.reading import LoadedSpec, check_content
from tuner.spec.yaml_file import YamlFile
from tuner.study.archive import Archive, confirmation_key
from tuner.study.damage import damaged, known_confirmations, known_plan, misfits
from tuner.study.keys import CONFIRMATION, CONFIRMATION_EVIDENCE, EVIDENCE, EXPLANATION, OUTLOOK, PLAN, RECORD, STOPPED
from tuner.study.optuna_sampler import Proposal, SpaceExhausted, SpaceSampler, distributions, records_of
from tuner.study.outlook import Outlook
from tuner.study.plan import StudyPlan
from tuner.study.storage import reaching, unreachable, with_driver

if TYPE_CHECKING:
    from tuner.search.surrogate.mixture import Judgement

_OWNER, _PLACE = "tune:owner", "tune:place"
_BEAT_S, _SILENT_S = 5, 30
_UNSIGNED_S = 10.0  # a trial says whose it is at once
_PLAN_S = 10.0  # how long after a study its plan may come
_AWAY_S = 60.0  # how long a database may be away before a finished trial is given up
_OPTUNA_STATE = {
    "complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED,
    "infeasible": TrialState.FAIL, "failed": TrialState.FAIL,
}  # fmt: skip


class NoSuchStudyError(UsageError):
    """The storage holds no study of that name."""


@dataclass(frozen=True)
class Knows:
    """What this process knows of configurations before they are launched: whether the runner refuses one, and its price
    per hour (None: unknown).
    """

    refuses: Callable[[Configuration], bool]
    price: Callable[[Configuration], float | None]


class StudyStore:
    """One study, open for asking and telling. `plan` is what it was begun with."""

    def __init__(self, study: optuna.Study, plan: StudyPlan, loaded: LoadedSpec, url: str, knows: Knows) -> None:
        self._study, self._url, self.plan = study, url, plan
        self._sampler = SpaceSampler(
            loaded.space,
            Objective.of(loaded.spec.objective),
            seed=plan.seed,
            refuses=knows.refuses,
            price=knows.price,
            limit_ms=loaded.p99_limit_ms,
            earlier=plan.warm_start,
        )
        self._distributions = distributions(loaded.space)
        self._objective = Objective.of(loaded.spec.objective)
        self._asked: dict[int, optuna.Trial] = {}
        self._known: dict[int, TrialRecord] = {}
        self._heart: Heart | None = None

    @classmethod
    def create(cls, url: str, loaded: LoadedSpec, plan: StudyPlan, knows: Knows) -> StudyStore:
        """A new study with its plan.

        Raises UsageError when it exists, UnfitEnvironmentError when the storage cannot be reached.
        """
        name = loaded.spec.service.name
        with _reaching(url):
            try:
                study = _create(url, loaded, plan)
            except optuna.exceptions.DuplicatedStudyError as error:
                raise UsageError(
                    f"the storage already holds a study named {name}: --resume goes on with it\n"
                    "To start another, give it another name (service.name) or another --storage."
                ) from error
        return cls(study, plan, loaded, url, knows)

    @classmethod
    def resume(cls, url: str, loaded: LoadedSpec, change: Callable[[StudyPlan], StudyPlan], knows: Knows) -> StudyStore:
        """Go on with a study by the plan that it was begun with, as `change` has it now. What a crash left open is
        closed: on a file that no other process works on, whatever ran elsewhere before is nobody's any more.

        Raises NoSuchStudyError, UsageError when the spec has changed since, and what `change` raises;
        UnfitEnvironmentError when the storage cannot be reached.
        """
        store = cls._open(url, loaded, knows)
        plan = change(store.plan)
        with _reaching(url):
            if plan != store.plan:
                store._study.set_user_attr(PLAN, plan.stored())
                store = cls(store._study, plan, loaded, url, knows)
            store._retake(ours=True)
        return store

    @classmethod
    def join(cls, url: str, loaded: LoadedSpec, knows: Knows) -> StudyStore:
        """Help with a study that another process has begun, and may still work on. Raises as `resume`."""
        store = cls._open(url, loaded, knows)
        with _reaching(url):
            store._retake()
        return store

    @classmethod
    def _open(cls, url: str, loaded: LoadedSpec, knows: Knows) -> StudyStore:
        name = loaded.spec.service.name
        with _reaching(url), _readable(name):
            try:
                study = optuna.load_study(study_name=name, storage=_storage(url), sampler=_never_asked(0))
            except KeyError as error:
                raise NoSuchStudyError(f"the storage holds no study named {name}") from error
            study.get_trials(deepcopy=False)
            plan = _planned(study)
        if problems := _damage(url, name, loaded):
            raise damaged(name, "; ".join(problems[:2]))
        if changed := _changed_sections(dict(plan.content), loaded):
            raise UsageError(
                f"the spec has changed since this study began: {', '.join(changed)}\n"
                "Numbers from before and after cannot be compared: undo the change, or start anew without --resume."
            )
        return cls(study, plan, loaded, url, knows)

    def records(self) -> list[TrialRecord]:
        """Every finished trial, by number. This and all below raise UnfitEnvironmentError when the storage is lost."""
        with _reaching(self._url):
            return self._records(self._study.get_trials(deepcopy=False))

    def _records(self, trials: Sequence[FrozenTrial]) -> list[TrialRecord]:
        """Read once each, since a record never changes."""
        new = [trial for trial in trials if trial.number not in self._known and trial.state.is_finished()]
        for trial, record in zip((one for one in new if RECORD in one.user_attrs), records_of(new), strict=True):
            self._known[trial.number] = record
        return [self._known[number] for number in sorted(self._known)]

    def enqueue(self, configuration: Configuration) -> None:
        """Have a configuration asked next, before the sampler's own choice; at most once."""
        with _reaching(self._url):
            self._study.enqueue_trial(dict(configuration), skip_if_exists=True)

    def ask(self, budget: int) -> tuple[int, dict[str, ParameterValue]] | None:
        """A trial's number and configuration; None when others have taken the rest of the budget meanwhile.

        Raises SpaceExhausted when every configuration was asked.
        """
        with _reaching(self._url):
            while True:
                trials = self._study.get_trials(deepcopy=False)
                if not any(trial.state == TrialState.WAITING for trial in trials):
                    self._study.enqueue_trial(self._proposal(trials).configuration)
                trial = self._study.ask(self._distributions)
                trial.set_user_attr(_OWNER, this_owner())
                trial.set_user_attr(_PLACE, this_place())
                earlier = [one for one in self._study.get_trials(deepcopy=False) if one.number < trial.number]
                counted = [one for one in earlier if not one.state.is_finished() or RECORD in one.user_attrs]
                again = any(_configuration(one) == trial.params for one in counted)
                if not again and len(counted) < budget:
                    break
                self._study.tell(trial, state=TrialState.FAIL)
                if not again:
                    return None
        self._asked[trial.number] = trial
        self._beat()
        return trial.number, dict(trial.params)

    def tell(self, record: TrialRecord) -> bool:
        """Store a finished trial: first its record, then its state, so that no state is without a record. False when
        another process has taken it up meanwhile, so that this record does not count.
        """
        trial = self._asked.pop(record.number)
        values, state = self._objective.values(record), _OPTUNA_STATE[record.state]
        if values is None and state is TrialState.COMPLETE:
            state = TrialState.FAIL  # complete, but without the metric that the study ranks by
        with _reaching(self._url):
            try:
                if record.evidence is not None:
                    self._retry(trial.set_user_attr, EVIDENCE, record.evidence.model_dump(mode="json"))
                self._retry(trial.set_user_attr, RECORD, record.model_dump(mode="json"))
                told = values if state is TrialState.COMPLETE else None
                self._retry(self._study.tell, trial, values=told, state=state)
            except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
                return False
        return True

    def withdraw(self, number: int) -> None:
        """A trial that was asked for, and is not begun after all: it proved nothing."""
        trial = self._asked.pop(number)
        with _reaching(self._url):
            self._study.tell(trial, state=TrialState.FAIL)

    def give_up(self) -> None:
        """What was asked and not told is left for the next process, or the next run."""
        with _reaching(self._url):
            for number in list(self._asked):
                self._reopen(self._asked.pop(number).number)

    def others(self) -> int:
        """How many trials other processes have under way, after those of the dead were opened to everybody."""
        with _reaching(self._url):
            self._retake()
            running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return sum(trial.number not in self._asked for trial in running)

    def waiting(self) -> bool:
        """Whether there is a trial that somebody left, or that was asked for in advance."""
        with _reaching(self._url):
            return bool(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def close(self) -> None:
        """The heartbeats end. May be called twice."""
        if self._heart is not None:
            self._heart.stop()

    def _proposal(self, trials: Sequence[FrozenTrial]) -> Proposal:
        pending = [_configuration(trial) for trial in trials if not trial.state.is_finished()]
        return self._sampler.propose(self._records(trials), pending, len(trials))

    def _retake(self, *, ours: bool = False) -> None:
        """Close the trials whose owner has ended without a word, and let somebody have them. A file is `ours` when a
        run goes on with it: a trial that ran on another machine, or in a container before, is nobody's any more.
        """
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not running:
            return
        if not self._url.startswith("sqlite"):
            optuna.storages.fail_stale_trials(self._study)
        states = {trial.number: trial for trial in self._study.get_trials(deepcopy=False)}
        for trial in running:
            now = states[trial.number]
            silent = now.state == TrialState.FAIL and RECORD not in now.user_attrs
            moved = ours and self._url.startswith("sqlite") and now.user_attrs.get(_PLACE) != this_place()
            left = now.state == TrialState.RUNNING and (moved or _is_left(now))
            if now.number not in self._asked and (silent or left):
                self._reopen(now.number)

    def _reopen(self, number: int) -> None:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):
            self._study.tell(number, state=TrialState.FAIL)
        if configuration := _configuration(self._study.trials[number]):
            self._study.enqueue_trial(configuration)

    def _beat(self) -> None:
        """Machines that share a database cannot see each other's processes: heartbeats tell that they live."""
        if self._url.startswith("sqlite"):
            return
        if self._heart is None:
            self._heart = Heart(self._study, self._asked)
        self._heart.beat()

    def _retry(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """A finished trial is worth waiting for a database that is away."""
        from sqlalchemy.exc import OperationalError

        def away(error: BaseException) -> bool:
            cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
            return isinstance(cause, OperationalError) and not self._url.startswith("sqlite")

        retry(away, _AWAY_S, call, *args, **kwargs)

    def expected_improvement(self, records: Sequence[TrialRecord]) -> float | None:
        """Of the best that is left to try, as a share of the best so far; None before there is a best.

        Raises SpaceExhausted when every configuration was asked.
        """
        return self._sampler.propose(records, [], len(records)).expected_improvement

    def judge(self, records: Sequence[TrialRecord]) -> list[Judgement]:
        """What was predicted of each trial, before it."""
        return self._sampler.judge(records)

    def explain(self, records: Sequence[TrialRecord]) -> None:
        """Store what was learned about the parameters."""
        explanation = self._sampler.explain(records)
        if explanation is not None:
            with _reaching(self._url):
                self._study.set_user_attr(EXPLANATION, explanation.model_dump(mode="json"))

    def stop(self, reason: str | None) -> None:
        """Remember why the search ended before its budget; None: it goes on."""
        with _reaching(self._url):
            self._study.set_user_attr(STOPPED, reason)

    @property
    def stopped(self) -> str | None:
        """The reason that `stop` stored."""
        return self._remembered().get(STOPPED)

    def look_ahead(self, records: Sequence[TrialRecord]) -> Outlook:
        """What is expected of each trial by the others, and of what was not tried; stored for those who read it."""
        try:
            improvement = self.expected_improvement(records)
        except SpaceExhausted:
            improvement = 0.0
        outlook = Outlook(self._sampler.expected(records), improvement)
        with _reaching(self._url):
            self._study.set_user_attr(OUTLOOK, outlook.stored())
        return outlook

    def confirmations(self) -> dict[int, tuple[TrialRecord, ...]]:
        """What further launches of a trial's configuration gave, in their order, by the trial's number."""
        return known_confirmations(self._remembered(), [])

    def confirm(self, number: int, record: TrialRecord) -> None:
        """Store a further launch of the configuration of trial `number`."""
        place = len(self.confirmations().get(number, ())) + 1
        with _reaching(self._url):
            if record.evidence is not None:
                key = confirmation_key(CONFIRMATION_EVIDENCE, number, place)
                self._study.set_user_attr(key, record.evidence.model_dump(mode="json"))
            self._study.set_user_attr(confirmation_key(CONFIRMATION, number, place), record.model_dump(mode="json"))

    def _remembered(self) -> dict[str, Any]:
        with _reaching(self._url):
            return self._study.user_attrs


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
        """The thread's own loop."""
        while not self._done.wait(_BEAT_S):
            with contextlib.suppress(Exception):  # the database may be away; the next beat comes soon
                self.beat()

    def stop(self) -> None:
        """Beat no more."""
        self._done.set()


def _create(url: str, loaded: LoadedSpec, plan: StudyPlan) -> optuna.Study:
    objective = Objective.of(loaded.spec.objective)
    study = optuna.create_study(
        storage=_storage(url),
        study_name=loaded.spec.service.name,
        sampler=_never_asked(plan.seed),
        directions=["maximize" if up else "minimize" for up in objective.maximised],
    )
    study.set_user_attr(PLAN, plan.stored())
    return study


def _never_asked(seed: int) -> optuna.samplers.BaseSampler:
    """Every trial is enqueued, so Optuna's own choice is never made."""
    return optuna.samplers.RandomSampler(seed=seed)


def _damage(url: str, name: str, loaded: LoadedSpec) -> list[str]:
    """What of the study cannot be read, or is not of this spec."""
    found = Archive(url, name).snapshot()
    trials, again = misfits(loaded, found.records, found.confirmations)
    return [*found.damaged, *trials.values(), *again.values()]


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """What Optuna's own reading raises of a storage that is damaged, or of another version."""
    try:
        yield
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        if isinstance(error, optuna.exceptions.OptunaError):
            raise
        raise damaged(name, f"Optuna cannot read it ({type(error).__name__}: {quoted(str(error), 120)})") from error


def _planned(study: optuna.Study) -> StudyPlan:
    """A study is there a moment before its plan. Raises UsageError where none comes."""
    end = time.monotonic() + _PLAN_S
    while (plan := known_plan(study.user_attrs)) is None:
        if time.monotonic() > end:
            raise UsageError(f"the study {study.study_name} was not made by tune: it holds no plan")
        time.sleep(0.2)
    return plan


def _storage(url: str) -> optuna.storages.RDBStorage:
    """With heartbeats where machines share it, and connections that are tried before they are used."""
    if url.startswith("sqlite"):
        return optuna.storages.RDBStorage(url)
    return optuna.storages.RDBStorage(
        with_driver(url), engine_kwargs={"pool_pre_ping": True}, heartbeat_interval=_BEAT_S, grace_period=_SILENT_S
    )


def _configuration(trial: FrozenTrial) -> dict[str, Any]:
    """Of a trial that runs, or waits to."""
    return dict(trial.params) or dict(trial.system_attrs.get("fixed_params", {}))


def _is_left(trial: FrozenTrial) -> bool:
    """Whether the owner of a running trial is surely dead, or never said who it is."""
    owner, place = trial.user_attrs.get(_OWNER), trial.user_attrs.get(_PLACE)
    if owner is not None and place is not None:
        return is_gone(owner, place)
    began = trial.datetime_start
    return began is not None and (datetime.datetime.now() - began).total_seconds() > _UNSIGNED_S


def _changed_sections(known: dict[str, Any], loaded: LoadedSpec) -> list[str]:
    """Top-level keys that mean something else than when the study began. Where it runs, and what it is compared with,
    may change.
    """
    before = check_content(YamlFile(Path("spec of the stored study")), known).spec
    # So may how sure the decision must be: it is made anew whenever it is looked at.
    after = loaded.spec.model_copy(
        update={
            "objective": loaded.spec.objective.model_copy(
                update={"confidence": before.objective.confidence, "final": before.objective.final}
            )
        }
    )
    pairs = [(key, getattr(before, key), getattr(after, key)) for key in type(before).model_fields]
    return [key for key, old, new in pairs if old != new and key not in ("current", "runner")]


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Map what Optuna says of a database to our error."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Heartbeats are marked as experimental, and as made for another loop than ours.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message="Heartbeat of storage")
    try:
        with reaching(url):
            yield
    except optuna.exceptions.StorageInternalError as error:
        raise unreachable(url, error) from error
