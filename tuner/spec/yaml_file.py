"""YAML text as plain values, with the line of every key, so that an error can say where it is.

ruamel.yaml reads YAML 1.2 (`on` and `no` stay words) and reports duplicate keys; tags that would build Python objects
are refused, and so are aliases that multiply into more than a spec could hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from search_spaces.reading import InputError, has_lone_surrogate, joined_surrogates, quoted, read_text, shown
from tuner.errors import SpecError

_MAX_NODES = 200_000
_MAX_BYTES = 1 << 20
_MAX_DEPTH = 100
_KEY_TWICE = re.compile(r'found duplicate key "([^"]*)"')
_MERGE = re.compile(r"<<['\"]?\s*:")
_ANY_CHARACTER = (("request", "body"), ("request", "json"))
KeyPath = tuple[str | int, ...]


@dataclass
class YamlFile:
    """`content` is plain (dict, list, str, int, float, bool, None); `lines` maps a key's path to its line, from 1."""

    path: Path
    content: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, missing: str = "") -> YamlFile:
        """Raises SpecError: no such file (`missing` says what makes one), not text, not YAML, a duplicate key, an
        unknown tag, too large.
        """
        text = _read_text(path, missing)
        document = _parsed(path, text, lambda: _reader().load(text))
        found = cls(path)
        found.content = found._plain(document, (), 1)
        return found

    def place(self, key: KeyPath) -> str:
        """`file:line` of a key, or of the nearest key above it that the file has."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.lines:
                return f"{shown(self.path)}:{self.lines[key[:end]]}"
        return shown(self.path)

    def error(self, key: KeyPath, message: str) -> SpecError:
        """The error that names key, file and line."""
        name = quoted(".".join(str(part) for part in key), 200)[1:-1]
        return SpecError(f"{name}: {message} ({self.place(key)})" if name else f"{message} ({self.place(key)})")

    def _plain(self, node: Any, key: KeyPath, line: int) -> Any:
        self.lines[key] = line
        if len(self.lines) > _MAX_NODES or len(key) > _MAX_DEPTH // 2:
            raise SpecError(
                f"too many or too deeply nested values; are aliases multiplying? ({shown(self.path)}:{line})"
            )
        tag = getattr(node, "tag", None)
        if isinstance(node, TaggedScalar) or (tag is not None and getattr(tag, "value", None)):
            raise self.error(key, f"the tag {tag.value if tag else ''} is not allowed; write a plain value")
        if isinstance(node, CommentedMap):
            known = node.lc.data or {}  # what `<<` merges in stands elsewhere
            return {
                self._key(name, key, node): self._plain(
                    value, (*key, str(name)), known[name][0] + 1 if name in known else line
                )
                for name, value in node.items()
            }
        if isinstance(node, CommentedSeq):
            return [self._plain(value, (*key, index), node.lc.item(index)[0] + 1) for index, value in enumerate(node)]
        return self._text(_scalar(node), key)

    def _key(self, name: Any, key: KeyPath, node: CommentedMap) -> str:
        if isinstance(name, str | int | float | bool):
            return str(self._text(str(name), key))
        raise SpecError(
            f"{'.'.join(map(str, key))}: a key must be text, not {quoted(name)} ({shown(self.path)}:{node.lc.line + 1})"
        )

    def _text(self, value: Any, key: KeyPath) -> Any:
        """A scalar; text without what nothing can be done with. A body may hold any character but half of one."""
        if not isinstance(value, str):
            return value
        value = joined_surrogates(value)  # YAML that is JSON escapes an emoji as two
        if has_lone_surrogate(value):
            raise self.error(key, f"{quoted(value)} holds half of a surrogate pair, which is no character")
        if "\0" in value and key[:2] not in _ANY_CHARACTER:
            raise self.error(key, f"{quoted(value)} holds a NUL character, which no name, path or argument can")
        return value


def read_documents(path: Path) -> tuple[dict[str, Any], ...]:
    """The mappings of a file with several documents, such as a rendered chart. Raises SpecError."""
    text = _read_text(path)
    found = _parsed(path, text, lambda: list(_reader("safe").load_all(text)))
    try:
        return tuple(one for one in (_unshared(one, 0) for one in found) if isinstance(one, dict))
    except RecursionError as error:
        raise SpecError(f"too deeply nested, or an alias within its own anchor ({shown(path)}:1)") from error


def _unshared(node: Any, depth: int) -> Any:
    """A copy in which no alias leads back to where it stands."""
    if depth > _MAX_DEPTH:
        raise RecursionError
    if isinstance(node, dict):
        return {key: _unshared(value, depth + 1) for key, value in node.items()}
    return [_unshared(value, depth + 1) for value in node] if isinstance(node, list) else node


def _reader(typ: str = "rt") -> YAML:
    """A reader that stops at the depth which no file needs: its time grows with the square of the depth."""
    yaml = YAML(typ=typ, pure=True)
    yaml.max_depth = _MAX_DEPTH
    return yaml


def _parsed(path: Path, text: str, load: Callable[[], Any]) -> Any:
    """What `load` returns. Raises SpecError with a line for whatever the parser raises: it has no exception of its own
    for a value that its tag does not allow, or for an alias that leads back to itself.
    """
    try:
        if _MERGE.search(text):
            _refuse_circle(path, _reader().compose(text), ())
        return load()
    except SpecError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = _problem(error)
        raise SpecError(f"not valid YAML: {quoted(problem, 160)[1:-1]} ({shown(path)}:{_line(mark)})") from error
    except RecursionError as error:
        raise SpecError(f"too deeply nested, or an alias within its own anchor ({shown(path)}:1)") from error
    except Exception as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        odd = _odd_scalar(text)
        if odd:
            problem = "a value cannot be read as what its tag says, or its form (a number, a date); put it in quotes"
        line = odd or text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise SpecError(f"not valid YAML: {quoted(problem, 160)[1:-1]} ({shown(path)}:{line})") from error


def _problem(error: MarkedYAMLError) -> str:
    """What the parser says; in our words where people meet it often."""
    said = " ".join((error.problem or error.context or "not YAML").split())
    if said.startswith("found character '\\t'"):
        return "a tab cannot indent; use spaces"
    if twice := _KEY_TWICE.match(said):
        return f"the key {twice[1]} stands here a second time; remove one of the two"
    if said.startswith("maximum depth"):
        return "too deeply nested"
    if "another document" in said:
        return "a second document begins here (---); a spec is one"
    return said


def _refuse_circle(path: Path, node: Any, above: tuple[int, ...]) -> None:
    """A mapping that merges itself in. The parser would fail much later, and print while it does."""
    if id(node) in above or len(above) > _MAX_DEPTH:
        place = f"{shown(path)}:{_line(node.start_mark)}"
        raise SpecError(f"too deeply nested, or an alias within its own anchor ({place})")
    if isinstance(node, MappingNode):
        for pair in node.value:
            _refuse_circle(path, pair[1], (*above, id(node)))
    elif isinstance(node, SequenceNode):
        for inner in node.value:
            _refuse_circle(path, inner, (*above, id(node)))


def _odd_scalar(text: str) -> int | None:
    """The line of the first value that cannot be made; None where that cannot be told."""
    yaml = _reader()
    try:
        waiting, seen = [yaml.compose(text)], set[int]()
    except Exception:  # noqa: BLE001 (it is being said already)
        return None
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, ScalarNode):
            try:
                yaml.constructor.construct_object(node)
            except Exception:  # noqa: BLE001
                return _line(node.start_mark)
        elif isinstance(node, MappingNode):
            waiting += [part for pair in reversed(node.value) for part in reversed(pair)]
        elif isinstance(node, SequenceNode):
            waiting += list(reversed(node.value))
    return None


def _line(mark: Any) -> int:
    return 1 if mark is None else int(mark.line) + 1


def _read_text(path: Path, missing: str = "") -> str:
    try:
        return read_text(path, _MAX_BYTES)
    except InputError as error:
        if "no such file" in error.reason:
            raise SpecError(f"there is no file {shown(path)}{missing}") from error
        raise SpecError(str(error)) from error


def _scalar(node: Any) -> Any:
    """Ruamel's round-trip scalars are subclasses that remember how they were written; a spec needs the value."""
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    # Dates and the like: their text is what was meant.
    return None if node is None else str(node)
