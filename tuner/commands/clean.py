"""`tune clean`: remove what crashed runs left."""

from __future__ import annotations

import contextlib

import click

from runners import RunnerUnavailable, remove_leftovers
from tuner.errors import ExitCode


def clean() -> ExitCode:
    """Only what belongs to runs that are no longer alive: processes, containers, and objects in the clusters and
    namespaces that this user's runs have launched in.
    """
    from runners.docker.engine import Engine
    from runners.docker.runner import remove_containers

    removed, engine, stuck = remove_leftovers(), None, []
    with contextlib.suppress(RunnerUnavailable):  # where no engine runs, no container does
        engine = Engine()
    try:
        removed += remove_containers(engine) if engine is not None else []
    except RunnerUnavailable as error:
        stuck = [str(error)]
    from runners.kubernetes.owned import remove_everywhere

    found, unreachable = remove_everywhere()
    for leftover in (*removed, *found):
        click.echo(f"removed {leftover}")
    for place in unreachable:
        click.echo(f"could not look there: {place}", err=True)
    for reason in stuck:
        click.echo(reason, err=True)
    if not (removed or found or stuck):
        click.echo("nothing was left behind")
    return ExitCode.ENVIRONMENT if unreachable or stuck else ExitCode.DONE
