"""The main job as a function, and a study as a value: what the command line and notebooks both call.

Nothing here prints; whoever wants to see what happens passes an observer. Errors are those of `tuner.errors`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from results import Recommendation, ResultsError, StudySummary, TrialRecord, write_report, writes_parquet
from results.text import assigned, counted
from runners import Runner, RunnerUnavailable
from tuner.arguments import number, path_of, paths_of, refuse_no_observer, whole_number
from tuner.display import Display, Observer, StudyOutline
from tuner.errors import UnfitEnvironmentError, UsageError
from tuner.launch.checks.before_launch import check, warnings
from tuner.launch.checks.images import absent_images
from tuner.launch.checks.runnable import runnable
from tuner.launch.checks.table import doubts
from tuner.outcome.folder import held, prepare_output, provenance, write_outputs
from tuner.outcome.summary import summarise
from tuner.outcome.traffic import read_traffic
from tuner.search.objective import Objective
from tuner.spec.reading import LoadedSpec, load_spec
from tuner.study.budget import UNLIMITED, Limits
from tuner.study.loop import TuningLoop
from tuner.study.opening import (
    check_limits,
    has_prices,
    make_proposer,
    refuse_at_once,
    request_sources,
    study_runner,
    trial_setup,
)
from tuner.study.outline import study_outline
from tuner.study.plan import StudyPlan, moved
from tuner.study.storage.archive import Archive, study_names
from tuner.study.storage.begin import NoSuchStudyError, create_study, resume_study
from tuner.study.storage.connection import sqlite_url
from tuner.study.storage.damage import damaged
from tuner.study.storage.store import StudyStore
from tuner.study.warm_start import read_warm_start

if TYPE_CHECKING:
    import pandas as pd

    from results.planning import Pattern, Plan


_NOTHING_KEPT = "`resume`: no finished trial is there to go on with; is the folder the right one?"
_TIME_OR_MONEY = "\nTime is limited by `max_time_s`, and money by `max_cost`."
_MAX_SEED = 2**32 - 1  # of NumPy, as the command line has it


class StudyInterrupted(KeyboardInterrupt):
    """The run was interrupted; `study` holds what was measured, and its files are written."""

    def __init__(self, study: Study) -> None:
        super().__init__(_kept(study))
        self.study = study


@dataclass(frozen=True, repr=False)
class Study:
    """A study that was run or is stored: what it measured and what it recommends. It is read, never changed.

    `folder` holds the run's files; `spec` is the spec that it was begun with.
    """

    summary: StudySummary
    spec: LoadedSpec
    folder: Path

    def refuse_damaged(self) -> None:
        """Raises UnfitEnvironmentError where part of what is stored cannot be read: a decision from the rest would be
        another one.
        """
        if self.summary.progress.damaged:
            raise damaged(self.summary.service, "; ".join(self.summary.progress.damaged[:2]))

    @property
    def recommendation(self) -> Recommendation:
        """What to deploy, how sure that is, and why."""
        return self.summary.recommendation

    @property
    def trials(self) -> pd.DataFrame:
        """A row per trial, with the columns of `trials.csv`."""
        from results import trials_frame

        return trials_frame(self.summary.records, self.spec.space.names)

    def export(
        self,
        format: str = "kubernetes",  # noqa: A002
        *,
        qps: float | None = None,
        trial: int | None = None,
    ) -> dict[str, str]:
        """The recommendation's manifests (or those of another `trial`), or a server's own configuration: texts by file
        name. `qps` is the traffic that replicas are for.

        Raises UsageError for a format that there is not, where the spec does not run that server, and where a format
        would have to guess.
        """
        from results.exports import FORMATS, MARKS, NotExportable, exported, offered
        from tuner.outcome.deployable import deployables

        if format not in FORMATS:
            raise UsageError(f"there is no format {format}; there are {', '.join(FORMATS)}")
        self.refuse_damaged()
        services = deployables(self.summary, self.spec, qps, trial, format_name=format)
        try:
            files = exported(services, format)
        except NotExportable as error:
            raise UsageError(str(error)) from error
        if not files:
            raise UsageError(
                f"the spec does not run {format}: nothing in its image, command or files says "
                f"{' or '.join(MARKS[format])}\nFor this study there are {', '.join(offered(services))}."
            )
        return dict(files)

    def plan(
        self,
        *,
        qps: float | None = None,
        traffic: str | Path | None = None,
        pattern: Pattern = "steady",
        recommended_only: bool = False,
    ) -> Plan:
        """How many replicas carry `qps` at the peak of a pattern, or recorded traffic (a CSV file with `time` and
        `rate`, or `prometheus:URL?query=...`), when, and for how much money.

        Raises UsageError for traffic that cannot be read, and where no trial held the SLO.
        """
        from results import planning

        if (qps is None) == (traffic is None):
            raise UsageError("which traffic? Give either qps or traffic")
        self.refuse_damaged()
        try:
            peak_qps = number("qps", qps, "a number of requests/s above 0, such as 500") or 0.0
            wanted = read_traffic(traffic) if traffic is not None else planning.pattern(pattern, peak_qps)
            wishes = planning.Wishes(misses=self.summary.question.slo.late)
            return planning.make_plan(self.summary, wanted, wishes, every=not recommended_only)
        except ResultsError as error:
            raise UsageError(str(error)) from error

    def report(self) -> Path:
        """Write `report.html` and `report.md` into the folder again; the path of the page."""
        write_report(self.folder, self.summary)
        return self.folder / "report.html"

    def __repr__(self) -> str:
        """One line: what a console shows of it, and a debugger."""
        trials, found = counted(len(self.summary.records), "trial"), self.recommendation.configuration
        decided = "nothing" if found is None else f"{self.recommendation.decision} {assigned(found)}"
        return f"<Study {self.summary.service} in {self.folder}: {trials}, {decided}>"

    def _repr_html_(self) -> str:
        """A short table for notebooks; text of the spec is escaped."""
        from results.report.notebook import study_html

        return study_html(self.summary)


@dataclass(frozen=True)
class TuningRequest:
    """All that the main job may be told. A `seed` or a budget that is not given is that of the study that a run goes on
    with; of a new study they are 0, and as many trials as are worth what they cost.
    """

    spec: Path
    budget: int | None = None
    budget_given: bool = True
    output: Path | None = None
    storage: str | None = None
    runner: str | None = None
    seed: int | None = None
    resume: bool = False
    warm_start: tuple[Path, ...] = ()
    parallel: int = 1
    limits: Limits = UNLIMITED


def tune(
    spec: str | Path,
    *,
    budget: int | None = None,
    max_time_s: float | None = None,
    max_cost: float | None = None,
    output: str | Path | None = None,
    storage: str | None = None,
    runner: str | None = None,
    seed: int | None = None,
    resume: bool = False,
    warm_start: str | Path | Sequence[str | Path] = (),
    parallel: int = 1,
    observer: Display | None = None,
) -> Study:
    """Find the cheapest container spec that serves a model within its latency objective.

    Blocks until `budget` trials are spent, or `max_time_s` seconds of trials, or `max_cost` on machines at the spec's
    prices; without any of these, until another trial is not worth what it costs. Writes the files of a run into
    `output` (by default `tuning/SERVICE`), as the command line does.

        study = tune("spec.yaml", budget=20)
        print(study.recommendation.configuration)

    Raises SpecError and UsageError for what is wrong with the spec or the arguments, UnfitEnvironmentError where this
    machine cannot run it, and StudyInterrupted (a KeyboardInterrupt) after what was measured is written.
    """
    if observer is not None:
        refuse_no_observer(observer)
    request = TuningRequest(
        spec=path_of(spec),
        budget=whole_number("budget", budget, "a number of trials, at least 1", _TIME_OR_MONEY),
        budget_given=any(one is not None for one in (budget, max_time_s, max_cost)),
        output=None if output is None else Path(output),
        storage=storage,
        runner=runner,
        seed=whole_number("seed", seed, f"a whole number from 0 to {_MAX_SEED}"),
        resume=resume,
        warm_start=paths_of(warm_start),
        parallel=whole_number("parallel", parallel, "a number of trials, at least 1") or 0,
        limits=Limits(
            number("max_time_s", max_time_s, "a number of seconds, such as 1800"),
            number("max_cost", max_cost, "an amount of money, such as 2.50"),
        ),
    )
    return run_study(request, lambda: Observer() if observer is None else observer)


def load_study(folder: str | Path, *, storage: str | None = None, name: str | None = None) -> Study:
    """A finished or running study, from a run's folder, or from another storage.

    Raises UsageError where the folder holds no study and no storage is named, UnfitEnvironmentError where the storage
    cannot be reached.
    """
    folder = Path(folder)
    archive = open_archive(folder, storage, name)
    return Study(summarise(archive.loaded, archive), archive.loaded, folder)


def open_archive(folder: Path, storage: str | None, name: str | None) -> Archive:
    """Raises UsageError where the folder holds no study and no storage is named."""
    if storage is None and not (folder / "study.db").is_file():
        storage = os.environ.get("TUNE_STORAGE")
    if storage is None and not (folder / "study.db").is_file():
        raise UsageError(
            f"{folder} holds no study.db; name a run's folder, or `storage` and `name` where it lies elsewhere"
        )
    return Archive(storage or sqlite_url(folder), name)


def run_study(request: TuningRequest, make_display: Callable[[], Display]) -> Study:
    """The main job. `make_display` is called once nothing is wrong any more that can be known in advance, and before
    anything is moved or made. Raises as `tune`.
    """
    loaded = load_spec(request.spec).with_runner(request.runner)
    _check_numbers(request)
    refuse_at_once(loaded, request.parallel)
    runner = study_runner(loaded)
    check(loaded, table_has_prices=has_prices(runner))
    sources = request_sources(loaded)
    check_limits(request.limits, loaded, runner)
    folder = request.output or Path("tuning") / loaded.spec.service.name
    url = request.storage or sqlite_url(folder)
    with _environment_errors():
        fit = runnable(loaded, runner)
    warm = [read_warm_start(path, loaded) for path in request.warm_start]
    warm_start = tuple(record for one in warm for record in one.records)
    with ExitStack() as stack:
        stack.callback(runner.close)
        display = make_display()
        stack.callback(display.close)
        stack.enter_context(held(folder))
        # In a database a study of this name may be there already: then nothing is moved.
        aside = prepare_output(folder, resume=request.resume) if request.storage is None else None
        said: list[str] = []
        store = _open(request, url, loaded, warm_start, said)
        stack.callback(store.close)
        with contextlib.suppress(OSError):  # requests and the ends of logs stand in it
            (folder / "study.db").chmod(0o600)
        if request.storage is not None:
            aside = prepare_output(folder, resume=request.resume)
        with _environment_errors():
            notes = [*filter(None, (aside, *said)), *(one.note for one in warm)]
            _announce(display, runner, loaded, study_outline(loaded, store, folder, fit, request.parallel), notes)
            setup = trial_setup(loaded, sources, runner, folder, store.plan.seed)
        objective, proposer = Objective.of(loaded.spec.objective), make_proposer(loaded, runner, store.plan)
        loop = TuningLoop(
            setup, store, proposer, objective, display, store.plan.budget, request.parallel, store.plan.limits
        )
        return _tuned(loop, loaded, folder, url)


def _check_numbers(request: TuningRequest) -> None:
    """Raises UsageError for numbers that the command line does not take either."""
    if request.budget is not None and request.budget < 1:
        raise UsageError(f"`budget` is a number of trials, at least 1, not {request.budget}")
    if request.parallel < 1:
        raise UsageError(f"`parallel` is a number of trials, at least 1, not {request.parallel}")
    if request.seed is not None and not 0 <= request.seed <= _MAX_SEED:
        raise UsageError(f"`seed` is a whole number from 0 to {_MAX_SEED}, not {request.seed}")


def _open(
    request: TuningRequest, url: str, loaded: LoadedSpec, warm_start: tuple[TrialRecord, ...], notes: list[str]
) -> StudyStore:
    """The study, new or gone on with; one that was killed before it was created is created. `notes` get what is new."""

    def resumed(plan: StudyPlan) -> StudyPlan:
        notes.extend(moved(plan.content, loaded.content))
        asked = (request.seed, warm_start, request.budget, request.limits)
        return plan.resumed(loaded.content, *asked, budget_given=request.budget_given)

    if request.resume:
        with contextlib.suppress(NoSuchStudyError):
            return resume_study(url, loaded, resumed)
        if request.storage is None and (others := study_names(url)):
            raise UsageError(
                f"the folder holds a study of {', '.join(others)}, and none of {loaded.spec.service.name}\n"
                "Name the service as it was, another `output`, or leave out `resume` to start anew."
            )
        notes.append(_NOTHING_KEPT)
    seed = request.seed or 0
    plan = StudyPlan(loaded.content, seed, request.budget, warm_start, provenance(loaded, seed), request.limits)
    return create_study(url, loaded, plan)


def _kept(study: Study) -> str:
    trials = len(study.summary.records)
    return f"{counted(trials, 'trial')} {'is' if trials == 1 else 'are'} kept"


def _tuned(loop: TuningLoop, loaded: LoadedSpec, folder: Path, url: str) -> Study:
    archive = Archive(url, loaded.spec.service.name)
    interrupted = False
    try:
        loop.search()
        loop.explain()
        loop.confirm()
    except KeyboardInterrupt:
        interrupted = True
    except RunnerUnavailable as error:
        kept = "\nWhat was measured is kept; `resume` goes on."
        measured = write_outputs(folder, loaded, archive).records
        raise UnfitEnvironmentError(f"{error}{kept if measured else ''}") from error
    study = Study(write_outputs(folder, loaded, archive), loaded, folder)
    if interrupted:
        anew = not study.summary.records and url == sqlite_url(folder)  # a database keeps a study without trials, too
        again = "begins anew" if anew else "with `resume` goes on"
        loop.display.notice(f"interrupted: {_kept(study)}; the same again {again}")
        raise StudyInterrupted(study)
    loop.display.recommended(study.recommendation, folder)
    return study


@contextmanager
def _environment_errors() -> Iterator[None]:
    """Before the first trial, a runner that is unavailable is an unfit environment: it is raised as that."""
    try:
        yield
    except RunnerUnavailable as error:
        raise UnfitEnvironmentError(str(error)) from error


def _announce(
    display: Display, runner: Runner, loaded: LoadedSpec, outline: StudyOutline, notes: Sequence[str]
) -> None:
    display.study_started(outline)
    for text in (*notes, *doubts(loaded, runner), *absent_images(loaded, runner), *warnings(loaded)):
        display.notice(text)
    if not writes_parquet():
        display.notice("pyarrow is not installed: trials.csv is written, trials.parquet is not")
    for leftover in runner.remove_leftovers():
        display.notice(f"removed what a crashed run left: {leftover}")
