"""From the path of a spec to a checked spec with its search space, or an error that names file, line and key."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runners.servers import AdapterError, adapter_named, adapter_names, server_preset
from search_spaces import (
    ROLES,
    Configuration,
    Constraint,
    ExpressionError,
    Parameter,
    ParameterValue,
    SearchSpace,
    SpaceError,
    load_preset,
    preset_names,
)
from search_spaces.masking import remember, remember_pair
from search_spaces.reading import shown
from tuner.arguments import path_of
from tuner.errors import SpecError
from tuner.spec.chain import Chain, chain_of
from tuner.spec.colocation import ColocationError, ServiceSpace, check_best_effort, common_space, prefix_of, shares_of
from tuner.spec.load import SloLimit
from tuner.spec.model import ColocatedSpec, ParameterSpec, Spec
from tuner.spec.prices.given import prices_of
from tuner.spec.problems import describe, known_part, message, without_echoes
from tuner.spec.runner import RunnerSpec, of_type
from tuner.spec.yaml_file import KeyPath, YamlFile

_USERS = 8  # that ask a best-effort service
_OF_THE_WHOLE = {"share", "after", "entry", "best_effort", "users"}  # of one among several, and of no spec alone
_SHOWN_ERRORS = 3
_LONGER = 1.5
AS_IT_IS = "deployment"  # the one parameter of a space without any


@dataclass(frozen=True)
class LoadedSpec:
    """A spec that is right as far as can be known without launching anything.

    `content` is what the file says, with a named price file's contents in place: enough to read it again elsewhere.
    """

    file: YamlFile
    content: dict[str, Any]
    spec: Spec
    space: SearchSpace
    colocated: tuple[Service, ...] = ()
    at: KeyPath = ()  # where in the file it stands, as one of several
    chain: Chain | None = None  # of all services, where they call one another

    @property
    def services(self) -> tuple[Service, ...]:
        """What a configuration launches: the colocated services, or this spec itself."""
        return self.colocated or (Service("", "", 1.0, self),)

    @property
    def calls(self) -> tuple[str, ...]:
        """The services that this one calls, as one of a chain."""
        return self.chain.calls[self.spec.service.name] if self.chain is not None and self.at else ()

    @property
    def is_called(self) -> bool:
        """Whether it stands in a chain, and is not the entry: the load reaches it through others."""
        return self.chain is not None and bool(self.at) and self.spec.service.name != self.chain.entry

    @property
    def folder(self) -> Path:
        """The folder at which relative paths of the spec start."""
        return self.file.path.resolve().parent

    @property
    def tail_limit(self) -> SloLimit | None:
        """The limit on latency that the SLO sets at the 99th percentile, or else at the nearest to it from the 95th up;
        None where it sets none.
        """
        limits = self.spec.slo.limits if self.spec.slo else ()
        high = [one for one in limits if one.metric == "latency" and one.percentile >= 95]
        return min(high, key=lambda one: abs(one.percentile - 99), default=None)

    @property
    def ttft_limit(self) -> tuple[float, float] | None:
        """The limit on the first token, in ms, and the percentage of requests that hold it, where the SLO has one at
        the 95th percentile or above, or in a goodput of that share: the strictest of them.
        """
        limits = self.spec.slo.limits if self.spec.slo else ()
        found = [
            (1e3 * limit_s, one.percentile)
            for one in limits
            for metric, limit_s in (one.good or ((one.metric, one.limit_s),))
            if metric == "ttft" and one.percentile >= 95
        ]
        return min(found, default=None)

    @property
    def p99_limit_ms(self) -> float | None:
        """`tail_limit` in ms; None if there is none, or if several services have different ones."""
        if self.colocated:
            found = {one.loaded.p99_limit_ms for one in self.colocated if not one.best_effort}
            return found.pop() if len(found) == 1 else None
        return None if self.tail_limit is None else self.tail_limit.limit_s * 1e3

    def error(self, key: KeyPath, message: str) -> SpecError:
        """An error at a key of this spec."""
        shared = self.at and key and key[0] not in ColocatedSpec.model_fields
        return self.file.error(key if shared else (*self.at, *key), message)

    def max_load_s(self, *, confirmation: bool) -> float:
        """The most that one trial loads its servers, longer when it is a `confirmation`. Several services are
        loaded together, and then one after the other; a chain is loaded at its entry, and a table not at all.
        """
        if not self.spec.runner.launches:
            return 0.0
        judged = [one for one in self.colocated if not one.best_effort]
        loads = len(judged) + 1 if judged and self.chain is None else 1
        return self.spec.load.max_trial * loads * (_LONGER if confirmation else 1.0)

    @property
    def slo_texts(self) -> tuple[str, ...]:
        """What must hold, in words."""
        if self.chain is not None and self.colocated:
            return self.colocated[0].loaded.slo_texts
        if self.colocated:
            return tuple(f"{one.name}: {text}" for one in self.colocated for text in one.loaded.slo_texts)
        slo = self.spec.slo
        errors = () if slo is None or slo.error_rate is None else (f"error rate <= {slo.error_rate:.3%}",)
        return (*map(str, slo.limits), *errors) if slo else ()

    def with_runner(self, runner: str | None) -> LoadedSpec:
        """The same spec on another runner (`--runner`), in what is stored of it, too."""
        if runner is None or runner == self.spec.runner.type:
            return self
        said = of_type(self.content.get("runner") or {}, runner)
        # Without a parameter only a server that is there already makes a space.
        content = self.content if AS_IT_IS in self.space.names else {**self.content, "runner": said}
        try:
            chosen = RunnerSpec.model_validate(said)
        except ValidationError as error:
            raise SpecError(
                f"`runner` {runner}: {message(error.errors()[0])} ({self.file.place(('runner',))})"
            ) from error
        services = tuple(
            replace(one, loaded=replace(one.loaded, spec=one.loaded.spec.model_copy(update={"runner": chosen})))
            for one in self.colocated
        )
        spec = self.spec.model_copy(update={"runner": chosen})
        return replace(self, content=content, spec=spec, colocated=services)


@dataclass(frozen=True)
class Service:
    """One service of a spec. `share` is its part of the requests; its parameters have the prefix in the common space.
    The only service of a spec has no name and no prefix. A best-effort one has no share; its `users` ask it.
    """

    name: str
    prefix: str
    share: float
    loaded: LoadedSpec = field(repr=False)
    best_effort: bool = False
    users: int = _USERS

    def own(self, configuration: Configuration) -> dict[str, ParameterValue]:
        """Its part of a configuration."""
        return {name: configuration[self.prefix + name] for name in self.loaded.space.names}


def load_spec(path: str | Path) -> LoadedSpec:
    """Raises SpecError of at most three problems, one a line."""
    file = YamlFile.read(path_of(path), missing="\n`tune init` writes a spec to start from.")
    if not isinstance(file.content, dict):
        empty = "the file is empty; " if file.content is None else ""
        raise SpecError(f"{empty}a spec is a mapping that begins with `version: 1` ({shown(path)}:1)")
    content = {**file.content, "prices": prices_of(file, file.content.get("prices"))}
    if content["prices"] is None:
        del content["prices"]
    return check_content(file, content)


def check_content(file: YamlFile, content: dict[str, Any]) -> LoadedSpec:
    """A spec from plain values. Raises SpecError of at most three problems, one a line."""
    try:
        spec = Spec.model_validate(content)
    except ValidationError as error:
        problems = without_echoes(error.errors())
        lines = [str(file.error(known_part(problem["loc"], file), describe(problem))) for problem in problems]
        more = len(lines) - _SHOWN_ERRORS
        shown = lines if more <= 0 else [*lines[: _SHOWN_ERRORS - 1], f"{more + 1} more problems"]
        raise SpecError("\n".join(shown)) from error
    _remember_secrets(spec)
    try:
        if "services" in content:
            return _colocated(file, content, spec)
        if "budget" in content:
            raise ColocationError("is that of several services; one is bounded by its choices", ("budget",))
        if spec.objective.held_qps is not None:
            raise ColocationError("best_effort_qps needs several services; see services:", ("objective", "maximize"))
        return LoadedSpec(file, content, spec, _space(file, spec, ()))
    except ColocationError as error:
        raise file.error(error.key, str(error)) from error


def _remember_secrets(spec: Spec) -> None:
    """The values of the variables that it names are masked from now on, wherever a server may echo them."""
    parts: tuple[Spec | ColocatedSpec, ...] = (spec, *spec.services)
    for one in parts:
        services = [one.service] if one.service is not None else []
        remember(*(os.environ.get(name) for service in services for name in service.secrets))
        if (auth := one.request.auth) is not None:
            remember(*(os.environ.get(name) for name in (auth.bearer, auth.env) if name is not None))
            if auth.basic is not None:
                remember_pair(os.environ.get(auth.basic.user), os.environ.get(auth.basic.password))


def _colocated(file: YamlFile, content: dict[str, Any], spec: Spec) -> LoadedSpec:
    """Every service as a spec of its own, with the sections that all share. Raises ColocationError."""
    own = {"request", "slo", "quality"} & spec.model_fields_set
    if len(spec.services) < 2:
        raise ColocationError("has one service only; write it as service:, request:, slo: and space:", ("services",))
    if "service" in content:
        raise ColocationError("goes with services: no more; each of them has its own", ("service",))
    if own or spec.space.parameters or spec.space.preset:
        key = min(own) if own else "space"
        raise ColocationError("belongs to each of the services; only space.constraints is common to all", (key,))
    if spec.load.users is not None or spec.load.locustfile is not None:
        raise ColocationError("several services are loaded in an open loop; remove users and locustfile", ("load",))
    if not spec.runner.launches:
        raise ColocationError("a table replays one service; measure several on a real runner", ("runner", "type"))
    if spec.runner.elsewhere:
        raise ColocationError(
            f"{spec.runner.type} is for one service; start several on another runner", ("runner", "type")
        )
    names = [one.service.name for one in spec.services]
    if len(set(names)) < len(names):
        raise ColocationError("two services have one name; name each differently", ("services",))
    chain = chain_of(spec.services)
    check_best_effort(spec.services, spec.objective, is_chain=chain is not None)
    if "p99_ms" in spec.objective.metrics and chain is None:
        raise ColocationError("p99_ms is each service's own, so there is none to optimise", ("objective",))
    services = _services(file, content, spec, chain)
    in_the_file = sorted(services, key=lambda one: one.loaded.at[1])  # as its errors count them
    parts = [ServiceSpace(one.name, one.prefix, one.loaded.space, one.best_effort) for one in in_the_file]

    def build(constraints: Sequence[Constraint]) -> SearchSpace:
        return common_space(parts, spec.budget, constraints)

    return LoadedSpec(file, content, spec, _checked_space(file, spec, (), (), build), services, chain=chain)


def _services(file: YamlFile, content: dict[str, Any], spec: Spec, chain: Chain | None) -> tuple[Service, ...]:
    """Each service as a spec of its own, those of a chain from its entry on. The entry's SLO is that of every stage."""
    shares = shares_of(spec.services) if chain is None else (1.0,) * len(spec.services)
    places = {one.service.name: index for index, one in enumerate(spec.services)}
    services = []
    for name in places if chain is None else chain.names:
        index = places[name]
        service, at = spec.services[index], ("services", index)
        common = {name: getattr(spec, name) for name in ("objective", "prices", "load", "runner")}
        given = {name: getattr(service, name) for name in service.model_fields_set - _OF_THE_WHOLE}
        try:
            alone = Spec.model_validate({"version": 1, **common, **given})
        except ValidationError as error:
            raise ColocationError(message(error.errors()[0]), at) from error
        if chain is not None:
            alone = alone.model_copy(update={"slo": spec.services[places[chain.entry]].slo})
        loaded = LoadedSpec(file, content, alone, _space(file, alone, at), at=at, chain=chain)
        users = service.users or _USERS
        services.append(Service(name, prefix_of(name), shares[index], loaded, service.best_effort, users))
    return tuple(services)


