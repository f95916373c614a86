"""Protobuf's text format, as far as a model's configuration uses it, without the schema that protobuf itself needs.

https://protobuf.dev/reference/protobuf/textformat-spec/. A field that is given once is a value, one that is repeated is
a list; messages are mappings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[A-Za-z0-9_.+\-/]+)|(?P<mark>[{}\[\]<>:,;])"""
)
_MAX_DEPTH = 50
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}


class Word(str):
    """An enum's value or another bare word, which is written without quotes."""

    __slots__ = ()


class TextProtoError(ValueError):
    """The text is not in the format; the message names its line."""


def parse(text: str) -> dict[str, Any]:
    """The message. Raises TextProtoError."""
    return _Parser(text).message(None, 0)


def written(message: Mapping[str, Any], indent: str = "") -> str:
    """The message as text, a field a line."""
    return "".join(f"{indent}{key}{_field(value, indent)}\n" for key, value in message.items())


def _field(value: Any, indent: str) -> str:
    if isinstance(value, Mapping):
        return f" {_braced(value, indent)}"
    if not isinstance(value, list):
        return f": {_scalar(value)}"
    if any(isinstance(one, Mapping) for one in value):
        return f" [ {', '.join(_braced(one, indent) for one in value)} ]"
    return f": [ {', '.join(map(_scalar, value))} ]"


def _braced(message: Mapping[str, Any], indent: str) -> str:
    return f"{{\n{written(message, indent + '  ')}{indent}}}"


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Word | int | float):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._scan())
        self._at = 0

    def _scan(self) -> Iterator[tuple[str, str, int]]:
        place = 0
        while place < len(self._text):
            match = _TOKEN.match(self._text, place)
            if match is None:
                raise self._error(place, f"{self._text[place]!r} is not expected")
            place = match.end()
            if match.lastgroup is not None:
                yield match.lastgroup, match[0], match.start()
        yield "end", "", len(self._text)

    def message(self, closing: str | None, depth: int) -> dict[str, Any]:
        """The fields up to what closes it."""
        found: dict[str, Any] = {}
        while True:
            kind, text, place = self._next()
            if text == closing or (closing is None and kind == "end"):
                return found
            if text in (",", ";") and kind == "mark":
                continue
            if kind != "word" or depth > _MAX_DEPTH:
                raise self._error(place, f"{text!r} where a field's name belongs" if text else "it ends too early")
            colon = self._take(":")
            if self._take("["):
                for value in self._items(depth):
                    _add(found, text, value)
                found.setdefault(text, [])
                found[text] = found[text] if isinstance(found[text], list) else [found[text]]
            elif (opening := self._take("{") or self._take("<")) is not None:
                _add(found, text, self.message("}" if opening == "{" else ">", depth + 1))
            elif colon:
                _add(found, text, self._value())
            else:
                raise self._error(place, f"the field {text} has no value")

    def _items(self, depth: int) -> Iterator[Any]:
        while self._take("]") is None:
            if self._take(",") is not None:
                continue
            opening = self._take("{") or self._take("<")
            yield self._value() if opening is None else self.message("}" if opening == "{" else ">", depth + 1)

    def _value(self) -> Any:
        kind, text, place = self._next()
        if kind == "text":
            parts = [text]
            while self._tokens[self._at][0] == "text":
                parts.append(self._next()[1])
            return "".join(re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), part[1:-1]) for part in parts)
        if kind != "word":
            raise self._error(place, f"{text!r} where a value belongs" if text else "it ends too early")
        if text in ("true", "false"):
            return text == "true"
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
        return Word(text)

    def _next(self) -> tuple[str, str, int]:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _take(self, mark: str) -> str | None:
        kind, text, _ = self._tokens[self._at]
        if kind == "mark" and text == mark:
            self._next()
            return mark
        return None

    def _error(self, place: int, what: str) -> TextProtoError:
        return TextProtoError(f"line {self._text.count(chr(10), 0, place) + 1}: {what}")


def _add(message: dict[str, Any], name: str, value: Any) -> None:
    if name not in message:
        message[name] = value
    elif isinstance(message[name], list):
        message[name].append(value)
    else:
        message[name] = [message[name], value]
