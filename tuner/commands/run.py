"""`tune --service spec.yaml --budget 20`: the main job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from results import TrialRecord
from runners import Runner, RunnerUnavailable
from tuner.commands.opening import has_prices, open_study, refuse_at_once, request_sources, study_runner, with_quality
from tuner.display import Display, StudyOutline, make_display
from tuner.errors import ExitCode, UnfitEnvironmentError
from tuner.launch.checks import check, warnings
from tuner.launch.estimate import estimate_run
from tuner.launch.render import why_refused
from tuner.outcome.folder import prepare_output, provenance, write_outputs
from tuner.outcome.summary import summarise
from tuner.search.objective import Objective
from tuner.search.stopping import MOST_TRIALS
from tuner.spec.reading import LoadedSpec, load_spec
from tuner.study.archive import Archive, damaged, study_names
from tuner.study.loop import Study
from tuner.study.storage import sqlite_url
from tuner.study.store import StudyStore
from tuner.study.warm_start import read_earlier


@dataclass(frozen=True)
class RunOptions:
    """The command line of the main job."""

    service: Path
    budget: int | None
    output: Path | None = None
    storage: str | None = None
    runner: str | None = None
    seed: int = 0
    resume: bool = False
    as_json: bool = False
    warm_start: tuple[Path, ...] = ()
    parallel: int = 1
    metrics_port: int | None = None


def run(options: RunOptions) -> ExitCode:
    """Raises TuneError; KeyboardInterrupt is answered with an exit code, after what was measured is written."""
    loaded = load_spec(options.service).with_runner(options.runner)
    refuse_at_once(loaded, options.parallel)
    runner = study_runner(loaded)
    check(loaded, table_has_prices=has_prices(runner))
    sources = request_sources(loaded)
    folder = options.output or Path("tuning") / loaded.spec.service.name
    with _fit():
        _refuse_the_impossible(loaded, runner)
    warm = [read_earlier(path, loaded) for path in options.warm_start]
    earlier = [record for one in warm for record in one.records]
    with ExitStack() as stack:
        stack.callback(runner.close)
        display = _display(options)  # before anything is moved or made: its port may be taken
        stack.callback(display.close)
        # In a database a study of this name may be there already: then nothing is moved.
        moved = prepare_output(folder, resume=options.resume) if options.storage is None else None
        if options.resume:
            _refuse_damaged(loaded, options.storage or sqlite_url(folder), folder if options.storage is None else None)
        store, setup = open_study(
            loaded, runner, sources, folder, options.storage or sqlite_url(folder), seed=options.seed,
            resume=options.resume, provenance=provenance(loaded, options.seed), earlier=earlier,
        )  # fmt: skip
        stack.callback(store.close)
        if options.storage is not None:
            moved = prepare_output(folder, resume=options.resume)
        store.budget = options.budget
        with _fit():
            notes = [*([moved] if moved else []), *(one.note for one in warm)]
            _announce(display, runner, loaded, store, options.budget, folder, notes)
            setup = with_quality(setup)
        study = Study(setup, store, Objective.of(loaded.spec.objective), display, options.budget, options.parallel)
        return _tune(study, loaded, folder, options.storage or sqlite_url(folder))


def _refuse_damaged(loaded: LoadedSpec, url: str, folder: Path | None) -> None:
    """A study that cannot be read whole is not gone on with. Raises UnfitEnvironmentError."""
    if folder is not None and not (folder / "study.db").exists():
        return
    name = loaded.spec.service.name
    if name in study_names(url) and (problems := summarise(loaded, Archive(url, name)).damaged):
        raise damaged(name, "; ".join(problems[:2]))


@contextmanager
def _fit() -> Iterator[None]:
    """What a runner cannot do before the first trial is the environment's fault."""
    try:
        yield
    except RunnerUnavailable as error:
        raise UnfitEnvironmentError(str(error)) from error


def _display(options: RunOptions) -> Display:
    shown = make_display(as_json=options.as_json)
    if options.metrics_port is None:
        return shown
    from tuner.display.metrics import MetricsDisplay

    try:
        return MetricsDisplay(shown, options.metrics_port)
    except UnfitEnvironmentError:
        shown.close()
        raise


def _tune(study: Study, loaded: LoadedSpec, folder: Path, storage: str) -> ExitCode:
    interrupted, archive = False, Archive(storage, loaded.spec.service.name)
    try:
        study.search()
        study.store.explain(study.store.records())
        study.confirm()
    except KeyboardInterrupt:
        interrupted = True
    except RunnerUnavailable as error:
        write_outputs(folder, loaded, archive)
        raise UnfitEnvironmentError(f"{error}\nWhat was measured is kept; --resume goes on.") from error
    summary = write_outputs(folder, loaded, archive)
    if interrupted:
        study.display.notice(f"interrupted: {len(summary.records)} trials are kept; --resume goes on with them")
        return ExitCode.INTERRUPTED
    study.display.recommended(summary.recommendation, folder)
    return ExitCode.DONE if summary.recommendation.meets_slo else ExitCode.NOTHING_MEETS_SLO


def _refuse_the_impossible(loaded: LoadedSpec, runner: Runner) -> None:
    """Where the runner refuses every configuration there is nothing to try."""
    refusals = {why_refused(loaded, runner, found) for found in loaded.space.sample(2000, seed=0)}
    if None not in refusals:
        reason = min(text for text in refusals if text)
        raise UnfitEnvironmentError(f"no configuration of the space can run here: {reason}")


def _announce(
    display: Display, runner: Runner, loaded: LoadedSpec, store: StudyStore, budget: int | None, folder: Path,
    notes: Sequence[str],
) -> None:  # fmt: skip
    finished: list[TrialRecord] = store.records()
    most = MOST_TRIALS if budget is None else budget
    left = min(max(0, most - len(finished)), loaded.space.size.count)
    expected = estimate_run(loaded, left)
    display.study_started(
        StudyOutline(
            service=loaded.spec.service.name,
            objective=str(Objective.of(loaded.spec.objective)),
            slo=", ".join(loaded.slo_texts) or "the table's SLO",
            parameters=len(loaded.space.parameters),
            space_size=str(loaded.space.size),
            budget=most,
            finished=len(finished),
            seconds_at_most=expected.seconds if expected else None,
            output=folder,
        )
    )
    for text in (*notes, *warnings(loaded)):
        display.notice(text)
    for leftover in runner.remove_leftovers():
        display.notice(f"removed what a crashed run left: {leftover}")
