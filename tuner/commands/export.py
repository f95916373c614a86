"""What leaves a study: `tune export DIR`, manifests of the recommendation or a server's own configuration, and
`tune share DIR`, a table that others can replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from results.files import write_text
from results.text import counted, visible
from search_spaces.reading import quoted, shown, why_outside
from tuner.api import load_study
from tuner.commands.options.stored import read_study
from tuner.errors import ExitCode, UsageError
from tuner.outcome.shared_table import Sharing, share
from tuner.spec.reading import load_spec


@dataclass(frozen=True)
class ExportOptions:
    """The command line of an export."""

    folder: Path
    format: str
    qps: float | None = None
    output: Path | None = None
    storage: str | None = None
    study: str | None = None
    trial: int | None = None


def export(options: ExportOptions) -> ExitCode:
    """Raises UsageError where there is nothing to export, or the spec does not run that server."""
    study = load_study(options.folder, storage=options.storage, name=options.study)
    files = study.export(options.format, qps=options.qps, trial=options.trial)
    if options.output is None:
        click.echo(_joined(files), nl=False)
        return ExitCode.DONE
    for name, text in files.items():
        if (problem := why_outside(name)) is not None:
            raise UsageError(f"the file {quoted(name)} of this study {problem}, so it is not written")
        path = options.output / name
        if not path.parent.resolve().is_relative_to(options.output.resolve()):
            raise UsageError(f"{shown(path.parent)} is a link that leads out of {shown(options.output)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    click.echo(f"wrote {', '.join(files)} in {options.output}")
    return ExitCode.DONE


def _joined(files: Mapping[str, str]) -> str:
    """One file as it is; several with their names, between the marks that separate YAML's documents."""
    if len(files) == 1:
        return next(iter(files.values()))
    return "".join(f"---\n# {visible(name)}\n{text}" for name, text in files.items())


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
    if not options.licence.strip():
        raise UsageError("--licence is empty; name one by its SPDX identifier, such as CC0-1.0")
    summary, loaded = read_study(options.folder, options.storage, options.study)
    sharing = Sharing(options.licence, options.about, frozenset(options.keep), options.prices)
    shared = share(summary, loaded, sharing)
    output = options.output or options.folder / "shared"
    output.mkdir(parents=True, exist_ok=True)
    for name, text in shared.files.items():
        write_text(output / name, text)
    load_spec(output / "spec.yaml")  # what is published is right, or said not to be
    rows = counted(shared.rows, "configuration")
    click.echo(f"wrote {', '.join(shared.files)} in {output}: {rows}, under {options.licence}")
    click.echo("Left out or changed:")
    for text in shared.left_out:
        click.echo(f"  - {text}")
    click.echo(f"Look at them before you publish them. They replay with: tune --service {output / 'spec.yaml'}")
    return ExitCode.DONE
