"""`tune export DIR`: the recommendation as manifests, or as a server's own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from results.files import write_text
from results.text import visible
from search_spaces.reading import quoted, shown, why_outside
from tuner.api import load_study
from tuner.errors import ExitCode, UsageError


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
