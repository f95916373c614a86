"""From the path of a spec to a checked spec with its search space, or an error that names file, line and key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runners.servers import AdapterError, adapter_named, adapter_names, server_preset
from search_spaces import (
    ROLES,
    Constraint,
    ExpressionError,
    Parameter,
    SearchSpace,
    SpaceError,
    load_preset,
    preset_names,
)
from tuner.catalogue import TERMS, OwnHardware, catalogue_names, is_catalogue, load_catalogue
from tuner.errors import SpecError, UsageError
from tuner.runner_spec import RunnerSpec
from tuner.spec import ParameterSpec, Spec
from tuner.yaml_file import KeyPath, YamlFile

_SHOWN_ERRORS = 3


@dataclass(frozen=True)
class LoadedSpec:
    """A spec that is right as far as can be known without launching anything.

    `content` is what the file says, with a named price file's contents in place: enough to read it again elsewhere.
    """

    file: YamlFile
    content: dict[str, Any]
    spec: Spec
    space: SearchSpace

    @property
    def folder(self) -> Path:
        """Where relative paths of the spec start."""
        return self.file.path.resolve().parent

    @property
    def p99_limit_ms(self) -> float | None:
        """The limit on latency that the SLO sets at its 95th percentile or above; None where it sets none."""
        limits = self.spec.slo.limits if self.spec.slo else ()
        return next((one.limit_s * 1e3 for one in limits if one.metric == "latency" and one.percentile >= 95), None)

    def error(self, key: KeyPath, message: str) -> SpecError:
        """An error at a key of this spec."""
        return self.file.error(key, message)

    def with_runner(self, runner: str | None) -> LoadedSpec:
        """The same spec on another runner (`--runner`)."""
        if runner is None or runner == self.spec.runner.type:
            return self
        try:
            table = self.spec.runner.table if runner == "replay" else None
            chosen = RunnerSpec.model_validate(dict(self.spec.runner) | {"type": runner, "table": table})
        except ValidationError as error:
            raise SpecError(
                f"--runner {runner}: {_message(error.errors()[0])} ({self.file.place(('runner',))})"
            ) from error
        return replace(self, spec=self.spec.model_copy(update={"runner": chosen}))


def load_spec(path: Path) -> LoadedSpec:
    """Raises SpecError of at most three problems, one a line."""
    file = YamlFile.read(path)
    if not isinstance(file.content, dict):
        raise SpecError(f"a spec is a mapping that begins with `version: 1` ({path}:1)")
    content = dict(file.content)
    content["prices"] = _prices(file, content.get("prices"))
    if content["prices"] is None:
        del content["prices"]
    return check_content(file, content)


def check_content(file: YamlFile, content: dict[str, Any]) -> LoadedSpec:
    """A spec from plain values. Raises SpecError of at most three problems, one a line."""
    try:
        spec = Spec.model_validate(content)
    except ValidationError as error:
        problems = _without_echoes(error.errors())
        lines = [str(file.error(_known_part(problem["loc"], file), _describe(problem))) for problem in problems]
        more = len(lines) - _SHOWN_ERRORS
        shown = lines if more <= 0 else [*lines[: _SHOWN_ERRORS - 1], f"{more + 1} more problems"]
        raise SpecError("\n".join(shown)) from error
    return LoadedSpec(file, content, spec, _build_space(file, spec))


def _prices(file: YamlFile, given: Any) -> Any:
    """What the spec writes of prices, and beneath it those of a catalogue or of a machine: complete without either."""
    if isinstance(given, str):
        path = file.path.parent / given
        content = YamlFile.read(path).content if path.is_file() and given not in catalogue_names() else None
        if content is None or is_catalogue(content):
            return _prices(file, {"catalogue": given})
        return _prices(file, content)
    if not isinstance(given, dict):
        return given
    beneath: dict[str, Any] = {}
    if isinstance(name := given.get("catalogue"), str):
        try:
            catalogue = load_catalogue(name, file.path.parent)
        except UsageError as error:
            raise file.error(("prices",), str(error)) from error
        terms = given.get("terms", "on_demand")
        if terms in TERMS:
            source = f"{catalogue.title}, {catalogue.region}, {terms}, {catalogue.date}: {catalogue.source}"
            beneath = catalogue.parts(terms) | {"source": source}
    if isinstance(own := given.get("own"), dict):
        try:
            parts = OwnHardware.model_validate(own).parts()
        except ValidationError:
            return given  # it is said with the other errors, where it stands
        beneath = {**beneath, **parts, "gpu_hour": {**beneath.get("gpu_hour", {}), **parts.get("gpu_hour", {})}}
    gpus = {**beneath.get("gpu_hour", {}), **(given.get("gpu_hour") or {})}
    return {**beneath, **given, **({"gpu_hour": gpus} if gpus else {})}


def _build_space(file: YamlFile, spec: Spec) -> SearchSpace:
    constraints: list[Constraint] = []
    try:
        described: dict[str, ParameterSpec] = {}
        from_preset: tuple[str, ...] = ()
        if (name := _preset_name(spec)) is not None:
            parameters, from_preset = _preset(name)
            described = {name: ParameterSpec.model_validate(value) for name, value in parameters.items()}
        described |= spec.space.parameters
        constraints = [Constraint.parse(text) for text in from_preset]
        for index, text in enumerate(spec.space.constraints):
            try:
                constraints.append(Constraint.parse(text))
            except ExpressionError as error:
                raise SpaceError(str(error), ("constraints", index)) from error
        space = SearchSpace(tuple(_parameter(name, value) for name, value in described.items()), tuple(constraints))
        if space.size.count == 0:
            raise SpaceError("no configuration satisfies all the constraints; loosen one", ("constraints",))
    except SpaceError as error:
        where = error.where
        if where[:1] == ("constraints",) and len(where) > 1 and _preset_name(spec) is not None:
            where = ("constraints", int(where[1]) - len(constraints) + len(spec.space.constraints))
        raise file.error(("space", *where), str(error)) from error
    except ExpressionError as error:
        raise file.error(("space", "constraints"), str(error)) from error
    if spec.current is not None and (problem := space.why_invalid(spec.current)):
        raise file.error(("current",), f"{problem}; the current configuration must lie in the space")
    return space


def _preset_name(spec: Spec) -> str | None:
    """A server with an adapter has a preset of its own, which holds where the spec names no parameter."""
    server = spec.service.server
    return spec.space.preset or (server if server != "custom" and not spec.space.parameters else None)


def _preset(name: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Parameters and constraints, of a server or of a file of ours."""
    if name in preset_names():
        preset = load_preset(name)
        return preset.parameters, preset.constraints
    try:
        return server_preset(adapter_named(name))
    except AdapterError as error:
        known = ", ".join((*preset_names(), *adapter_names()))
        raise SpaceError(f"no preset is named {name!r}; there are {known}", ("preset",)) from error


