"""Answers that a server sends compressed, although it was asked not to (RFC 9110, section 8.4).

Nothing grows without a bound: a few kilobytes can unpack to gigabytes.
"""

from __future__ import annotations

import zlib
from typing import Protocol

MAX_BODY_BYTES = 64 << 20
_HEAD_BYTES = 2  # which say whether deflate has zlib's head
_GZIP, _EITHER = 16 + zlib.MAX_WBITS, 32 + zlib.MAX_WBITS


class AnswerError(Exception):
    """An answer that cannot be read; the message is the failure's kind, in a user's words."""


class Pieces(Protocol):
    """An answer whose body can be read as it comes."""

    def piece(self) -> bytes:
        """What has come since the last piece; waits for some. Empty at the end."""


class Decoder:
    """Takes the layers of a `Content-Encoding` off. Raises AnswerError for one that it does not know."""

    def __init__(self, encoding: str) -> None:
        names = [name for part in encoding.lower().split(",") if (name := part.strip()) not in ("", "identity")]
        self._layers = [_Layer(name) for name in reversed(names)]
        self._size = 0

    def __call__(self, data: bytes) -> bytes:
        """The next part, decoded. Raises AnswerError where it is not what it says, or more than can be held."""
        for layer in self._layers:
            data = layer(data)
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            raise too_large()
        return data

    def end(self) -> None:
        """There is no more. Raises AnswerError where a layer is cut off."""
        if any(not layer.complete for layer in self._layers):
            raise AnswerError("broken answer: its compression is cut off")


class _Layer:
    def __init__(self, name: str) -> None:
        if name not in ("gzip", "x-gzip", "deflate"):
            raise AnswerError(f"the answer is encoded as {name[:20]!r}, which cannot be read")
        self._name, self._started, self._held = name, False, b""
        self._unpack = zlib.decompressobj(_EITHER)

    @property
    def complete(self) -> bool:
        return self._unpack.eof or not (self._started or self._held)

    def __call__(self, data: bytes) -> bytes:
        data, self._held = self._held + data, b""
        if not self._started and len(data) < _HEAD_BYTES:
            self._held = data
            return b""
        first, self._started = not self._started, True
        out = bytearray()
        while data:
            try:
                out += self._unpack.decompress(data, MAX_BODY_BYTES + 1)
            except zlib.error as error:
                if not (first and self._name == "deflate" and not out):
                    raise AnswerError("broken answer: it is not compressed as it says") from error
                # Some servers send deflate without zlib's head.
                first, self._unpack = False, zlib.decompressobj(-zlib.MAX_WBITS)
                continue
            if len(out) > MAX_BODY_BYTES:
                raise too_large()
            data = self._unpack.unused_data
            if self._unpack.eof and data:  # gzip allows one member after the other
                self._unpack = zlib.decompressobj(_GZIP)
        return bytes(out)


def too_large() -> AnswerError:
    """Of an answer that would have to be held."""
    return AnswerError(f"an answer of more than {MAX_BODY_BYTES >> 20} MiB cannot be read")


def decoded_body(answer: Pieces, encoding: str) -> bytes:
    """The decoded body. Raises AnswerError."""
    decode, body = Decoder(encoding), bytearray()
    while piece := answer.piece():
        body += decode(piece)
    decode.end()
    return bytes(body)


class DecodedLines:
    """The lines of an answer that comes encoded."""

    def __init__(self, answer: Pieces, encoding: str) -> None:
        self._answer, self._decode, self._buffer = answer, Decoder(encoding), bytearray()

    def readline(self, sep: bytes) -> bytes:
        """The next line with its end; empty when there are no more. Raises AnswerError."""
        searched = 0
        while (at := self._buffer.find(sep, max(0, searched - len(sep)))) < 0:
            searched = len(self._buffer)
            piece = self._answer.piece()
            if not piece:
                self._decode.end()
                return b""
            self._buffer += self._decode(piece)
        line = bytes(self._buffer[: at + len(sep)])
        del self._buffer[: at + len(sep)]
        return line
