"""Text with a unit becomes a number: sizes in bytes, durations in seconds, percentages as shares.

The same rules serve the values of parameters (`memory: [512Mi, 1Gi]`) and the rest of a service spec. A bare number
is refused wherever its unit could be guessed in more than one way.
"""

from __future__ import annotations

import math
import re

MIB, GIB = 2**20, 2**30
MIG_PROFILE = re.compile(r"([1-7])g\.([0-9]+)gb(?:\+.*)?")  # NVIDIA's: sevenths of the compute, and gigabytes
_NUMBER_AND_UNIT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµμ%]*)\s*")

# Kubernetes' suffixes: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_SIZE_UNITS = {
    "Ki": 2**10, "Mi": MIB, "Gi": GIB, "Ti": 2**40,
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
}  # fmt: skip
_DURATION_UNITS = {"us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class QuantityError(ValueError):
    """A text that is not the quantity it should be; the message says what is allowed."""


def _split(text: object, what: str, example: str) -> tuple[float, str]:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise QuantityError(f"{text!r} is not a {what}; write for example {example}")
    match = _NUMBER_AND_UNIT.fullmatch(str(text))
    if match is None or not math.isfinite(float(match[1])):
        raise QuantityError(f"{str(text)!r} is not a {what}; write for example {example}")
    return float(match[1]), match[2]


def parse_size(text: object) -> int:
    """Bytes of a size with a Kubernetes suffix: `512Mi` is 536870912. Raises QuantityError without a unit."""
    number, unit = _split(text, "size", "512Mi or 2Gi")
    if unit not in _SIZE_UNITS:
        problem = f'unknown unit "{unit}"' if unit else "no unit"
        raise QuantityError(f'{problem} in "{text}"; use Mi or Gi')
    return round(number * _SIZE_UNITS[unit])


def parse_duration(text: object) -> float:
    """Seconds of a duration: `50ms` is 0.05. Raises QuantityError without a unit, except for zero."""
    number, unit = _split(text, "duration", "50ms, 90s or 2m")
    if number == 0 and not unit:
        return 0.0
    if unit not in _DURATION_UNITS:
        problem = f'unknown unit "{unit}"' if unit else "no unit"
        raise QuantityError(f'{problem} in "{text}"; use us, ms, s, m or h, as in {number:g}ms or {number:g}s')
    return number * _DURATION_UNITS[unit]


def mig_memory(value: object) -> int | None:
    """Bytes of a MIG profile such as `2g.10gb`, whose name rounds them; None for what is none."""
    found = MIG_PROFILE.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else parse_size(f"{found[2]}Gi")


def parse_percentage(text: object) -> float:
    """Share of a percentage: `0.1%` is 0.001. Raises QuantityError without the sign, except for zero."""
    number, unit = _split(text, "percentage", "0.1%")
    if number == 0 and not unit:
        return 0.0
    if unit != "%":
        whole = f" or {number * 100:g}%, whichever is meant" if number <= 1 else ""  # 0.5 may be a half
        raise QuantityError(f'no % in "{text}"; write {number:g}%{whole}')
    if number > 100:
        raise QuantityError(f'"{text}" is more than 100%')
    return number / 100


def quantity(value: bool | int | float | str) -> float | str:
    """The number that a parameter's value stands for, or its text where it stands for none.

    `4` is 4.0, `true` is 1.0, `"512Mi"` is its bytes, `"5ms"` its seconds, `"25%"` is 0.25, `"T4"` stays `"T4"`.
    """
    if isinstance(value, bool | int | float):
        return float(value)
    for parse in (parse_size, parse_duration, parse_percentage):
        try:
            return float(parse(value))
        except QuantityError:
            continue
    try:
        number = float(value)
    except ValueError:
        return value
    return number if math.isfinite(number) else value
