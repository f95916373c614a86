"""Where a study lives: Optuna's storage, with every finished trial's record beside its parameters.

Trials keep Optuna's own states (COMPLETE, PRUNED, FAIL), so that Optuna's tools show the study as it is; our state and
reason are in the record. A trial that a crash interrupted has no record: it is closed on resume and asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from results import TrialRecord
from search_spaces import Configuration, ParameterValue
from tuner.errors import UnfitEnvironmentError, UsageError
from tuner.objective import Objective
from tuner.prices import price_per_hour
from tuner.sampler import RECORD, SPEC, SpaceExhausted, SpaceSampler, distributions, records_of
from tuner.spec_file import LoadedSpec, check_content
from tuner.yaml_file import YamlFile

if TYPE_CHECKING:
    from tuner.surrogate.mixture import Judgement

_PROVENANCE = "tune:provenance"
_CONFIRMATION = "tune:confirmation:"
_EXPLANATION = "tune:explanation"
_STOPPED = "tune:stopped"
_OPTUNA_STATE = {
    "complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED,
    "infeasible": TrialState.FAIL, "failed": TrialState.FAIL,
}  # fmt: skip


def sqlite_url(folder: Path) -> str:
    """The default storage of a study: a file in its output folder."""
    return f"sqlite:///{(folder / 'study.db').resolve()}"


class StudyStore:
    """One study, open for asking and telling."""

    def __init__(self, study: optuna.Study, loaded: LoadedSpec, url: str, sampler: SpaceSampler | None = None) -> None:
        self._study, self._url, self._sampler = study, url, sampler
        self._distributions = distributions(loaded.space)
        self._objective = Objective.of(loaded.spec.objective)
        self._asked: dict[int, optuna.Trial] = {}

    @classmethod
    def open(
        cls, url: str, loaded: LoadedSpec, *, refuses: Callable[[Configuration], bool], seed: int, resume: bool,
        provenance: Mapping[str, str], price: Callable[[Configuration], float | None] | None = None,
        earlier: Sequence[TrialRecord] = (),
    ) -> StudyStore:  # fmt: skip
        """Create the study, or go on with it. `price` is per hour, where it is not the spec's; `earlier` are records of
        other studies to learn from.

        Raises UsageError when it exists and `resume` is not said, or when the spec has changed since;
        UnfitEnvironmentError when the storage cannot be reached.
        """
        objective = Objective.of(loaded.spec.objective)
        sampler = SpaceSampler(
            loaded.space,
            objective,
            seed=seed,
            refuses=refuses,
            price=price or partial(_price, loaded),
            limit_ms=loaded.p99_limit_ms,
            earlier=earlier,
        )
        name = loaded.spec.service.name
        with _reaching(url):
            try:
                study = optuna.create_study(
                    storage=url,
                    study_name=name,
                    sampler=sampler,
                    directions=["maximize" if up else "minimize" for up in objective.maximised],
                    load_if_exists=resume,
                )
            except optuna.exceptions.DuplicatedStudyError as error:
                raise UsageError(
                    f"the storage already holds a study named {name}: --resume goes on with it\n"
                    "To start another, give it another name (service.name) or another --storage."
                ) from error
            store = cls(study, loaded, url, sampler)
            store._adopt(loaded, provenance)
        return store

    @classmethod
    def read(cls, url: str, name: str | None = None) -> tuple[StudyStore, LoadedSpec]:
        """A stored study and its spec as it was; `name` may be left out where the storage holds just one.

        Raises UsageError when there is no such study, UnfitEnvironmentError when the storage cannot be reached.
        """
        with _reaching(url):
            names = optuna.get_all_study_names(url)
            if name is None and len(names) != 1:
                raise UsageError(f"the storage holds {len(names)} studies, so which? {', '.join(names)}".rstrip("? "))
            if name is not None and name not in names:
                raise UsageError(f"the storage holds no study named {name}; there are {', '.join(names) or 'none'}")
            study = optuna.load_study(storage=url, study_name=name or names[0])
            content = study.user_attrs.get(SPEC)
        if content is None:
            raise UsageError(f"the study {study.study_name} was not made by tune: it holds no spec")
        loaded = check_content(YamlFile(Path("spec of the stored study")), content)
        return cls(study, loaded, url), loaded

    def _adopt(self, loaded: LoadedSpec, provenance: Mapping[str, str]) -> None:
        """Remember the spec, or compare it with the one that the study began with; close what a crash left open."""
        known = self._study.user_attrs.get(SPEC)
        if known is None:
            self._study.set_user_attr(SPEC, loaded.content)
            self._study.set_user_attr(_PROVENANCE, dict(provenance))
        elif changed := _changed_sections(known, loaded):
            raise UsageError(
                f"the spec has changed since this study began: {', '.join(changed)}\n"
                "Numbers from before and after cannot be compared: undo the change, or start anew without --resume."
            )
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)

    @property
    def provenance(self) -> dict[str, str]:
        """Where, when and with what the study was begun."""
        return dict(self._study.user_attrs.get(_PROVENANCE, {}))

    def records(self) -> list[TrialRecord]:
        """Every finished trial, by number. This and all below raise UnfitEnvironmentError when the storage is lost."""
        with _reaching(self._url):
            return records_of(self._study.get_trials(deepcopy=False))

    def enqueue(self, configuration: Configuration) -> None:
        """Have a configuration asked next, before the sampler's own choice; at most once."""
        with _reaching(self._url):
            self._study.enqueue_trial(dict(configuration), skip_if_exists=True)

    def ask(self) -> tuple[int, dict[str, ParameterValue]]:
        """A trial's number and configuration. Raises SpaceExhausted when every configuration was asked."""
        with _reaching(self._url):
            try:
                trial = self._study.ask(self._distributions)
            except SpaceExhausted:
                for open_trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                    if open_trial.number not in self._asked:
                        self._study.tell(open_trial.number, state=TrialState.FAIL)
                raise
        self._asked[trial.number] = trial
        return trial.number, dict(trial.params)

    def tell(self, record: TrialRecord) -> None:
        """Store a finished trial: first its record, then its state, so that no state is without a record."""
        trial = self._asked.pop(record.number)
        values, state = self._objective.values(record), _OPTUNA_STATE[record.state]
        if values is None and state is TrialState.COMPLETE:
            state = TrialState.FAIL  # complete, but without the metric that the study ranks by
        with _reaching(self._url):
            trial.set_user_attr(RECORD, record.model_dump(mode="json"))
            self._study.tell(trial, values=values if state is TrialState.COMPLETE else None, state=state)

    def expected_improvement(self, records: Sequence[TrialRecord]) -> float | None:
        """Of the best that is left to try, as a share of the best so far; None before there is a best.

        Raises SpaceExhausted when every configuration was asked.
        """
        assert self._sampler is not None  # noqa: S101 (a study that was opened, not read)
        return self._sampler.propose(records, [], len(records)).expected_improvement

    def judge(self, records: Sequence[TrialRecord]) -> list[Judgement]:
        """What was predicted of each trial, before it."""
        assert self._sampler is not None  # noqa: S101 (as above)
        return self._sampler.judge(records)

    def explain(self, records: Sequence[TrialRecord]) -> None:
        """Store what was learned about the parameters."""
        assert self._sampler is not None  # noqa: S101 (as above)
        explanation = self._sampler.explain(records)
        if explanation is not None:
            with _reaching(self._url):
                self._study.set_user_attr(_EXPLANATION, explanation.model_dump(mode="json"))

    @property
    def explanation(self) -> dict[str, Any] | None:
        """As `explain` stored it: see tuner/surrogate/explain.py."""
        return self._remembered().get(_EXPLANATION)

    def stop(self, reason: str) -> None:
        """Remember why the search ended before its budget."""
        with _reaching(self._url):
            self._study.set_user_attr(_STOPPED, reason)

    @property
    def stopped(self) -> str | None:
        """The reason that `stop` stored."""
        return self._remembered().get(_STOPPED)

    def confirmations(self) -> dict[int, TrialRecord]:
        """What the second measurement of a trial's configuration gave, by the trial's number."""
        return {
            int(key.removeprefix(_CONFIRMATION)): TrialRecord.model_validate(value)
            for key, value in self._remembered().items()
            if key.startswith(_CONFIRMATION)
        }

    def confirm(self, number: int, record: TrialRecord) -> None:
        """Store the second measurement of trial `number`."""
        with _reaching(self._url):
            self._study.set_user_attr(f"{_CONFIRMATION}{number}", record.model_dump(mode="json"))

    def _remembered(self) -> dict[str, Any]:
        with _reaching(self._url):
            return self._study.user_attrs


