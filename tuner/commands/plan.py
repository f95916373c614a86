"""`tune plan DIR`: how many replicas carry given traffic, when, and for how much money."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from tuner.commands.options.stored import read_study
from tuner.errors import ExitCode, UsageError, with_options
from tuner.outcome.traffic import read_traffic


@dataclass(frozen=True)
class PlanOptions:
    """The command line of a plan. `misses` None: as many as the SLO allows."""

    folder: Path
    wishes: Wishes
    misses: float | None
    qps: float | None
    traffic: str | None
    pattern: Pattern
    valley: float | None
    recommended_only: bool
    output: Path | None
    as_json: bool
    storage: str | None
    study: str | None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> PlanOptions:
        """Made from the options as the command line parsed them."""
        rest = dict(options)
        terms = Terms(
            rest.pop("spot"), rest.pop("spot_share"), rest.pop("reserved"), rest.pop("own_price"),
            rest.pop("own_monthly"), rest.pop("own_replicas"),
        )  # fmt: skip
        wishes = Wishes(
            spare=rest.pop("spare"), zones=rest.pop("zones"), min_replicas=rest.pop("least"),
            cold_start_s=rest.pop("cold_start"), terms=terms,
        )  # fmt: skip
        return cls(wishes=wishes, **rest)


def plan(options: PlanOptions) -> ExitCode:
    """Raises UsageError for traffic that cannot be read, and where no trial held the SLO."""
    summary, _ = read_study(options.folder, options.storage, options.study)
    misses = summary.question.slo.late if options.misses is None else options.misses
    wishes = replace(options.wishes, misses=misses)
    try:
        found = make_plan(summary, _traffic(options), wishes, every=not options.recommended_only)
    except ResultsError as error:
        raise UsageError(str(error)) from error
    folder = options.output or options.folder
    write_plan(folder, found)
    if options.as_json:
        click.echo(json.dumps(plan_document(found), indent=2))
    else:
        click.echo(with_options(plan_text(found)))
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
