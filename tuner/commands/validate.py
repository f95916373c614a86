"""`tune validate SPEC`: check a spec, and say how large its space is and what a run takes."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import click

from results.text import counted, duration, money
from search_spaces import load_preset, preset_names
from tuner.errors import ExitCode
from tuner.launch.checks.before_launch import check, hints, warnings, widest
from tuner.launch.checks.images import absent_images
from tuner.launch.checks.runnable import Runnable, runnable
from tuner.launch.checks.table import doubts
from tuner.launch.estimate import estimate_run
from tuner.launch.memory.fit import fit_lines
from tuner.launch.runner import make_runner
from tuner.search.stopping import max_trials
from tuner.spec.reading import LoadedSpec, load_spec
from tuner.study.opening import has_prices, request_sources


def validate(path: Path, budget: int | float | None, runner_name: str | None) -> ExitCode:
    """`budget` is a number of trials, a time in seconds, or None for as many as are worth it.

    Raises SpecError with the first thing that is wrong, UnfitEnvironmentError where nothing of it can run here.
    """
    loaded = load_spec(path).with_runner(runner_name)
    runner = make_runner(loaded)
    check(loaded, table_has_prices=has_prices(runner))
    request_sources(loaded)
    fit = runnable(loaded, runner)
    click.echo(f"{path} is valid: {_counted(loaded)}")
    for name in dict.fromkeys(service.loaded.spec.space.preset for service in loaded.services):
        if name in preset_names():
            click.echo(f"  preset {name}: {load_preset(name).description}")
    for parameter in loaded.space.parameters:
        role = f" ({parameter.role})" if parameter.role and parameter.role != parameter.name else ""
        click.echo(f"  {parameter.name}{role}: {widest(parameter)}")
    for service in loaded.services:
        for line in fit_lines(service.loaded):
            click.echo(line)
    if fit.refusals:
        click.echo(f"{fit.refused_share:.0%} of them cannot run here, for example: {fit.refusals[0]}")
    if (text := _takes(loaded, fit, budget)) is not None:
        click.echo(text)
    for text in (*doubts(loaded, runner), *absent_images(loaded, runner), *warnings(loaded)):
        click.echo(f"warning: {text}")
    for text in hints(loaded):
        click.echo(f"hint: {text}")
    return ExitCode.DONE


def _counted(loaded: LoadedSpec) -> str:
    """`1 configuration of 2 parameters`."""
    return f"{counted(loaded.space.size, 'configuration')} of {counted(len(loaded.space.parameters), 'parameter')}"


def _takes(loaded: LoadedSpec, fit: Runnable, budget: int | float | None) -> str | None:
    """How long the budget takes at most, and what the machines cost in that time; None for a replay."""
    asked = budget if isinstance(budget, int) else max_trials(None, limited=budget is not None)
    trials = min(asked, fit.count)
    all_of_it = " (all that can run)" if trials == fit.count < asked else ""
    expected = estimate_run(loaded, trials, fit.configurations)
    if expected is None:
        return None
    if isinstance(budget, float) and expected.seconds > budget:
        trials = bisect_right(range(trials), budget, key=lambda one: _seconds(loaded, fit, one)) - 1
        if trials < 1:
            return f"{duration(budget)} may be too short for one trial and the launches of the final"
        all_of_it = f" (which {duration(budget)} suffice for, their servers' start aside)"
        expected = estimate_run(loaded, trials, fit.configurations) or expected
    shown = "" if expected.cost is None else f", about {money(expected.cost, loaded.spec.prices.currency)} of machines"
    return (
        f"{counted(trials, 'trial')}{all_of_it}, and the best launched again: at most {duration(expected.seconds)} of "
        f"warm-up and load{shown}; the servers' own start comes on top"
    )


def _seconds(loaded: LoadedSpec, fit: Runnable, trials: int) -> float:
    expected = estimate_run(loaded, trials, fit.configurations)
    return 0.0 if expected is None else expected.seconds
