"""What is wrong with a spec, in our words: from what pydantic says to the key and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from tuner.spec.model import Spec
from tuner.spec.yaml_file import KeyPath, YamlFile

_PATTERNS = {  # what a value must be, in words
    r"^/": "must begin with /",
    r"^https?://": "must begin with http:// or https://",
    r"^[A-Z]{3}$": "must be three capital letters, as in USD",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "must be a variable's name: letters, digits and _, no digit first",
    r"^[\w.+-]+/[\w.+-]+$": "must be a media type, as in image/jpeg",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$": "must be 1 to 63 letters, digits, '.', '_' or '-', a letter or digit first",
    r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$": "must be 1 to 63 lower-case letters, digits or '-', '-' at neither end",
}

_TYPES = {  # what a value of another type must be
    "dict_type": "must be a mapping, as in {key: value}",
    "mapping_type": "must be a mapping, as in {key: value}",
    "tuple_type": "must be a list, as in [a, b]",
    "list_type": "must be a list, as in [a, b]",
    "string_type": "must be text",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}
_OTHER_NAMES = {  # what other tools call a metric, where its letters are not nearest to ours
    "capacity_qps": r"^(max(imum)?_)?(req(uest)?s?(_per_s(ec(ond)?)?)?|rps|throughput|capacity|rate)$",
    "tokens_per_second": r"^(output_)?(tps|tok(en)?s?(_per_s(ec)?)?|tokens?_throughput)$",
}
_CHOICE = "must be a number, text, true or false"


def without_echoes(problems: list[ErrorDetails]) -> list[ErrorDetails]:
    """A value that fits no member of a union is reported once per member; the first report says enough. A list whose
    items are wrong is also reported as too short, since none of those counts.
    """
    seen: set[KeyPath] = set()
    kept = []
    for problem in problems:
        place = tuple(part for part in problem["loc"] if part not in ("bool", "int", "float", "str"))
        of_items = problem["type"] == "too_short" and any(one[: len(place)] == place for one in seen)
        if place not in seen and not of_items:
            seen.add(place)
            kept.append(problem)
    return kept


def known_part(loc: KeyPath, file: YamlFile) -> KeyPath:
    """The error's path without what pydantic adds (a union's member); a missing key keeps its own name."""
    return tuple(part for part in loc if part not in ("bool", "int", "float", "str")) if loc not in file.lines else loc


def describe(problem: ErrorDetails) -> str:
    """One problem; an unknown key with the nearest known one."""
    if problem["type"] == "extra_forbidden":
        name, known = str(problem["loc"][-1]), _keys_at(problem["loc"][:-1])
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.55)  # port is not path
        return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; there are {', '.join(known)}"
    if problem["type"] == "model_type" and (known := _keys_at(problem["loc"])):
        if problem["loc"][-2:-1] == ("parameters",):
            return (
                f"is a list of choices, as in [1, 2, 4], or a mapping with choices, or with low and high{_not(problem)}"
            )
        return f"holds keys of its own: {', '.join(known)}{_not(problem)}"
    return message(problem)


def message(problem: ErrorDetails) -> str:
    """What pydantic says of a value, without a secret that it may repeat."""
    if problem["type"] == "missing":
        return "is missing"
    said = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return said
    if problem["type"] == "string_pattern_mismatch":
        said = _PATTERNS.get(problem["ctx"]["pattern"], said)
    elif problem["type"] == "too_short":
        said = f"needs {problem['ctx']['min_length']} or more"
    elif problem["type"] == "bool_type" and "choices" in problem["loc"]:
        said = _CHOICE
    else:
        said = _TYPES.get(problem["type"], said)
    return f"{said[0].lower()}{said[1:]}{_not(problem)}{_meant(problem)}"


def _meant(problem: ErrorDetails) -> str:
    """Where a value is one of several names: the first that has what stands there in it, or else the nearest one."""
    given = problem["input"]
    if problem["type"] != "literal_error" or not isinstance(given, str) or not given or not _not(problem):
        return ""
    names = re.findall(r"'([^']+)'", problem["ctx"]["expected"])
    close = (
        [one for one in names if given.lower() in one.lower()]
        or [one for one in names if re.search(_OTHER_NAMES.get(one, "$^"), given.lower())]
        or difflib.get_close_matches(given.lower(), names, 1, 0.5)
    )
    return f"; did you mean {close[0]}?" if close else ""


def _not(problem: ErrorDetails) -> str:
    """What stands there, but nothing where perhaps the secret itself stands in its variable's place."""
    if {"auth", "secrets"} & set(problem["loc"]):
        return ""
    shown = repr(problem["input"])
    return f", not {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _keys_at(loc: KeyPath) -> list[str]:
    """The keys that the model at a path of the spec knows, as they are written in YAML."""
    model: Any = Spec
    for part in loc:
        model = _inside(model, part)
    model = _known(model)
    fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
    return [info.alias or name for name, info in fields.items()]


def _known(model: Any) -> Any:
    """Of a section that may be left out, the section."""
    if get_origin(model) in (Union, UnionType):
        return next((one for one in get_args(model) if one is not NoneType), None)
    return model


def _inside(model: Any, part: str | int) -> Any:
    model = _known(model)
    if isinstance(model, type) and issubclass(model, BaseModel):
        by_key = {info.alias or name: info.annotation for name, info in model.model_fields.items()}
        return by_key.get(str(part))
    origin = getattr(model, "__origin__", None)
    if origin in (dict, Mapping):
        return model.__args__[1]
    if origin is tuple:
        return model.__args__[0]
    return None
