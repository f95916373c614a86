"""`tune plan DIR`: how many replicas carry given traffic, when, and for how much money."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import click

from results import ResultsError
from results.planning import (
    Pattern,
    Terms,
    Traffic,
    Wishes,
    make_plan,
    pattern,
    plan_document,
    plan_text,
    write_plan,
)
from tuner.commands.stored import read_study
from tuner.errors import ExitCode, UsageError
from tuner.outcome.traffic import read_traffic


@dataclass(frozen=True)
class PlanOptions:
    """The command line of a plan."""

    folder: Path
    qps: float | None = None
    traffic: Path | None = None
    pattern: Pattern = "steady"
    valley: float | None = None
    misses: float = 0.01
    spare: int = 1
    zones: int = 1
    least: int = 1
    cold_start: float | None = None
    recommended_only: bool = False
    spot: float | None = None
    spot_share: float = 1.0
    reserved: float | None = None
    own_price: float | None = None
    own_monthly: float = 0.0
    own_replicas: int = 1
    output: Path | None = None
    as_json: bool = False
    storage: str | None = None
    study: str | None = None


def plan(options: PlanOptions) -> ExitCode:
    """Raises UsageError for traffic that cannot be read, and where no trial held the SLO."""
    wishes = Wishes(
        options.misses, options.spare, options.zones, options.least, options.cold_start,
        Terms(
            options.spot, options.spot_share, options.reserved, options.own_price, options.own_monthly,
            options.own_replicas,
        ),
    )  # fmt: skip
    summary, _ = read_study(options.folder, options.storage, options.study)
    try:
        found = make_plan(summary, _traffic(options), wishes, every=not options.recommended_only)
    except ResultsError as error:
        raise UsageError(str(error)) from error
    folder = options.output or options.folder
    write_plan(folder, found)
    if options.as_json:
        click.echo(json.dumps(plan_document(found), indent=2))
    else:
        click.echo(plan_text(found))
        click.echo(f"\nwrote plan.json, plan.csv and plan.svg in {folder}")
    return ExitCode.DONE


def _traffic(options: PlanOptions) -> Traffic:
    if options.traffic is None:
        if options.qps is None:
            raise UsageError("which traffic? --qps N (with --pattern daily, burst or periodic), or --traffic trace.csv")
        return pattern(options.pattern, options.qps, options.valley)
    if options.pattern != "steady" or options.valley is not None:
        raise UsageError("--traffic brings its own pattern; --pattern and --valley go with --qps alone")
    read = read_traffic(options.traffic)
    return read if options.qps is None else read.scaled(options.qps)
