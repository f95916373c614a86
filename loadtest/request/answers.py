"""Is an answer good? The checks that a user asks for, on status, JSON paths (RFC 9535) and JSON Schema."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from loadtest.request.request_check import PlanError
from loadtest.request_plan import AnswerCheck
from search_spaces.reading import quoted

if TYPE_CHECKING:
    from jsonschema import SchemaError

_METASCHEMAS = ("http://json-schema.org/", "https://json-schema.org/")

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")

Check = Callable[[int, bytes], str | None]  # of a status and a body: what is wrong, or None


class WrongCheck(PlanError):
    """A JSON path or a schema that is none. `at` is its key within the check, `said` what is wrong with it."""

    def __init__(self, at: tuple[str | int, ...], said: str) -> None:
        super().__init__(f"request.check.{'.'.join(map(str, at))}: {said}")
        self.at, self.said = at, said


def checker(asked: AnswerCheck) -> Check:
    """The checks as one function. Raises WrongCheck for a path or schema that is none."""
    paths = [
        (path, _finder(path), _validator(_as_schema(wanted), ("json", path)))
        for path, wanted in asked.json_paths.items()
    ]
    whole = None if asked.json_schema is None else _validator(asked.json_schema, ("schema",))

    def check(status: int, body: bytes) -> str | None:
        if not (status in asked.status if asked.status else 200 <= status < 300):
            return f"http {status}"
        if not paths and whole is None:
            return None
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return "the answer is not JSON"
        if whole is not None and not whole(document):
            return "the answer does not match the schema"
        for path, find, holds in paths:
            found = find(document)
            if not found or not all(map(holds, found)):
                return f"the answer fails the check of {path}"
        return None

    return check


def _as_schema(wanted: Any) -> Any:
    """A mapping is a schema; anything else is the value itself."""
    return wanted if isinstance(wanted, dict) else {"const": wanted}


def _finder(path: str) -> Callable[[Any], list[Any]]:
    import jsonpath_rfc9535

    try:
        query = jsonpath_rfc9535.compile(path)
    except jsonpath_rfc9535.JSONPathError as error:
        raise WrongCheck(("json",), f"{path!r} is not a JSON path: {error}") from error
    return lambda document: list(query.find(document).values())


def _validator(schema: Any, at: tuple[str, ...]) -> Callable[[Any], bool]:
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    made = validator_for(schema)
    try:
        made.check_schema(schema)
    except SchemaError as error:
        raise WrongCheck((*at, *error.absolute_path), _why_no_schema(error)) from error
    if (lost := next(_unresolved(schema, schema), None)) is not None:
        raise WrongCheck(
            at,
            f"$ref {quoted(lost)} leads out of the schema, and nothing is fetched; copy what it means into $defs",
        )
    valid: Callable[[Any], bool] = made(schema).is_valid
    return valid


def _why_no_schema(error: SchemaError) -> str:
    given = error.instance
    if not isinstance(given, str) or error.validator != "anyOf" or list(error.absolute_path)[-1:] != ["type"]:
        return f"not a JSON schema: {quoted(error.message, 160)[1:-1]}"
    close = difflib.get_close_matches(given.lower(), _TYPES, n=1, cutoff=0.5)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"not a JSON schema: {quoted(given)} is no type; there are {', '.join(_TYPES)}{meant}"


def _unresolved(node: Any, root: Any) -> Iterator[str]:
    """References that lead out of the schema, or to no place in it. One to an `$id` is left to the validator."""
    if isinstance(node, list):
        for inner in node:
            yield from _unresolved(inner, root)
    if not isinstance(node, dict):
        return
    target = node.get("$ref")
    if isinstance(target, str) and not _leads_somewhere(target, root):
        yield target
    for key, inner in node.items():
        if key not in ("const", "enum", "examples", "default"):
            yield from _unresolved(inner, root)


def _leads_somewhere(target: str, root: Any) -> bool:
    document, _, pointer = target.partition("#")
    if document:
        return document.startswith(_METASCHEMAS) or '"$id"' in json.dumps(root)
    place = root
    for part in unquote(pointer).split("/")[1:] if pointer.startswith("/") else ():
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(place, list) and key.isdecimal() and int(key) < len(place):
            place = place[int(key)]
        elif isinstance(place, dict) and key in place:
            place = place[key]
        else:
            return False
    return True
