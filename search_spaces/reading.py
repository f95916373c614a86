"""How every file of a user's is read: bounded in size and time, in a known encoding, with errors that name the place.

It lies in the lowest room because every room reads files; it knows nothing of any of them. A parser's own exceptions
are turned into `InputError` here, and nowhere else.
"""

from __future__ import annotations

import codecs
import errno
import json
import math
import os
import re
import select
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_TEXT_BYTES = 64 << 20  # of a data file; a spec's limit is its own
_PIPE_S = 10.0  # a pipe, as from `<(...)`, has to end by then
_PIECE = 1 << 20
_MAX_STATE_BYTES = 4 << 20
_QUOTED, _PATH = 60, 200  # letters of what is shown
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_SURROGATES = re.compile("[\ud800-\udfff]")


class InputError(ValueError):
    """A file that cannot be read, or is not what it should be: `path:line: what is wrong`.

    `reason` is the last part alone; `line` counts from 1, and is None where the whole file is meant.
    """

    def __init__(self, path: Path, reason: str, line: int | None = None) -> None:
        self.path, self.reason, self.line = path, reason, line
        place = shown(path) if line is None else f"{shown(path)}:{line}"
        super().__init__(f"{place}: {reason}")


def foreign(text: str) -> str:
    """What another program said, for a message of ours: with apostrophes for its backticks, in which our messages name
    their arguments (`resume`).
    """
    return text.replace("`", "'")


def quoted(value: object, max_length: int = _QUOTED) -> str:
    r"""A value for a message: short, on one line, without control characters, marks that reorder text, or backticks
    (`\x60`), in which our messages name their arguments.
    """
    text = repr(value).replace("`", r"\x60")
    return text if len(text) <= max_length else f"{text[: max_length - 3]}..."


def shown(path: Path | str) -> str:
    """A path for a message, as `quoted`; without quotes where it is harmless."""
    text = str(path)
    text = (text if text.isprintable() else repr(text)[1:-1]).replace("`", r"\x60")
    return text if len(text) <= _PATH else f"{text[: _PATH // 2]}...{text[-_PATH // 2 :]}"


def read_bytes(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """The whole file. Raises InputError: there is none, it may not be read, it is a folder or a device, or larger."""
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(path, _why(error)) from error
    except ValueError as error:  # a NUL, or half a surrogate pair, in the name
        raise InputError(path, "is not a path that a file can have") from error
    try:
        return _content(path, descriptor, max_bytes)
    except OSError as error:
        raise InputError(path, _why(error)) from error
    finally:
        os.close(descriptor)


def why_outside(name: str) -> str | None:
    """Why a name leads out of the folder that it is meant for, or None: it is relative, and goes nowhere up."""
    parts = name.replace("\\", "/").split("/")
    if not name.strip() or name.startswith(("/", "\\", "~")) or "\0" in name or parts[-1] in ("", "."):
        return "is not the relative name of a file"
    return "leads out of its folder" if ".." in parts else None


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; not where the path is none that a file can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether there is such a file; not where the path is none that a file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """UTF-8, or what a byte order mark says. Raises InputError, for text that is none with the line."""
    return decoded(path, read_bytes(path, max_bytes))


def read_state(path: Path) -> str:
    """A small file that a run keeps for itself or for others: nobody waits for a pipe, or reads a device, that somebody
    has put in its place. Raises InputError.
    """
    if not is_file(path):
        raise InputError(path, "is not a file")
    return read_text(path, _MAX_STATE_BYTES)


def decoded(path: Path, data: bytes) -> str:
    """Text from bytes, without its byte order mark. Raises InputError."""
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(path, f"is not UTF-8 text (byte {error.start}); save it as UTF-8", line) from error
    if (at := text.find("\0")) >= 0:
        raise InputError(path, "holds a NUL character; is it text at all?", text.count("\n", 0, at) + 1)
    return text


def read_json(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> Any:
    """The document. Raises InputError; a number that is not finite is named by its field."""
    return parsed_json(path, read_text(path, max_bytes))


def parsed_json(path: Path, text: str, line: int | None = None) -> Any:
    """One document; `line` is where it stands in the file, if that is not all of it. Raises InputError."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(path, f"is not JSON: {error.msg}", line or error.lineno) from error
    except RecursionError as error:
        raise InputError(path, "is nested too deeply", line) from error
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(path, f"is not JSON: {str(error)[:80]}", line) from error
    if (problem := odd_value(found)) is not None:
        raise InputError(path, problem, line)
    return found


def odd_value(content: Any) -> str | None:
    """What no program can work with in plain values: `a.b.0 is nan; ...`. None where there is nothing of the kind."""
    for key, value in _leaves(content):
        if isinstance(value, float) and not math.isfinite(value):
            return f"{_dotted(key)} is {value}; it must be a finite number"
        if isinstance(value, str) and _SURROGATES.search(value):
            return f"{_dotted(key)} holds half of a surrogate pair, which is no character"
    return None


def joined_surrogates(text: str) -> str:
    r"""Pairs of surrogates, as JSON's `\ud83d\ude00` escapes one character, as that character; a lone half stays."""
    if not _SURROGATES.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def has_lone_surrogate(text: str) -> bool:
    """Whether it holds what cannot be encoded."""
    return _SURROGATES.search(text) is not None


def _leaves(content: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Without recursion: the parser went deeper than this function could."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), content)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [((*key, name), inner) for name, inner in value.items()]
            yield from ((key, name) for name in value)
        elif isinstance(value, list):
            waiting += [((*key, index), inner) for index, inner in enumerate(value)]
        else:
            yield key, value


def _dotted(key: tuple[str | int, ...]) -> str:
    return quoted(".".join(map(str, key)))[1:-1] or "the value"


def _content(path: Path, descriptor: int, max_bytes: int) -> bytes:
    kind = os.fstat(descriptor)
    if stat.S_ISDIR(kind.st_mode):
        raise InputError(path, "is a folder, not a file")
    if not (stat.S_ISREG(kind.st_mode) or stat.S_ISFIFO(kind.st_mode)):
        raise InputError(path, "is a device, not a file")
    data, end = bytearray(), time.monotonic() + _PIPE_S
    waits = select.poll()
    waits.register(descriptor, select.POLLIN)
    while len(data) <= max_bytes:
        if stat.S_ISFIFO(kind.st_mode) and not waits.poll(max(0.0, end - time.monotonic()) * 1000):
            raise InputError(path, f"did not end within {_PIPE_S:g} s")
        piece = os.read(descriptor, _PIECE)
        if not piece:
            return bytes(data)
        data += piece
    limit = f"{max_bytes >> 20} MiB" if max_bytes >= 1 << 20 else f"{max_bytes >> 10} KiB"
    raise InputError(path, f"is larger than {limit}, the most that is read")


def _why(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "there is no such file"
    return f"cannot be read: {error.strerror or error}"
