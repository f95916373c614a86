"""A server's log, bounded while it is written: its beginning and its end are kept, whatever a server prints.

The server writes to the file itself, so that no reader of ours can slow it down. Where it prints too much, the space in
between is given back to the disk (a hole in the file); once it has ended, the file is written anew without the hole.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from search_spaces.masking import masked_bytes

MAX_HEAD_BYTES, MAX_TAIL_BYTES = 256 << 10, 4 << 20
_SLACK_BYTES = 16 << 20  # how much more than that may lie there before something is done
_END_BYTES = 2000  # of a log, that a failure carries
_LOOK_BYTES = 2 * _END_BYTES  # of which that is the end, lest a secret is cut in two
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # fallocate(2)


class BoundedLog:
    """The file that a server prints to."""

    def __init__(self, path: Path) -> None:
        self._path, self._freed = path, MAX_HEAD_BYTES

    def trim(self) -> None:
        """Free the space between the beginning and the end. Called again and again; costs nothing for a short log."""
        try:
            size = self._path.stat().st_size
        except OSError:
            return
        end = size - MAX_TAIL_BYTES
        if end - self._freed < _SLACK_BYTES:
            return
        with contextlib.suppress(OSError), self._path.open("r+b") as file:
            if not _punch(file.fileno(), self._freed, end - self._freed):
                file.truncate(0)  # what the server writes next makes a file with a hole before it
            self._freed = end

    def finish(self) -> None:
        """The server has ended: leave a file of bounded size, without any secret."""
        with contextlib.suppress(OSError):
            self._path.chmod(0o600)
            size = self._path.stat().st_size
            with self._path.open("rb") as file:
                if size <= MAX_HEAD_BYTES + MAX_TAIL_BYTES + _SLACK_BYTES:
                    content = whole = file.read()
                else:
                    whole = b""
                    head = file.read(MAX_HEAD_BYTES).rstrip(b"\0")
                    file.seek(size - MAX_TAIL_BYTES)
                    tail = file.read(MAX_TAIL_BYTES).lstrip(b"\0")
                    left_out = size - len(head) - len(tail)
                    content = head + f"\n[{left_out} bytes are left out here]\n".encode() + tail
            content = masked_bytes(content)
            if content != whole:
                part = self._path.with_name(f".{self._path.name}.part")
                part.write_bytes(content)
                part.chmod(0o600)
                part.replace(self._path)


def bounded(pieces: Iterable[bytes]) -> bytes:
    """A log that comes piece by piece, as `BoundedLog` would have kept it."""
    head, tail, left_out = bytearray(), bytearray(), 0
    for piece in pieces:
        room = max(0, MAX_HEAD_BYTES - len(head))
        head += piece[:room]
        tail += piece[room:]
        if len(tail) > 2 * MAX_TAIL_BYTES:
            left_out += len(tail) - MAX_TAIL_BYTES
            del tail[:-MAX_TAIL_BYTES]
    between = f"\n[{left_out} bytes are left out here]\n".encode() if left_out else b""
    return masked_bytes(bytes(head) + between + bytes(tail))


def end_of(log: bytes) -> str:
    """The end of a log, as a failure carries it: secrets are masked before it is cut."""
    return masked_bytes(log)[-_END_BYTES:].decode("utf-8", errors="replace")


def end_of_file(path: Path) -> str:
    """As `end_of`, of the file that a server prints to; empty where there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOOK_BYTES))
            return end_of(log.read())
    except OSError:
        return ""


@contextlib.contextmanager
def bounded_log(path: Path) -> Iterator[BoundedLog]:
    """The log of a server that prints to that file, for as long as the block runs."""
    log = BoundedLog(path)
    try:
        yield log
    finally:
        log.finish()


def _punch(descriptor: int, start: int, length: int) -> bool:
    """Whether the file system could free that stretch of the file."""
    libc = ctypes.CDLL(None, use_errno=True)
    mode = ctypes.c_int(_PUNCH_HOLE | _KEEP_SIZE)
    try:
        return int(libc.fallocate(ctypes.c_int(descriptor), mode, ctypes.c_long(start), ctypes.c_long(length))) == 0
    except AttributeError:  # no glibc
        return False
