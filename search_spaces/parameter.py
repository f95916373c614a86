"""A parameter: a name, the values it may take in order, and what it physically means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from search_spaces.values import QuantityError, parse_duration, parse_size, quantity

ParameterValue = bool | int | float | str
Configuration = Mapping[str, ParameterValue]
Role = Literal[
    "cpu_cores", "memory", "gpu_type", "gpu_memory", "batch_size", "batch_delay", "threads", "workers", "replicas",
    "precision", "instances", "concurrency", "gpu_memory_share", "engine", "compile", "gpus", "instance_type",
    "gpu_compute", "power_cap", "tensor_parallel", "pipeline_parallel", "sequence_parallel",
]  # fmt: skip
ROLES: tuple[Role, ...] = get_args(Role)
# What a runner grants and a price counts; every other role only says what a parameter means.
RESOURCE_ROLES: tuple[Role, ...] = (
    "cpu_cores", "memory", "gpu_type", "gpu_memory", "gpu_compute", "gpus", "replicas",
)  # fmt: skip

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COUNTS = ("batch_size", "threads", "workers", "replicas", "instances", "concurrency", "gpus")


class SpaceError(ValueError):
    """The space makes no sense. `where` names the part of it: a parameter, or `constraints`."""

    def __init__(self, message: str, where: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.where = where


_LARGEST = 2**53  # beyond it a number is none that a table, a study or JSON keeps


@dataclass(frozen=True)
class Parameter:
    """`choices` in the order given: a tuple, or a `range` for an integer range with a step."""

    name: str
    choices: Sequence[ParameterValue]
    role: Role | None = None

    def __post_init__(self) -> None:
        where = ("parameters", self.name)
        if not _NAME.fullmatch(self.name):
            raise SpaceError(f"parameter name {self.name!r}: use letters, digits and _, not first a digit", where)
        if not self.choices:
            raise SpaceError(f"parameter {self.name} has no choices", where)
        if not isinstance(self.choices, range):
            if any(value is None for value in self.choices):
                raise SpaceError(f"parameter {self.name}: None is no choice; write it as text, such as 'none'", where)
            texts = [text_of(value) for value in self.choices]
            repeated = sorted({text for text in texts if texts.count(text) > 1})
            if repeated:
                raise SpaceError(f"parameter {self.name} names {', '.join(repeated)} more than once", where)
            if len(set(self.choices)) < len(self.choices):
                raise SpaceError(f"parameter {self.name} has truth values and numbers that are the same", where)
        for value in (self.choices[0], self.choices[-1]) if isinstance(self.choices, range) else self.choices:
            if isinstance(value, int | float) and abs(value) > _LARGEST:
                raise SpaceError(f"parameter {self.name} has a number beyond {_LARGEST:.0e}", where)
        _check_role(self, (*where, "choices"))

    @property
    def ordered(self) -> bool:
        """Whether every choice stands for a number, so that near choices behave alike."""
        return isinstance(self.choices, range) or all(
            isinstance(quantity(value), float) and not isinstance(value, bool) for value in self.choices
        )


def text_of(value: object) -> str:
    """A value as it is written in a command line, a file or a table: `true` for True, `8` for 8."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_role(parameter: Parameter, where: tuple[str | int, ...]) -> None:
    """A role promises what its values are: sizes have units, counts are whole and positive."""
    ends = (parameter.choices[0], parameter.choices[-1])
    values = ends if isinstance(parameter.choices, range) else parameter.choices
    for value in values:
        problem = _role_problem(parameter.role, value)
        if problem:
            raise SpaceError(f"{parameter.name}: {problem} (its role is {parameter.role})", where)


def _role_problem(role: Role | None, value: ParameterValue) -> str | None:
    if role == "memory":
        try:
            return None if parse_size(value) > 0 else f"{value!r} is no memory at all"
        except QuantityError as error:
            return str(error)
    if role == "cpu_cores" and (isinstance(value, bool | str) or not 0 < value < float("inf")):
        return f"{value!r} is not a number of cores above 0"
    if role in _COUNTS and (isinstance(value, bool | str) or value != int(value) or value < 0):
        return f"{value!r} is not a whole number of at least 0"
    if role == "replicas" and value == 0:
        return "0 replicas serve nothing"
    if role == "batch_delay" and isinstance(value, str):
        try:
            parse_duration(value)
        except QuantityError as error:
            return str(error)
    if role == "gpu_memory_share":
        share = quantity(value)
        return None if isinstance(share, float) and 0 < share <= 1 else f"{value!r} is no share such as 0.9"
    if role == "gpu_type" and not isinstance(value, str):
        return f"{value!r} is not a GPU's name"
    return None
