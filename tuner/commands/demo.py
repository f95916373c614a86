"""`tune demo --replay`: a first result in seconds, from measurements that come with the package, without any server."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from tuner.commands.run import RunOptions, run
from tuner.errors import ExitCode

_FOLDER = Path("tuning") / "demo"


def demo(budget: int, output: Path | None, seed: int, *, resume: bool) -> ExitCode:
    """The main job on the shipped table, and what to do next. Raises as `run`."""
    shipped = resources.files("tuner") / "demo"
    click.echo((shipped / "provenance.txt").read_text(encoding="utf-8").strip(), err=True)
    folder = output or _FOLDER
    with resources.as_file(shipped / "spec.yaml") as spec:
        code = run(RunOptions(service=spec, budget=budget, output=folder, seed=seed, resume=resume))
    click.echo(f"Look at it: {folder / 'report.html'}, or tune dashboard {folder}\nYour own service: tune init")
    return code