def _parameter(name: str, described: ParameterSpec) -> Parameter:
    choices: Any = described.choices
    if choices is None:
        assert described.low is not None and described.high is not None  # noqa: S101, PT018 (the model's validator)
        choices = range(described.low, described.high + 1, described.step)
    role: Any = described.role
    if role is None and name in ROLES:
        role = name  # a parameter named like a role has it, unless it says `role: none`
    return Parameter(name, choices, None if role == "none" else role)


def _without_echoes(problems: list[ErrorDetails]) -> list[ErrorDetails]:
    """A value that fits no member of a union is reported once per member; the first report says enough."""
    seen: set[KeyPath] = set()
    kept = []
    for problem in problems:
        place = tuple(part for part in problem["loc"] if part not in ("bool", "int", "float", "str"))
        if place not in seen:
            seen.add(place)
            kept.append(problem)
    return kept


def _known_part(loc: KeyPath, file: YamlFile) -> KeyPath:
    """The error's path without what pydantic adds (a union's member); a missing key keeps its own name."""
    return tuple(part for part in loc if part not in ("bool", "int", "float", "str")) if loc not in file.lines else loc


def _describe(problem: ErrorDetails) -> str:
    if problem["type"] == "extra_forbidden":
        name, known = str(problem["loc"][-1]), _keys_at(problem["loc"][:-1])
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; there are {', '.join(known)}"
    return _message(problem)


def _message(problem: ErrorDetails) -> str:
    if problem["type"] == "missing":
        return "is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message
    shown = repr(problem["input"])
    return f"{message[0].lower()}{message[1:]}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _keys_at(loc: KeyPath) -> list[str]:
    """The keys that the model at a path of the spec knows, as they are written in YAML."""
    model: Any = Spec
    for part in loc:
        model = _inside(model, part)
    fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
    return [info.alias or name for name, info in fields.items()]


def _inside(model: Any, part: str | int) -> Any:
    if isinstance(model, type) and issubclass(model, BaseModel):
        by_key = {info.alias or name: info.annotation for name, info in model.model_fields.items()}
        return by_key.get(str(part))
    if getattr(model, "__origin__", None) in (dict, Mapping):
        return model.__args__[1]
    return None
