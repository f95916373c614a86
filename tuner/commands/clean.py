"""`tune clean`: remove what crashed runs left."""

from __future__ import annotations

import contextlib

import click

from runners import RunnerUnavailable, remove_leftovers
from runners.command import remove_commands
from tuner.errors import ExitCode


def clean() -> ExitCode:
    """Only what belongs to runs that are no longer alive: processes, containers, what a spec's `runner.down` ends, and
    objects in the clusters and namespaces that this user's runs have launched in.
    """
    from runners.docker.engine import Engine
    from runners.docker.runner import remove_containers

    removed, stuck = remove_commands()
    removed += remove_leftovers()
    engine = None
    with contextlib.suppress(RunnerUnavailable):  # where no engine runs, no container does
        engine = Engine()
    try:
        removed += remove_containers(engine) if engine is not None else []
    except RunnerUnavailable as error:
        stuck.append(str(error))
    from runners.kubernetes.owned import remove_everywhere

    found, unreachable = remove_everywhere()
    for leftover in (*removed, *found):
        click.echo(f"removed {leftover}")
    for place in unreachable:
        click.echo(f"could not look there: {place}", err=True)
    for reason in stuck:
        click.echo(reason, err=True)
    if not (removed or found or stuck or unreachable):
        click.echo("nothing was left behind")
    return ExitCode.ENVIRONMENT if unreachable or stuck else ExitCode.DONE
