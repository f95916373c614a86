"""A spec's `server:` and `model:`: the adapter, the model, and which parameter reaches which of its knobs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from runners import Placement
from runners.servers import AdapterError, Model, ServerAdapter, ServerAddress, ServerCommand, Tensor, adapter_named
from search_spaces import Configuration, Parameter, ParameterValue, SearchSpace, parse_duration, quantity
from search_spaces.reading import is_file, is_folder
from tuner.errors import SpecError
from tuner.spec.colocation import prefix_of
from tuner.spec.reading import LoadedSpec
from tuner.spec.yaml_file import KeyPath

_ANYWHERE = Placement("127.0.0.1", 1, "files", (2, 3))
MODELS = "/mnt/models"  # where a container finds a model that lies on this machine


@dataclass(frozen=True)
class Serving:
    """`knobs` are those that are tuned, each with the parameter that reaches it."""

    adapter: ServerAdapter
    model: Model
    knobs: Mapping[str, Parameter]

    @property
    def live(self) -> frozenset[str]:
        """The parameters that a running server can be told."""
        can = {knob.name for knob in self.adapter.knobs if knob.live}
        return frozenset(one.name for name, one in self.knobs.items() if name.rpartition("/")[2] in can)

    def values(self, configuration: Configuration) -> dict[str, ParameterValue]:
        """The knobs' values; a batch delay as milliseconds, however the spec writes it."""
        return {name: _plain(parameter, configuration[parameter.name]) for name, parameter in self.knobs.items()}

    def launch(self, configuration: Configuration, placement: Placement) -> ServerCommand:
        """How the server is started for it."""
        return self.adapter.launch(self.model, self.values(configuration), placement)


def serving(loaded: LoadedSpec) -> Serving | None:
    """The spec's server with its adapter; None for a custom server. Raises SpecError for a model that is not there,
    or that the server cannot take.
    """
    service = loaded.spec.service
    if service.server == "custom":
        return None
    try:
        adapter = adapter_named(service.server)
    except AdapterError as error:
        raise _at(loaded, error) from error
    model = _model(loaded, adapter)
    return Serving(adapter, model, _knobs(adapter, loaded.space, model.parts))


def check_serving(loaded: LoadedSpec, found: Serving, used: set[str]) -> None:
    """Raises SpecError for what the adapter can know to be wrong before a launch, and for a parameter that reaches no
    knob of it and is not `used` otherwise.
    """
    reached = {parameter.name for parameter in found.knobs.values()}
    for parameter in loaded.space.parameters:
        if parameter.name not in reached and parameter.name not in used:
            raise loaded.error(("space", "parameters", parameter.name), _no_knob(found.adapter, parameter))
    if found.model.grpc:
        _check_grpc(loaded, found.adapter)
    _check_parallel(loaded, found)
    configuration = next(iter(loaded.space.sample(1, seed=0)))
    try:
        found.adapter.check(found.model, found.values(configuration))
        found.adapter.request(found.model)
        _check_version(found)
    except AdapterError as error:
        raise _at(loaded, error) from error
    for knob, parameter in found.knobs.items():
        for choice in parameter.choices:
            values = {**found.values(configuration), knob: _plain(parameter, choice)}
            try:
                found.adapter.launch(found.model, values, _ANYWHERE)
            except ValueError as error:  # AdapterError, or what a float() says of it
                raise loaded.error(("space", "parameters", parameter.name), str(error)) from error


def _check_parallel(loaded: LoadedSpec, found: Serving) -> None:
    """Raises SpecError for a server that uses several GPUs without a parameter `gpus`: it would get, and pay for,
    one.
    """
    if loaded.space.with_role("gpus") is not None:
        return
    for knob in found.adapter.parallel:
        parameter = found.knobs.get(knob)
        largest = max(map(quantity, parameter.choices), default=1) if parameter is not None else 1
        if parameter is not None and isinstance(largest, int | float) and largest > 1:
            raise loaded.error(
                ("space", "parameters", parameter.name),
                f"takes up to {largest:g} GPUs, and no parameter says how many a replica has, so one would be paid "
                "for: add gpus: {choices: [1, 2, 4], role: gpus}; the constraint between them is added by itself",
            )


def _check_grpc(loaded: LoadedSpec, adapter: ServerAdapter) -> None:
    key = ("request", "protocol")
    if adapter.grpc_port is None:
        raise loaded.error(key, f"{adapter.title} cannot be asked by gRPC here; Triton, MLServer and KServe can")
    if not loaded.spec.runner.on_this_machine:
        raise loaded.error(key, "gRPC's port can be reached from here on processes and in Docker only; use http")


def reach(url: str, placement: Placement) -> ServerAddress:
    """A running server's ports as they are reached from here; those beside the first only where nothing is between."""
    start, _, port = url.rpartition(":")
    direct = port == str(placement.port)
    return ServerAddress(url, tuple(f"{start}:{one}" if direct else None for one in placement.more))


