"""YAML text as plain values, with the line of every key, so that an error can say where it is.

ruamel.yaml reads YAML 1.2 (`on` and `no` stay words) and reports duplicate keys; tags that would build Python objects
are refused, and so are aliases that multiply into more than a spec could hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tuner.errors import SpecError

_MOST_NODES = 200_000
_LARGEST_FILE = 4 * 2**20
KeyPath = tuple[str | int, ...]


@dataclass
class YamlFile:
    """`content` is plain (dict, list, str, int, float, bool, None); `lines` maps a key's path to its line, from 1."""

    path: Path
    content: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> YamlFile:
        """Raises SpecError: no such file, not UTF-8, not YAML, a duplicate key, an unknown tag, too large."""
        text = _read_text(path)
        try:
            document = YAML(typ="rt", pure=True).load(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = f"{path}:{mark.line + 1}" if mark else str(path)
            problem = " ".join((error.problem or error.context or "not YAML").split())
            raise SpecError(f"not valid YAML: {problem} ({place})") from error
        except (YAMLError, ValueError, RecursionError) as error:
            raise SpecError(f"not valid YAML: {' '.join(str(error).split())[:200]} ({path})") from error
        found = cls(path)
        found.content = found._plain(document, (), 1)
        return found

    def place(self, key: KeyPath) -> str:
        """`file:line` of a key, or of the nearest key above it that the file has."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.lines:
                return f"{self.path}:{self.lines[key[:end]]}"
        return str(self.path)

    def error(self, key: KeyPath, message: str) -> SpecError:
        """The error that names key, file and line."""
        name = ".".join(str(part) for part in key)
        return SpecError(f"{name}: {message} ({self.place(key)})" if name else f"{message} ({self.place(key)})")

    def _plain(self, node: Any, key: KeyPath, line: int) -> Any:
        self.lines[key] = line
        if len(self.lines) > _MOST_NODES or len(key) > 50:
            raise SpecError(f"too many or too deeply nested values; are aliases multiplying? ({self.path}:{line})")
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
        return _scalar(node)

    def _key(self, name: Any, key: KeyPath, node: CommentedMap) -> str:
        if isinstance(name, str | int | float | bool):
            return str(name)
        raise SpecError(f"{'.'.join(map(str, key))}: a key must be text, not {name!r} ({self.path}:{node.lc.line + 1})")


def read_documents(path: Path) -> tuple[dict[str, Any], ...]:
    """The mappings of a file with several documents, such as a rendered chart. Raises SpecError."""
    text = _read_text(path)
    try:
        found = list(YAML(typ="safe", pure=True).load_all(text))
    except (YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"not valid YAML: {' '.join(str(error).split())[:200]} ({path})") from error
    return tuple(one for one in found if isinstance(one, dict))


def _read_text(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size > _LARGEST_FILE:
            raise SpecError(f"{path} is larger than {_LARGEST_FILE // 2**20} MiB: is it really a spec?")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError(f"there is no file {path}\n`tune init` writes a spec to start from.") from error
    except IsADirectoryError as error:
        raise SpecError(f"{path} is a folder, not a spec; name the YAML file in it") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}") from error


def _scalar(node: Any) -> Any:
    """Ruamel's round-trip scalars are subclasses that remember how they were written; a spec needs the value."""
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    # Dates and the like: their text is what was meant.
    return None if node is None else str(node)
