"""`tune validate SPEC`: check a spec, and say how large its space is and what a run takes."""

from __future__ import annotations

from pathlib import Path

import click

from tuner.display.wording import duration
from tuner.errors import ExitCode
from tuner.launch.checks import check, warnings, widest
from tuner.launch.estimate import estimate_run
from tuner.launch.render import why_refused
from tuner.launch.runner import make_runner
from tuner.spec.reading import load_spec
from tuner.study.opening import has_prices, request_sources


def validate(path: Path, budget: int, runner_name: str | None) -> ExitCode:
    """Raises SpecError with the first thing that is wrong."""
    loaded = load_spec(path).with_runner(runner_name)
    runner = make_runner(loaded)
    check(loaded, table_has_prices=has_prices(runner))
    request_sources(loaded)
    click.echo(f"{path} is valid: {loaded.space.size} configurations of {len(loaded.space.parameters)} parameters")
    for parameter in loaded.space.parameters:
        role = f" ({parameter.role})" if parameter.role and parameter.role != parameter.name else ""
        click.echo(f"  {parameter.name}{role}: {widest(parameter)}")
    sample = loaded.space.sample(2000, seed=0)
    refused = [reason for found in sample if (reason := why_refused(loaded, runner, found))]
    if refused:
        click.echo(f"{len(refused) / len(sample):.0%} of them cannot run here, for example: {refused[0]}")
    expected = estimate_run(loaded, min(budget, loaded.space.size.count))
    if expected is not None:
        money = "" if expected.cost is None else f", about {expected.cost:.2g} in machine time at the spec's prices"
        click.echo(
            f"{budget} trials and measuring the best three again: at most {duration(expected.seconds)} of warm-up and "
            f"load{money}; the servers' own start comes on top"
        )
    for text in warnings(loaded):
        click.echo(f"warning: {text}")
    return ExitCode.DONE
