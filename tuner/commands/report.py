"""`tune report DIR`: write the tables, the recommendation and the report again, from the stored study."""

from __future__ import annotations

from pathlib import Path

import click

from tuner.errors import ExitCode, UsageError
from tuner.output import write_outputs
from tuner.store import StudyStore, sqlite_url


def report(folder: Path, storage: str | None, study: str | None) -> ExitCode:
    """Raises UsageError where the folder holds no study and no storage is named."""
    if storage is None and not (folder / "study.db").is_file():
        raise UsageError(
            f"{folder} holds no study.db; name a run's folder, or --storage and --study where it lies elsewhere"
        )
    store, loaded = StudyStore.read(storage or sqlite_url(folder), study)
    write_outputs(folder, loaded, store)
    click.echo(f"wrote report.html, report.md, trials.csv, trials.parquet and recommendation.json in {folder}")
    return ExitCode.DONE
