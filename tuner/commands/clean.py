"""`tune clean`: remove what crashed runs left."""

from __future__ import annotations

import click

from runners import remove_leftovers
from tuner.errors import ExitCode


def clean() -> ExitCode:
    """Only what belongs to runs that are no longer alive."""
    removed = remove_leftovers()
    for leftover in removed:
        click.echo(f"removed {leftover}")
    if not removed:
        click.echo("nothing was left behind")
    return ExitCode.DONE
