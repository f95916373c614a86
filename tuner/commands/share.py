"""`tune share DIR`: the study as a table that others can replay, without anything that says whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from results.files import write_text
from tuner.commands.stored import read_study
from tuner.errors import ExitCode
from tuner.outcome.shared_table import Sharing, share
from tuner.spec.reading import load_spec


@dataclass(frozen=True)
class ShareOptions:
    """The command line of a sharing."""

    folder: Path
    licence: str
    about: str = ""
    keep: tuple[str, ...] = ()
    prices: bool = False
    output: Path | None = None
    storage: str | None = None
    study: str | None = None


def share_study(options: ShareOptions) -> ExitCode:
    """Raises UsageError where there is nothing to share."""
    summary, loaded = read_study(options.folder, options.storage, options.study)
    sharing = Sharing(options.licence, options.about, frozenset(options.keep), options.prices)
    shared = share(summary, loaded, sharing)
    output = options.output or options.folder / "shared"
    output.mkdir(parents=True, exist_ok=True)
    for name, text in shared.files.items():
        write_text(output / name, text)
    load_spec(output / "spec.yaml")  # what is published is right, or said not to be
    click.echo(f"wrote {', '.join(shared.files)} in {output}: {shared.rows} configurations, under {options.licence}")
    click.echo("Left out or changed:")
    for text in shared.left_out:
        click.echo(f"  - {text}")
    click.echo(f"Look at them before you publish them. They replay with: tune --service {output / 'spec.yaml'}")
    return ExitCode.DONE