def _price(loaded: LoadedSpec, configuration: Configuration) -> float | None:
    return price_per_hour(loaded.space, configuration, loaded.spec.prices)


def _changed_sections(known: dict[str, Any], loaded: LoadedSpec) -> list[str]:
    """Top-level keys that mean something else than when the study began. Where it runs, and what it is compared with,
    may change.
    """
    before = check_content(YamlFile(Path("spec of the stored study")), known).spec
    pairs = [(key, getattr(before, key), getattr(loaded.spec, key)) for key in type(before).model_fields]
    return [key for key, old, new in pairs if old != new and key not in ("current", "runner")]


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Map what a database says to our error. Its own message may repeat the URL's password, so its kind is shown."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
        try:
            shown = make_url(url).render_as_string(hide_password=True)
        except ArgumentError:
            shown = "that --storage names (such as sqlite:///study.db)"
        cause = error.__cause__ or error
        cause = getattr(cause, "orig", None) or cause
        if url.startswith("sqlite"):
            raise UnfitEnvironmentError(
                f"cannot use the storage {shown}: {cause}\n"
                "What was stored before is kept; make room or mend it, then --resume goes on."
            ) from error
        raise UnfitEnvironmentError(
            f"cannot use the storage {shown}: {type(cause).__name__}\n"
            "Check that the database runs, that its driver is installed, and that the URL is right."
        ) from error
