"""`tune worker --storage URL`: take trials from a study that another process has begun."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from runners import RunnerUnavailable
from runners.leftovers.ownership import state_folder
from search_spaces.reading import read_state
from tuner.display import make_display
from tuner.errors import ExitCode, UnfitEnvironmentError, UsageError
from tuner.launch.checks.before_launch import check
from tuner.search.objective import Objective
from tuner.spec.limited import limited_percentiles
from tuner.spec.reading import LoadedSpec, load_spec
from tuner.study.loop import TuningLoop
from tuner.study.opening import (
    has_prices,
    make_proposer,
    refuse_at_once,
    request_sources,
    study_runner,
    trial_setup,
)
from tuner.study.storage.archive import Archive
from tuner.study.storage.begin import join_study

_RUNNING = ("service", "services", "space", "runner")  # the sections that commands are made of


@dataclass(frozen=True)
class WorkerOptions:
    """The command line of a worker."""

    storage: str
    study: str | None = None
    service: Path | None = None
    output: Path | None = None
    runner: str | None = None
    parallel: int = 1
    as_json: bool = False
    trust: bool = False


def worker(options: WorkerOptions) -> ExitCode:
    """Raises TuneError. An interrupt leaves the trials under way to others."""
    name = options.study
    if options.service is not None:
        loaded = load_spec(options.service)
        name = name or loaded.spec.service.name
        Archive(options.storage, name)  # a worker begins no study
    else:
        archive = Archive(options.storage, name)
        loaded = archive.loaded
        _know(archive, loaded, trust=options.trust)
    loaded = loaded.with_runner(options.runner)
    refuse_at_once(loaded, options.parallel)
    runner = study_runner(loaded)
    check(loaded, table_has_prices=has_prices(runner))
    folder = options.output or Path("tuning") / loaded.spec.service.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)  # as that of a run: logs lie in it
    sources = request_sources(loaded)
    store = join_study(options.storage, loaded)
    display = make_display(
        as_json=options.as_json, currency=loaded.spec.prices.currency, limited=limited_percentiles(loaded)
    )
    objective, proposer = Objective.of(loaded.spec.objective), make_proposer(loaded, runner, store.plan)
    try:
        for leftover in runner.remove_leftovers():
            display.notice(f"removed what a crashed run left: {leftover}")
        TuningLoop(
            trial_setup(loaded, sources, runner, folder, store.plan.seed),
            store,
            proposer,
            objective,
            display,
            store.plan.budget,
            options.parallel,
            store.plan.limits,
        ).help()
        display.notice(f"the study {loaded.spec.service.name} has its {len(store.records())} trials")
    except KeyboardInterrupt:
        display.notice("interrupted: the trials under way are left to others")
        return ExitCode.INTERRUPTED
    except RunnerUnavailable as error:
        raise UnfitEnvironmentError(f"{error}\nWhat was measured is kept.") from error
    finally:
        display.close()
        store.close()
        runner.close()
    return ExitCode.DONE


def _know(archive: Archive, loaded: LoadedSpec, *, trust: bool) -> None:
    """Refuse commands that this user's workers have not run for this study before, unless `--trust` is given: whoever
    can write to a shared study decides what its workers run. Raises UsageError, UnfitEnvironmentError.
    """
    content = loaded.content
    running = [*(content.get(part) for part in _RUNNING), (content.get("load") or {}).get("locustfile")]
    digest = hashlib.sha256(
        json.dumps([*running, str(loaded.folder)], sort_keys=True, default=str).encode()
    ).hexdigest()
    study = hashlib.sha256(f"{archive.url}\n{archive.name}".encode()).hexdigest()
    path = state_folder() / "joined" / study
    try:
        if path.exists() and read_state(path).strip() != digest and not trust:
            raise UsageError(
                f"what the study {archive.name} runs has changed since a worker here joined it: see `tune report DIR "
                f"--storage URL --study {archive.name}`\n"
                "Where the change is meant, --trust joins it as it is now; --service SPEC runs what a file here says."
            )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(f"{digest}\n", encoding="ascii")
    except (OSError, ValueError) as error:
        raise UnfitEnvironmentError(f"cannot remember what this worker runs: {path}: {error}") from error
