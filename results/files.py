"""Files that are never seen half written, and the recommendation's own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from results.records import Recommendation
from results.text import visible

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


def write_text(path: Path, text: str) -> None:
    """Write the whole text or nothing. Raises OSError when the disk is full."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_recommendation(folder: Path, recommendation: Recommendation) -> None:
    """`recommendation.json` of the contract. Raises OSError when it cannot be written."""
    text = recommendation.model_dump_json(by_alias=True, indent=2)
    # Outside strings JSON is ASCII, so what remains hidden stands in a string and may be written as its escape there.
    write_text(folder / "recommendation.json", _UNESCAPED.sub(lambda hidden: f"\\u{ord(hidden[0]):04x}", text) + "\n")


def read_recommendation(path: Path) -> Recommendation:
    """Raises ResultsError for a file that is missing or is not a recommendation."""
    shown = visible(str(path))
    try:
        return Recommendation.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"cannot read {shown}: {error.strerror}; {_REMEDY}") from error
    except UnicodeDecodeError as error:
        raise ResultsError(f"{shown} is not a recommendation: not UTF-8; {_REMEDY}") from error
    except ValidationError as error:
        raise ResultsError(f"{shown} is not a recommendation (schema 1): {_first_problem(error)}; {_REMEDY}") from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return " ".join(visible(f"{where}: {first['msg']}" if where else first["msg"]).split())