def _space(file: YamlFile, spec: Spec, at: KeyPath) -> SearchSpace:
    """The space of one service."""

    def build(constraints: Sequence[Constraint]) -> SearchSpace:
        parameters = tuple(_parameter(name, value) for name, value in described.items())
        return SearchSpace(parameters, tuple(constraints))

    described: dict[str, ParameterSpec] = {}
    from_preset: tuple[str, ...] = ()
    if (name := _preset_name(spec)) is not None:
        try:
            parameters, from_preset = _preset(name)
        except SpaceError as error:
            raise file.error((*at, "space", *error.where), str(error)) from error
        described = {name: ParameterSpec.model_validate(value) for name, value in parameters.items()}
    described |= spec.space.parameters
    if not described and spec.runner.attaches:  # nothing is tuned, but what is there can be measured
        described = {AS_IT_IS: ParameterSpec(choices=("as-it-is",))}
    from_preset = (*from_preset, *_of_server(spec, described))
    return _checked_space(file, spec, at, from_preset, build)


def _of_server(spec: Spec, described: Mapping[str, ParameterSpec]) -> Iterator[str]:
    """Constraints of the server's kind, where its own command is used: as many GPUs as its parallel parts take."""
    if spec.service.server == "custom" or spec.service.command:
        return
    gpus = next((name for name, one in described.items() if (one.role or name) == "gpus"), None)
    with contextlib.suppress(AdapterError):  # an unknown server is said where it is first needed
        if constraint := adapter_named(spec.service.server).gpus_constraint(described, gpus):
            yield constraint


def _checked_space(
    file: YamlFile, spec: Spec, at: KeyPath, from_preset: Sequence[str],
    build: Callable[[Sequence[Constraint]], SearchSpace],
) -> SearchSpace:  # fmt: skip
    """The space, with the spec's constraints after those of a preset. Errors name their place in the file."""
    try:
        constraints = [Constraint.parse(text) for text in from_preset]
        for index, text in enumerate(spec.space.constraints):
            try:
                constraints.append(Constraint.parse(text))
            except ExpressionError as error:
                raise SpaceError(str(error), ("constraints", len(from_preset) + index)) from error
        space = build(constraints)
        if space.size.count == 0:
            seen = "no" if space.size.exact else "of many thousands that were tried no"
            raise SpaceError(f"{seen} configuration satisfies all the constraints; loosen one", ("constraints",))
    except SpaceError as error:
        where = error.where
        if where[:1] == ("constraints",) and len(where) > 1 and from_preset:
            where = ("constraints", int(where[1]) - len(from_preset))
        raise file.error((*at, "space", *where), str(error)) from error
    except ExpressionError as error:
        raise file.error((*at, "space", "constraints"), str(error)) from error
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
