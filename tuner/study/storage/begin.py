"""How a process gets a study: it creates one, resumes one, or joins one that another process has begun.

The study's plan is written in the call that creates it, and read by every process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna

from search_spaces.reading import quoted
from tuner.errors import UsageError
from tuner.launch.runner import table_digest
from tuner.search.objective import Objective
from tuner.spec.reading import LoadedSpec, check_content
from tuner.spec.yaml_file import YamlFile
from tuner.study.plan import StudyPlan
from tuner.study.storage.archive import Archive
from tuner.study.storage.claims import BEAT_S, SILENT_S
from tuner.study.storage.connection import reaching_study, with_driver
from tuner.study.storage.damage import damaged, known_plan, misfits
from tuner.study.storage.keys import PLAN
from tuner.study.storage.store import StudyStore

_PLAN_S = 10.0  # how long after a study its plan may come


class NoSuchStudyError(UsageError):
    """The storage holds no study of that name."""


def create_study(url: str, loaded: LoadedSpec, plan: StudyPlan) -> StudyStore:
    """A new study with its plan.

    Raises UsageError when it exists, UnfitEnvironmentError when the storage cannot be reached.
    """
    name = loaded.spec.service.name
    with reaching_study(url):
        try:
            study = _create(url, loaded, plan)
        except optuna.exceptions.DuplicatedStudyError as error:
            raise UsageError(
                f"the storage already holds a study named {name}: `resume` goes on with it\n"
                "To start another, give it another name (service.name) or another `storage`."
            ) from error
    return StudyStore(study, plan, loaded, url)


def resume_study(url: str, loaded: LoadedSpec, change: Callable[[StudyPlan], StudyPlan]) -> StudyStore:
    """Go on with a study by the plan that it was begun with, after `change` has updated it. Trials that a crash left
    open are closed. In a file that no other process works on, those that ran on another machine are closed too.

    Raises NoSuchStudyError, UsageError when the spec has changed since, and what `change` raises;
    UnfitEnvironmentError when the storage cannot be reached.
    """
    study, known = _open(url, loaded)
    plan = change(known)
    store = StudyStore(study, plan, loaded, url)
    with reaching_study(url):
        if plan != known:
            study.set_user_attr(PLAN, plan.stored())
        store.claims.retake(resumed=True)
    return store


def join_study(url: str, loaded: LoadedSpec) -> StudyStore:
    """Help with a study that another process has begun, and may still work on. Raises as `resume_study`."""
    store = StudyStore(*_open(url, loaded), loaded, url)
    with reaching_study(url):
        store.claims.retake()
    return store


def _open(url: str, loaded: LoadedSpec) -> tuple[optuna.Study, StudyPlan]:
    name = loaded.spec.service.name
    with reaching_study(url), _readable(name):
        try:
            study = optuna.load_study(study_name=name, storage=_storage(url), sampler=_never_asked(0))
        except KeyError as error:
            raise NoSuchStudyError(f"the storage holds no study named {name}") from error
        study.get_trials(deepcopy=False)
        plan = _planned(study)
    if problems := _damage(url, name, loaded):
        raise damaged(name, "; ".join(problems[:2]))
    if changed := _changed(plan, loaded):
        raise UsageError(
            f"{changed}\n"
            "Numbers from before and after cannot be compared: undo the change, or start anew without `resume`."
        )
    return study, plan


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
    trials, of_confirmations = misfits(loaded, found.records, found.confirmations)
    return [*found.damaged, *trials.values(), *of_confirmations.values()]


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
    """The study's plan, waited for: a study exists a moment before its plan does. Raises UsageError if none comes."""
    end = time.monotonic() + _PLAN_S
    while (plan := known_plan(study.user_attrs)) is None:
        if time.monotonic() > end:
            raise UsageError(f"the study {study.study_name} was not made by tune: it holds no plan")
        time.sleep(0.2)
    return plan


def _storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage, with heartbeats if machines share it, and connections that are tested before they are used."""
    if url.startswith("sqlite"):
        from sqlalchemy import make_url

        # The tables of a file that is yet to be made are of our version; to look takes as long as to make them.
        new = not Path(make_url(url).database or "").exists()
        return optuna.storages.RDBStorage(url, skip_compatibility_check=new)
    return optuna.storages.RDBStorage(
        with_driver(url), engine_kwargs={"pool_pre_ping": True}, heartbeat_interval=BEAT_S, grace_period=SILENT_S
    )


def _changed(plan: StudyPlan, loaded: LoadedSpec) -> str | None:
    """What is not as it was when the study began, where that matters; a study of an earlier version knows no table."""
    if sections := _changed_sections(dict(plan.content), loaded):
        return f"the spec has changed since this study began: {', '.join(sections)}"
    table, before = table_digest(loaded), plan.provenance.get("table")
    if None not in (table, before) and table != before:
        return (
            f"runner.table: {loaded.spec.runner.table} is not the table that this study began with, or was edited since"
        )
    return None


def _changed_sections(known: dict[str, Any], loaded: LoadedSpec) -> list[str]:
    """The spec's top-level keys that mean something else than when the study began. `runner` and `current` may
    change.
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
