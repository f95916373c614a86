"""The spec's quantities as pydantic types: text becomes a number once, at this edge."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from search_spaces import ParameterValue, QuantityError, parse_duration, parse_percentage, parse_size

_MONEY = re.compile(r"\s*(?:[$€£]\s*)?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?:USD|EUR|GBP)?\s*")

_MAX_MONEY = 1e12  # in any currency


def parse_money(value: object) -> float:
    """An amount of at least 0: `0.04`, `"$0.04"` or `"0.04 USD"`. One currency throughout is the writer's business."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise QuantityError(f"{value!r} is not an amount of money; write for example 0.04")
    match = _MONEY.fullmatch(str(value))
    amount = float(match[1]) if match else _as_float(value)
    if not math.isfinite(amount) or amount < 0:
        raise QuantityError(f"{value!r} is not an amount of money of at least 0; write for example 0.04")
    if amount > _MAX_MONEY:
        raise QuantityError(f"{value!r} is more than anything costs; write for example 0.04")
    return amount


def _as_float(value: str | int | float) -> float:
    try:
        return float(value)  # 1e-05, as YAML writers print small numbers
    except ValueError:
        return math.nan


def _positive(parse: Callable[[object], float]) -> Callable[[object], float]:
    def check(value: object) -> float:
        number = parse(value)
        if number <= 0:
            raise QuantityError(f"{value!r} must be above 0")
        return number

    return check


def _whole(value: ParameterValue) -> ParameterValue:
    """2.0 as 2, which is how a command line has to say it and how a table has it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text_schema(pattern: str, example: str) -> WithJsonSchema:
    schema: dict[str, Any] = {"type": "string", "pattern": pattern, "examples": [example]}
    return WithJsonSchema(schema)


_DURATION = r"^\s*[0-9]*\.?[0-9]+\s*(us|µs|ms|s|m|h)\s*$"
Seconds = Annotated[
    float,
    BeforeValidator(_positive(parse_duration)),
    _text_schema(_DURATION, "90s"),
]
Pause = Annotated[  # seconds, of which there may be none
    float,
    BeforeValidator(parse_duration),
    _text_schema(_DURATION, "2s"),
]
Share = Annotated[float, BeforeValidator(parse_percentage), _text_schema(r"^\s*[0-9]*\.?[0-9]+\s*%\s*$", "0.1%")]
Bytes = Annotated[int, BeforeValidator(parse_size), _text_schema(r"^\s*[0-9]*\.?[0-9]+\s*([KMGT]i|[kMGT])\s*$", "16Gi")]
Money = Annotated[
    float,
    BeforeValidator(parse_money),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "examples": [0.04]}),
]
Choice = Annotated[ParameterValue, AfterValidator(_whole)]
