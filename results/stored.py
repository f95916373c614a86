"""Values that come back from files and storages: checked before anything is computed from them.

A record may be damaged, written by a later version, or made by hand: its figures must be finite, not negative and of a
size that something could have, or plans and gates would compute nonsense from them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from results.records import (
    PARTS,
    Choice,
    Recommendation,
    TrialRecord,
)
from results.text import visible
from results.trial_parts import Estimate
from search_spaces.reading import quoted

_MAX_FIGURE = 1e15
_MIN_CAPACITY_QPS = 1e-9
_MAX_NUMBER = 10**9
_SIGNED = ("interference", "saving.value", "saving.low", "saving.high", "untried_improvement")
_ANYBODYS = ("configuration", "evidence")  # anybody's values, and a trial's evidence, which is checked where it is read
_WITHOUT_FIGURES = frozenset((type(None), str, int, bool))
_CONTRADICTING = (Estimate, TrialRecord, Recommendation, Choice)  # whose fields may say something against each other

Record = TypeVar("Record", bound=BaseModel)


class StoredError(ValueError):
    """A stored value that is none; the message names its field: `capacity_qps.value is nan; ...`."""


def stored(kind: type[Record], content: Any, *, strict: bool = False) -> Record:
    """The value that plain content describes, whatever fields a later version has added to it; `strict` for a file that
    anybody may have written. Raises StoredError.
    """
    try:
        found = _validated(kind, content, strict)
    except ValidationError as error:
        raise StoredError(first_problem(error)) from error
    except RecursionError as error:
        raise StoredError("it is nested too deeply") from error
    for problem in problems(found):
        raise StoredError(problem)
    return found


def _validated(kind: type[Record], content: Any, strict: bool) -> Record:
    """Values refuse a field that they do not have, so that nothing is written wrongly; a file may have more of them."""
    try:
        return _read(kind, content, strict)
    except ValidationError as error:
        unknown = {
            _keys(error.title, one["loc"])
            for one in error.errors(include_url=False)
            if one["type"] == "extra_forbidden"
        }
        if not unknown:
            raise
        return _read(kind, _without(content, unknown, ()), strict)


def _read(kind: type[Record], content: Any, strict: bool) -> Record:
    """Strictly, `true` and "50" are no figures; the JSON form is checked, in which a list is as good as a tuple."""
    return kind.model_validate_json(json.dumps(content), strict=True) if strict else kind.model_validate(content)


def _without(content: Any, unknown: set[tuple[int | str, ...]], at: tuple[int | str, ...]) -> Any:
    """A copy without what is at these places."""
    if isinstance(content, Mapping):
        kept = {key: one for key, one in content.items() if (*at, key) not in unknown}
        return {key: _without(one, unknown, (*at, key)) for key, one in kept.items()}
    if isinstance(content, list | tuple):
        return [_without(one, unknown, (*at, index)) for index, one in enumerate(content)]
    return content


def stored_json(kind: type[Record], text: Any) -> Record:
    """As `stored`, but from JSON text. Raises StoredError."""
    return stored(kind, parse_json(text))


def parse_json(text: Any) -> Any:
    """What a stored text of JSON says. Raises StoredError."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise StoredError("it is nested too deeply") from error
    except (ValueError, TypeError) as error:
        raise StoredError(f"it is not JSON ({visible(str(error))[:60]})") from error


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, on one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in _keys(error.title, first["loc"]))
    message = quoted(f"{where}: {first['msg']}" if where else first["msg"], 160)[1:-1]
    return " ".join(message.split())


def _keys(kind: str, place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The place in the JSON of a value of that kind: a trial's parts are flat there."""
    return place[1:] if kind == TrialRecord.__name__ and place and place[0] in PARTS else place


def _fields(value: BaseModel, where: str) -> Iterator[tuple[str, object]]:
    """What it has of numbers and of further values, each with its place in the JSON; without configurations, which are
    anybody's.
    """
    for name, is_part in _names(type(value)):
        one = getattr(value, name)
        if one is not None and not isinstance(one, str):
            yield where if is_part else f"{where}.{name}" if where else name, one


@cache
def _names(kind: type[BaseModel]) -> tuple[tuple[str, bool], ...]:
    """The fields that are looked at, and whether each is a part of a trial, which is flat in the JSON."""
    shown = [name for name in kind.model_fields if name not in _ANYBODYS]
    return tuple((name, issubclass(kind, TrialRecord) and name in PARTS) for name in shown)


def problems(value: BaseModel) -> Iterator[str]:
    """What is wrong with figures, by their fields."""
    if _is_sound(value):
        return
    for where, figure, signed in _figures(value, ""):
        if not math.isfinite(figure):
            yield f"{where} is {figure}; it must be a finite number"
        elif figure < 0 and not signed:
            yield f"{where} is {figure:g}; it must not be negative"
        elif abs(figure) > _MAX_FIGURE:
            yield f"{where} is {figure:g}, which nothing has"
    yield from _contradictions(value)


def _is_sound(value: object) -> bool:
    """Whether nothing can be wrong with any figure. False: something may be, for a slower look to find and to name.

    Thousands of records are read before a page can be shown, and next to all of them are sound.
    """
    if isinstance(value, BaseModel):
        for name, one in vars(value).items():
            if one.__class__ is float:
                if not 0 <= one <= _MAX_FIGURE:
                    return False
            elif one.__class__ not in _WITHOUT_FIGURES and name not in _ANYBODYS and not _is_sound(one):
                return False
        return not (isinstance(value, _CONTRADICTING) and any(_own_contradictions(value, "")))
    if isinstance(value, float):
        return 0 <= value <= _MAX_FIGURE
    if isinstance(value, dict):
        return all(map(_is_sound, value.values()))
    return not isinstance(value, (tuple, list)) or all(map(_is_sound, value))


def _figures(value: object, where: str) -> Iterator[tuple[str, float, bool]]:
    """Every number in it with its field, and whether it may be negative."""
    if isinstance(value, BaseModel):
        for inner, one in _fields(value, where):
            yield from _figures(one, inner)
    elif isinstance(value, float):
        yield where, value, where.endswith(_SIGNED)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _figures(one, f"{where}.{quoted(key)[1:-1]}")
    elif isinstance(value, (tuple, list)):
        for index, one in enumerate(value):
            yield from _figures(one, f"{where}.{index}")


def _contradictions(value: object, where: str = "") -> Iterator[str]:
    yield from _own_contradictions(value, where)
    if isinstance(value, BaseModel):
        for inner, one in _fields(value, where):
            yield from _contradictions(one, inner)
    elif isinstance(value, (tuple, list)):
        for index, one in enumerate(value):
            yield from _contradictions(one, f"{where}.{index}")


def _own_contradictions(value: object, where: str) -> Iterator[str]:
    """What fields of a value say against each other."""
    if isinstance(value, Estimate) and value.low > value.high:
        yield f"{where}: its low end {value.low:g} is above its high end {value.high:g}"
    if isinstance(value, TrialRecord | Recommendation | Choice):
        capacity = value.capacity_qps
        held = value.state == "complete" if isinstance(value, TrialRecord) else capacity is not None
        if held and capacity is not None and not capacity.value >= _MIN_CAPACITY_QPS:
            yield f"{where}{'.' if where else ''}capacity_qps.value is {capacity.value:g}; it must be above 0"
        if isinstance(value, TrialRecord) and not 0 <= value.number <= _MAX_NUMBER:
            yield f"number is {quoted(value.number, 24)}, which no trial has"
