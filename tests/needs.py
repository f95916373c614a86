"""What a test needs, read from its code and that of its fixtures: processes of its own, or an engine.

Fixtures say it first (`needs_machine`, `needs_engine`). This finds those that say nothing, by the names that their code
uses, down through the helpers in `tests/`: whoever writes a test with `subprocess` in it has nothing to remember.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

_STARTERS = frozenset({"Popen", "run", "call", "check_call", "check_output"})
_CLASSES = frozenset({"LoadGenerator", "ProcessRunner", "DockerRunner"})  # each starts a process when it is used
_ENGINES = frozenset({"tests.runners.engines", "tests.browser"})


def needed(functions: Iterable[Any]) -> str | None:
    """The marker for a test made of these functions (its own and its fixtures'): `engine`, `machine` or none."""
    found = {need for function in functions for need in _needs(function)}
    return next((need for need in ("engine", "machine") if need in found), None)


@functools.cache
def _needs(function: Any) -> frozenset[str]:
    seen: set[Any] = set()
    return frozenset(_walk(function, seen))


def _walk(value: Any, seen: set[Any]) -> Iterator[str]:
    """What a function, or a class of functions, and those of our tests that it names, need."""
    function = inspect.unwrap(value) if callable(value) else value
    if isinstance(function, type):
        for member in vars(function).values():
            if isinstance(member, FunctionType):
                yield from _walk(member, seen)
    elif isinstance(function, FunctionType) and function not in seen:
        seen.add(function)
        if function.__module__ in _ENGINES:
            yield "engine"
        for code in _codes(function.__code__):
            yield from _of(code, function.__globals__, seen)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """It and the functions inside it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


def _of(code: CodeType, known: dict[str, Any], seen: set[Any]) -> Iterator[str]:
    names = set(code.co_names)
    if "subprocess" in names and names & _STARTERS:
        yield "machine"
    for name in names & known.keys():
        value = known[name]
        if getattr(value, "__name__", "") in _CLASSES or getattr(value, "__module__", "") == "subprocess":
            yield "machine"
        elif isinstance(value, ModuleType) and value.__name__.startswith("tests."):
            for member in names & vars(value).keys():
                yield from _walk(vars(value)[member], seen)
        elif getattr(value, "__module__", "").startswith(
            ("tests.", "test_")
        ):  # pytest imports tests by their file's name
            yield from _walk(value, seen)
