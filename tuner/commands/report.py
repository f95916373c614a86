"""`tune report DIR`: write the tables, the recommendation and the report again, from the stored study."""

from __future__ import annotations

from pathlib import Path

import click

from results import writes_parquet
from tuner.commands.stored import open_archive
from tuner.errors import ExitCode
from tuner.outcome.folder import write_outputs


def report(folder: Path, storage: str | None, study: str | None) -> ExitCode:
    """Raises UsageError where the folder holds no study and no storage is named."""
    archive = open_archive(folder, storage, study)
    write_outputs(folder, archive.loaded, archive)
    parquet = "trials.parquet" if writes_parquet() else "(no pyarrow here, so no trials.parquet)"
    click.echo(f"wrote report.html, report.md, trials.csv, {parquet} and recommendation.json in {folder}")
    return ExitCode.DONE
