"""Files that are never seen half written, and the recommendation's own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from results.records import Recommendation
from results.stored import StoredError, stored
from search_spaces.reading import InputError, parsed_json, read_text, shown

_MAX_BYTES = 16 << 20
_REMEDY = "name the recommendation.json of a run"
# pydantic escapes C0 controls only; a terminal also obeys C1, and some marks reorder the line that they stand in.
_UNESCAPED = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


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


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write the whole text or nothing; `private` lets nobody else read it. Raises OSError when the disk is full."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    mode = 0o600 if private else 0o666
    with replacing(path) as temporary, os.fdopen(os.open(temporary, flags, mode), "w", encoding="utf-8") as file:
        file.write(text)


def write_recommendation(folder: Path, recommendation: Recommendation) -> None:
    """`recommendation.json` of the contract. Raises OSError when it cannot be written."""
    text = recommendation.model_dump_json(by_alias=True, indent=2)
    # Outside strings JSON is ASCII, so what remains hidden stands in a string and may be written as its escape there.
    write_text(folder / "recommendation.json", _UNESCAPED.sub(lambda hidden: f"\\u{ord(hidden[0]):04x}", text) + "\n")


def read_recommendation(path: Path) -> Recommendation:
    """Raises ResultsError for a file that is missing or is not a recommendation, with the field that is wrong."""
    try:
        return stored(Recommendation, parsed_json(path, read_text(path, _MAX_BYTES)), strict=True)
    except InputError as error:
        raise ResultsError(f"{error}; {_REMEDY}") from error
    except StoredError as error:
        raise ResultsError(f"{shown(path)} is not a recommendation (schema 1): {error}; {_REMEDY}") from error
