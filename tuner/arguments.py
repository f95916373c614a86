"""What a program passes to the front door, in the types that the rest of tune expects.

Programs pass more than the annotations say: NumPy's numbers from a loop in a notebook, a text where the command line
takes one, a class in place of an object. What cannot be meant is refused here, before anything is done.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Sequence
from pathlib import Path

from tuner.errors import UsageError

_MAX_SHOWN = 40


def path_of(spec: object) -> Path:
    """The spec's file. Raises UsageError for anything else than a path."""
    if isinstance(spec, str | os.PathLike):
        return Path(spec)
    advice = "Write it into a file first, with yaml.safe_dump." if isinstance(spec, dict) else "Text or a Path will do."
    raise UsageError(f"`spec` is the path of a spec's file, and not {_a(spec)}\n{advice}")


def paths_of(given: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """Several paths, or one by itself, whose letters are no paths."""
    return (Path(given),) if isinstance(given, str | os.PathLike) else tuple(map(Path, given))


def whole_number(name: str, given: object, of: str, advice: str = "") -> int | None:
    """A whole number of any type, or None. Raises UsageError for anything else; `of` says what it counts."""
    if given is None:
        return None
    if isinstance(given, numbers.Integral) and not isinstance(given, bool):
        return operator.index(given)
    raise UsageError(f"`{name}` is {of}, not {_shown(given)}{advice}")


def number(name: str, given: object, of: str) -> float | None:
    """A finite number of any type, or None. Raises UsageError for anything else; `of` says what it is, and how one
    looks.
    """
    if given is None:
        return None
    if isinstance(given, numbers.Real) and not isinstance(given, bool) and math.isfinite(given):
        return float(given)
    raise UsageError(f"`{name}` is {of}, not {_shown(given)}")


def refuse_no_observer(observer: object) -> None:
    """Raises UsageError for what can be told nothing: a function, or the class in place of an object."""
    if isinstance(observer, type) or not hasattr(observer, "study_started"):
        raise UsageError(f"`observer` is an object of a class that is derived from tuner.Observer, not {_a(observer)}")


def _a(given: object) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