def image_of(loaded: LoadedSpec) -> str | None:
    """The spec's image, or one that is built by its name, or else the adapter's."""
    found, given = serving(loaded), loaded.spec.service.image
    if given is None and loaded.spec.runner.build is not None:
        return f"tune-{loaded.spec.service.name.lower()}"
    return given if given is not None or found is None else found.adapter.image


def mounted_model(loaded: LoadedSpec) -> dict[str, Path]:
    """Path in a container -> file or folder here, for a model that lies here."""
    local = _local(loaded)
    return {} if local is None else {f"{MODELS}/{local.name}": local}


def _model(loaded: LoadedSpec, adapter: ServerAdapter) -> Model:
    service, given = loaded.spec.service, loaded.spec.service.model
    local, path = _local(loaded), given.path
    process = loaded.spec.runner.as_processes
    if process and adapter.path_is_file and path is not None:
        local = loaded.folder / path
        path = str(local)
    elif local is not None and loaded.spec.runner.in_containers:
        path = f"{MODELS}/{local.name}"
    venv = loaded.folder / service.venv if service.venv is not None and process else None
    model = Model(
        name=given.name or service.name,
        path=path,
        local=local if adapter.path_is_file else None,
        venv=venv,
        inputs=tuple(Tensor(name, one.datatype, one.shape) for name, one in given.inputs.items()),
        options=given.options,
        grpc=loaded.spec.request.protocol == "grpc",
        contained=not process,
    )
    if given.parts and not adapter.part_knobs:
        raise loaded.error(("service", "model", "parts"), f"{adapter.title} has no models of several parts; remove it")
    return replace(model, parts=given.parts or adapter.parts_of(model))


def _local(loaded: LoadedSpec) -> Path | None:
    """The model on this machine, where the spec's path leads to one."""
    path = loaded.spec.service.model.path
    if path is None or loaded.spec.service.server == "custom":
        return None
    found = loaded.folder / path
    return found if not loaded.spec.runner.in_cluster and (is_file(found) or is_folder(found)) else None


def _knobs(adapter: ServerAdapter, space: SearchSpace, parts: Sequence[str]) -> dict[str, Parameter]:
    """By name first, then by role: a knob takes one parameter, a parameter reaches one knob. Those of a part have its
    name before them.
    """
    free = {parameter.name: parameter for parameter in space.parameters}
    of_parts: dict[str, Parameter] = {}
    for part in parts:
        own = {name: one for name, one in free.items() if name.startswith(prefix_of(part))}
        for knob in (one for one in adapter.knobs if one.name in adapter.part_knobs):
            of_role = next((one.name for one in own.values() if one.role in knob.roles), "")
            chosen = own.pop(prefix_of(part) + knob.name, None) or own.pop(of_role, None)
            if chosen is not None:
                of_parts[f"{part}/{knob.name}"] = free.pop(chosen.name)
    found = {knob.name: free.pop(knob.name) for knob in adapter.knobs if knob.name in free}
    for knob in adapter.knobs:
        by_role = next((one for role in knob.roles for one in free.values() if one.role == role), None)
        if knob.name not in found and by_role is not None:
            found[knob.name] = free.pop(by_role.name)
    return found | of_parts


def _plain(parameter: Parameter, value: ParameterValue) -> ParameterValue:
    """A duration in milliseconds, a share as a number."""
    if parameter.role == "batch_delay" and isinstance(value, str):
        delay_ms = 1e3 * parse_duration(value)
        return int(delay_ms) if delay_ms.is_integer() else delay_ms
    if parameter.role == "gpu_memory_share" and isinstance(value, str):
        return quantity(value)
    return value


def _no_knob(adapter: ServerAdapter, parameter: Parameter) -> str:
    names = [knob.name for knob in adapter.knobs]
    close = difflib.get_close_matches(parameter.name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(names)}"
    name = parameter.name
    return f"{adapter.title} has no knob {name}; {hint} (or put {{{name}}} in the command, env or a file)"


def _check_version(found: Serving) -> None:
    """Raises AdapterError where `service.venv` lacks the server's package, or has a version without a tuned knob."""
    adapter, venv = found.adapter, found.model.venv
    if venv is None or adapter.package is None:
        return
    if not is_folder(venv):
        raise AdapterError(f"there is no environment {venv}; make it: python3 -m venv {venv}", ("service", "venv"))
    folders = [str(one) for one in venv.glob("lib/python3*/site-packages")]
    names = (adapter.package, *adapter.flavours)
    package = next((one for name in names for one in metadata.distributions(name=name, path=folders)), None)
    if package is None:
        raise AdapterError(
            f"{adapter.title} is not installed in {venv}: {venv}/bin/pip install {adapter.package}", ("service", "venv")
        )
    version = tuple(int(part) for part in package.version.split(".")[:3] if part.isdigit())
    for knob in adapter.knobs:
        if knob.name in found.knobs and version < knob.since:
            needs = ".".join(map(str, knob.since))
            raise AdapterError(
                f"{adapter.title} {package.version} has no {knob.name}; it needs {needs}",
                ("space", "parameters", found.knobs[knob.name].name),
            )


def _at(loaded: LoadedSpec, error: AdapterError) -> SpecError:
    key: KeyPath = error.key
    return loaded.error(key, str(error))
