"""Constraints: expressions over parameters, such as `threads * workers <= 2 * cpu_cores`.

Python's parser reads them; only arithmetic, comparison, `and`, `or`, `not`, `in`, conditional expressions and
`min`, `max`, `abs` are accepted, and each is turned into a closure once. Nothing is ever `eval`ed. Values with units
count as numbers: `memory >= "1Gi" * workers` compares bytes.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces.reading import quoted
from search_spaces.values import quantity

Value = float | str | bool | tuple[Any, ...]
Evaluate = Callable[[Mapping[str, Value]], Value]

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_COMPARISON: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.In: lambda item, items: item in items, ast.NotIn: lambda item, items: item not in items,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
_LONGEST = 500  # characters; keeps Python's recursive parser far from its limits


class ExpressionError(ValueError):
    """An expression that cannot be read, or that cannot be evaluated for some configuration."""


@dataclass(frozen=True)
class Constraint:
    """An expression that every valid configuration makes true. `names` are the parameters it reads."""

    text: str
    names: frozenset[str]
    _evaluate: Evaluate = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Raises ExpressionError naming the part that is not allowed."""
        if len(text) > _LONGEST:
            raise ExpressionError(f"is longer than {_LONGEST} characters")
        try:
            body = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ExpressionError(
                f"{text!r} is not an expression such as 'threads <= 2 * cpu_cores'{_other_language(text)}"
            ) from error
        names = {
            node.id for node in ast.walk(body) if isinstance(node, ast.Name) and node.id not in _FUNCTIONS
        }  # functions are names too
        return cls(text, frozenset(names), _compile(body, text))

    @classmethod
    def of(cls, text: str, names: Iterable[str], holds: Callable[[Mapping[str, Value]], bool]) -> Constraint:
        """One that is no expression: `holds` says it, `text` what it asks for."""
        return cls(text, frozenset(names), holds)

    def prefixed(self, prefix: str) -> Constraint:
        """The same over parameters whose names begin with `prefix`."""
        inner, own = self._evaluate, {name: prefix + name for name in self.names}
        text = re.sub(r"[A-Za-z_][A-Za-z0-9_]*", lambda found: own.get(found[0], found[0]), self.text)
        return Constraint.of(
            text, own.values(), lambda values: bool(inner({name: values[one] for name, one in own.items()}))
        )

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Whether the configuration, as quantities, satisfies it. Raises ExpressionError (1 / 0, text < number)."""
        try:
            return bool(self._evaluate(values))
        except (TypeError, ZeroDivisionError, OverflowError) as error:
            shown = ", ".join(f"{name}={values[name]}" for name in sorted(self.names))
            place = f" for {shown}" if shown else ""
            raise ExpressionError(f"{quoted(self.text)} cannot be evaluated{place}: {error}") from error


def _other_language(text: str) -> str:
    """What to write for an operator that other languages have."""
    if re.search(r"&&|\|\||!(?!=)", text):
        return "; write and, or, not"
    return "; write == for equal" if re.search(r"(?<![<>=!])=(?!=)", text) else ""


def _number(value: Value) -> float:
    if isinstance(value, bool | int | float):
        return value
    raise TypeError(f"{value!r} is not a number")


def _compile(node: ast.expr, text: str) -> Evaluate:  # one case per kind of expression
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as constant):
            try:
                value = constant if isinstance(constant, bool) else quantity(constant)
            except OverflowError as error:
                raise ExpressionError(f"{text!r} has a number that is too large") from error
            return lambda _: value
        case ast.Name(id=name) if name not in _FUNCTIONS:
            return lambda values: values[name]
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
            parts = [_compile(item, text) for item in items]
            return lambda values: tuple(part(values) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _compile(operand, text)
            return lambda values: not inner(values)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _compile(operand, text)
            return lambda values: operator.neg(_number(inner(values)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            compute, a, b = _ARITHMETIC[type(op)], _compile(left, text), _compile(right, text)
            # Strings know + and * too, and "x" * 10**9 would fill the memory.
            return lambda values: compute(_number(a(values)), _number(b(values)))
        case ast.BoolOp(op=op, values=operands):
            parts, decide = [_compile(item, text) for item in operands], all if isinstance(op, ast.And) else any
            return lambda values: decide(part(values) for part in parts)
        case ast.Compare():
            return _compile_comparison(node, text)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            which, then, other = _compile(test, text), _compile(body, text), _compile(orelse, text)
            return lambda values: then(values) if which(values) else other(values)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS and arguments:
            function, parts = _FUNCTIONS[name], [_compile(item, text) for item in arguments]
            return lambda values: function(*(part(values) for part in parts))
    shown = ast.get_source_segment(text.strip(), node) or text
    raise ExpressionError(
        f"{shown!r} is not allowed; use parameters, numbers, + - * / // %, comparisons, and, or, not, min, max, abs"
    )


def _compile_comparison(node: ast.Compare, text: str) -> Evaluate:
    if not all(type(op) in _COMPARISON for op in node.ops):
        raise ExpressionError(f"{text!r}: use <, <=, >, >=, ==, != or in to compare")
    operands = [_compile(item, text) for item in (node.left, *node.comparators)]
    compares = [_COMPARISON[type(op)] for op in node.ops]

    def evaluate(values: Mapping[str, Value]) -> bool:
        found = [operand(values) for operand in operands]
        return all(compare(a, b) for compare, a, b in zip(compares, found, found[1:], strict=False))

    return evaluate
