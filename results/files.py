"""Files that are never seen half written, and the recommendation's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from results.records import Recommendation


class ResultsError(Exception):
    """A file that is not what it should be; the message says what, where, and what to do."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well, and is removed otherwise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write the whole text or nothing. Raises OSError when the disk is full."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_recommendation(folder: Path, recommendation: Recommendation) -> None:
    """`recommendation.json` of the contract."""
    write_text(folder / "recommendation.json", recommendation.model_dump_json(by_alias=True, indent=2) + "\n")


def read_recommendation(path: Path) -> Recommendation:
    """Raises ResultsError for a file that is missing or is not a recommendation."""
    try:
        return Recommendation.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror}; name the recommendation.json of a run") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise ResultsError(
            f"{path} is not a recommendation (schema 1); name the recommendation.json of a run"
        ) from error
