"""A study that is finished, or still runs, for the commands that only read."""

from __future__ import annotations

from pathlib import Path

from results import StudySummary
from tuner.api import load_study, open_archive
from tuner.spec.reading import LoadedSpec

__all__ = ["open_archive", "read_study"]


def read_study(folder: Path, storage: str | None, study: str | None) -> tuple[StudySummary, LoadedSpec]:
    """The study and its spec, to decide by. Raises UsageError, UnfitEnvironmentError."""
    found = load_study(folder, storage=storage, name=study)
    found.refuse_damaged()
    return found.summary, found.spec
