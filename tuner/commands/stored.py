"""A study that is finished, or still runs, for the commands that only read."""

from __future__ import annotations

import os
from pathlib import Path

from results import StudySummary
from tuner.errors import UsageError
from tuner.outcome.summary import summarise
from tuner.spec.reading import LoadedSpec
from tuner.study.archive import Archive, damaged
from tuner.study.storage import sqlite_url


def open_archive(folder: Path, storage: str | None, study: str | None) -> Archive:
    """Raises UsageError where the folder holds no study and no storage is named."""
    if storage is None and not (folder / "study.db").is_file():
        storage = os.environ.get("TUNE_STORAGE")
    if storage is None and not (folder / "study.db").is_file():
        raise UsageError(
            f"{folder} holds no study.db; name a run's folder, or --storage and --study where it lies elsewhere"
        )
    return Archive(storage or sqlite_url(folder), study)


def read_study(folder: Path, storage: str | None, study: str | None) -> tuple[StudySummary, LoadedSpec]:
    """The study and its spec, to decide by. Raises UsageError, UnfitEnvironmentError, also where part of it cannot be
    read: a decision from the rest would be another one.
    """
    archive = open_archive(folder, storage, study)
    found = summarise(archive.loaded, archive)
    if found.damaged:
        raise damaged(archive.name, "; ".join(found.damaged[:2]))
    return found, archive.loaded
