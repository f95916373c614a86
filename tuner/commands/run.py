"""`tune --service spec.yaml --budget 20`: the main job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.api import StudyInterrupted, TuningRequest, run_study
from tuner.commands.options.tracking import TrackingOptions
from tuner.display import Display, make_display
from tuner.display.live_file import LiveFile
from tuner.errors import ExitCode, UnfitEnvironmentError
from tuner.study.budget import Limits

if TYPE_CHECKING:
    from tuner.tracking import Tracker


@dataclass(frozen=True)
class RunOptions:
    """The command line of the main job. `max_time` is in seconds, `max_cost` in the currency of the prices."""

    service: Path
    budget: int | None
    max_time: float | None = None
    max_cost: float | None = None
    output: Path | None = None
    storage: str | None = None
    runner: str | None = None
    seed: int = 0
    resume: bool = False
    as_json: bool = False
    warm_start: tuple[Path, ...] = ()
    parallel: int = 1
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    tracking: TrackingOptions = field(default_factory=TrackingOptions)

    @classmethod
    def of(cls, service: Path, options: dict[str, Any]) -> RunOptions:
        """Made from the options as the command line parsed them."""
        return cls(service, tracking=TrackingOptions.taken_from(options), **options)


def run(options: RunOptions) -> ExitCode:
    """Raises TuneError; an interrupt is answered with an exit code, after what was measured is written."""
    request = TuningRequest(
        options.service, options.budget, _said("budget") or _said("max_cost"), options.output, options.storage,
        options.runner, options.seed if _said("seed") else None, options.resume, options.warm_start, options.parallel,
        Limits(options.max_time, options.max_cost),
    )  # fmt: skip
    trackers = options.tracking.trackers()  # what one of them needs is missing now, and not after the first trial
    try:
        study = run_study(request, partial(_display, options, trackers))
    except StudyInterrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.DONE if study.recommendation.meets_slo else ExitCode.NOTHING_MEETS_SLO


def _said(name: str) -> bool:
    """Whether the user gave the option. A run that continues a study takes what was not given from that study."""
    source = click.get_current_context().get_parameter_source(name)
    return source not in (None, click.core.ParameterSource.DEFAULT)


def _display(options: RunOptions, trackers: Sequence[Tracker]) -> Display:
    shown: Display = LiveFile(make_display(as_json=options.as_json))
    if trackers:
        from tuner.tracking import Tracked

        shown = Tracked(shown, trackers)
    if options.metrics_port is None:
        return shown
    from tuner.display.metrics import MetricsDisplay

    try:
        return MetricsDisplay(shown, options.metrics_port, options.metrics_host)
    except UnfitEnvironmentError:
        shown.close()
        raise
