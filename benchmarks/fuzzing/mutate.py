"""Mutations of text, bytes and plain values: what people mistype, what programs write, and what attackers try."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 10**30, 0.5, -0.0, 1e-300, 1e308, float("nan"), float("inf"), "", " ", "x", "0",
    "1e999", "NaN", "-5ms", "10%", "5GB", "p99", "{port}", "{nothing}", "{{x}}", "../../x", "/etc/passwd", "/dev/zero",
    "a\0b", "\ud83d", "\ud83d\ude00", "\u202e\u2066", "\x1b[31m", "line\nbreak", "é" * 300, "x" * 5000, "<script>",
    "on",
    "no", "1:30", "2024-01-01", [], {}, [[]], [None], {"a": {}}, {"": 1}, ["x"] * 50, {"low": 0, "high": 10**12},
)  # fmt: skip
_TOKENS = (
    "!!bool maybe", "!!int x", "0x_", "&a [*a]", "&p {<<: *p}", "*nowhere", "!!python/object:os.system x",
    "%YAML 9.9\n",
    "---\n", "...\n", "? ", ": ", "- [", "{", "}", "\t", "\0", "\ufeff", "\u2028", "'", '"', "|\n", "<<: ", "#", "\\",
    "NaN", "Infinity", "1e999", ",,", ";", "\r", '"\\ud800"', "[" * 300,
)  # fmt: skip


def mutated(rng: random.Random, content: Any) -> Any:
    """Plain values with one to three changes somewhere in them."""
    found = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        found = _changed(rng, found)
    return found


def _changed(rng: random.Random, content: Any) -> Any:
    places = list(_places(content))
    if not places:
        return copy.deepcopy(rng.choice(NASTY))
    holder, key = rng.choice(places)
    change = rng.choice((_replace, _replace, _replace, _drop, _rename, _wrap, _swap))
    change(rng, holder, key, places)
    return content


def _places(content: Any) -> Any:
    waiting = [content]
    while waiting:
        holder = waiting.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
        for key, value in list(items):
            yield holder, key
            waiting.append(value)


def _replace(rng: random.Random, holder: Any, key: Any, _: Any) -> None:
    holder[key] = copy.deepcopy(rng.choice(NASTY))


def _drop(_rng: random.Random, holder: Any, key: Any, _: Any) -> None:
    del holder[key]


def _rename(rng: random.Random, holder: Any, key: Any, _: Any) -> None:
    if isinstance(holder, dict):
        holder[rng.choice(("", "x", f"{key}s", str(key).upper(), "../x", "a\0b", "\u202e"))] = holder.pop(key)


def _wrap(rng: random.Random, holder: Any, key: Any, _: Any) -> None:
    holder[key] = rng.choice(([holder[key]], {"a": holder[key]}, str(holder[key])))


def _swap(rng: random.Random, holder: Any, key: Any, places: list[Any]) -> None:
    other, at = rng.choice(places)
    if (isinstance(holder, dict) or key < len(holder)) and (isinstance(other, dict) or at < len(other)):
        holder[key] = copy.deepcopy(other.get(at) if isinstance(other, dict) else other[at])


def mutated_text(rng: random.Random, text: str) -> bytes:
    """Text with changes to its lines and letters, in one encoding or another."""
    for _ in range(rng.randint(1, 3)):
        text = rng.choice(_TEXT)(rng, text)
    encoding = rng.choices(("utf-8", "utf-8-sig", "utf-16", "latin-1"), weights=(20, 1, 1, 1))[0]
    return mutated_bytes(rng, text.encode(encoding, errors="replace")) if rng.random() < 0.1 else text.encode(
        encoding, errors="surrogatepass" if encoding.startswith("utf") else "replace"
    )  # fmt: skip


def mutated_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flipped, cut, doubled."""
    found = bytearray(data)
    kind = rng.randrange(4)
    if not found:
        return bytes(rng.randrange(256) for _ in range(20))
    if kind == 0:
        for _ in range(rng.randint(1, 8)):
            found[rng.randrange(len(found))] = rng.randrange(256)
    elif kind == 1:
        del found[rng.randrange(len(found)) :]
    elif kind == 2:
        at = rng.randrange(len(found))
        found[at:at] = bytes(rng.choice((b"\0", b"\xff\xfe", b"\x1b", b"\r\n", b"\xf0\x9f", b"{" * 50)))
    else:
        at, length = rng.randrange(len(found)), rng.randint(1, 100)
        found[at : at + length] = found[at : at + length] * 2
    return bytes(found)


def _insert(rng: random.Random, text: str) -> str:
    at = rng.randint(0, len(text))
    return text[:at] + rng.choice(_TOKENS) + text[at:]


def _line(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(other, lines[at])
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = " " * rng.randint(0, 6) + lines[at].lstrip()
    return "\n".join(lines)


def _number(rng: random.Random, text: str) -> str:
    digits = [at for at, letter in enumerate(text) if letter.isdigit()]
    if not digits:
        return text
    at = rng.choice(digits)
    nasty = str(json.dumps(rng.choice(NASTY)) if rng.random() < 0.7 else rng.choice(_TOKENS))
    return text[:at] + nasty + text[at + 1 :]


def _cut(rng: random.Random, text: str) -> str:
    return text[: rng.randint(0, len(text))]


_TEXT: tuple[Callable[[random.Random, str], str], ...] = (_insert, _insert, _line, _line, _number, _number, _cut)
