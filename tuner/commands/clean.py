"""`tune clean`: remove what crashed runs left."""

from __future__ import annotations

import click

from runners import RunnerUnavailable, remove_leftovers
from tuner.errors import ExitCode


def clean() -> ExitCode:
    """Only what belongs to runs that are no longer alive: processes, containers, and objects in the clusters and
    namespaces that this user's runs have launched in.
    """
    removed = remove_leftovers()
    try:
        from runners.docker import remove_containers
        from runners.engine import Engine

        removed += remove_containers(Engine())
    except RunnerUnavailable:
        pass  # where no engine runs, no container does
    from runners.kubernetes.owned import remove_everywhere

    found, unreachable = remove_everywhere()
    for leftover in (*removed, *found):
        click.echo(f"removed {leftover}")
    for place in unreachable:
        click.echo(f"could not look there: {place}", err=True)
    if not removed and not found:
        click.echo("nothing was left behind")
    return ExitCode.ENVIRONMENT if unreachable else ExitCode.DONE
