"""Secret values that this process knows, and their mask: in every text that it prints or writes.

Servers echo what they are sent, and print what they are started with; a database's driver repeats a URL. Whoever learns
a secret remembers it here; whoever lets text out masks it. Only values are known, never where they came from.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any, TextIO
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MASK = "[secret]"
_MIN_LETTERS = 6  # what is shorter stands in any text, and hides nothing from who can count
_SENSITIVE = re.compile(r"pass|pwd|secret|token|key|credential", re.IGNORECASE)

_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def remember(*values: str | None) -> None:
    """Mask these from now on, in the forms in which they are sent and written."""
    global _pattern  # noqa: PLW0603 (what a process knows is known to all of it)
    before = len(_known)
    for value in values:
        if value is not None and len(value.strip()) >= _MIN_LETTERS:
            _known.update(_forms(value))
    if len(_known) > before:
        longest_first = sorted(_known, key=len, reverse=True)
        # The mask first: what is masked already stays as it is, even where a secret is part of the mask.
        _pattern = re.compile("|".join(map(re.escape, [MASK, *longest_first])))


def remember_pair(user: str | None, password: str | None) -> None:
    """As `remember`, for a password that is sent with its user in one header (RFC 7617)."""
    remember(password)
    if user is not None and password is not None:
        remember(base64.b64encode(f"{user}:{password}".encode()).decode())


def remember_url(url: str) -> None:
    """The passwords in a URL: before the host, where it may hold what should have been escaped, and in its query."""
    rest = url.partition("://")[2]
    account = rest.rpartition("@")[0]
    if ":" in account:
        remember(account.partition(":")[2])
    # An `@` or `?` within a password leaves no telling what is what: then every reading is a secret.
    for part in re.split(r"[?&]", rest)[1:]:
        name, _, value = part.partition("=")
        if _SENSITIVE.search(name):
            remember(value)


def harmless_url(url: str) -> str:
    """A URL for a message: without account and query, and no more than its scheme where they cannot be told apart."""
    scheme, mark, rest = url.partition("://")
    if not mark or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return "[a URL]"
    account, at, place = rest.partition("@")
    if "@" in place or (at and "?" in account):
        return f"{scheme}://..."
    return masked(f"{scheme}://{(place if at else rest).partition('?')[0]}")


def masked(text: str) -> str:
    """The text without any secret that is known."""
    return text if _pattern is None else _pattern.sub(MASK, text)


def masked_values(content: Any) -> Any:
    """Plain values (as JSON has them) with every text in them masked."""
    if isinstance(content, str):
        return masked(content)
    if isinstance(content, dict):
        return {masked(key) if isinstance(key, str) else key: masked_values(value) for key, value in content.items()}
    return [masked_values(one) for one in content] if isinstance(content, list | tuple) else content


def masked_bytes(data: bytes) -> bytes:
    """As `masked`, of a log in whatever encoding; a secret is found as UTF-8."""
    if _pattern is None:
        return data
    return masked(data.decode(errors="surrogateescape")).encode(errors="surrogateescape")


class MaskedStream:
    """A text stream whose writes are masked; all else is the stream's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As the stream's; returns the length of what was given."""
        self._stream.write(masked(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """As the stream's."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _forms(value: str) -> set[str]:
    written = json.dumps(value)[1:-1]
    found = {
        value,
        value.strip(),
        unquote(value),
        unquote_plus(value),
        quote(value, safe=""),
        quote_plus(value),
        written,
    }
    found.add(base64.b64encode(value.encode(errors="surrogateescape")).decode())
    return {one for one in found if len(one.strip()) >= _MIN_LETTERS}
