"""From a configuration to plain text: placeholders in the command, the environment and the rendered files.

`{name}` is replaced by a parameter's value, or by `{port}`, `{host}` and `{files}` (the folder of the rendered files).
`{{name}}` stays as `{name}`. In a chain, `{url:NAME}` and `{address:NAME}` are where a service that this one calls
answers. No other brace is special, so JSON and most configuration formats need no escaping.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runners import Container, Placement, Readiness, Resources, SampleRequest, Tls
from runners.command import Commands
from runners.servers import ServerCommand
from search_spaces import RESOURCE_ROLES, Configuration, ParameterValue, SearchSpace, parse_size, quantity
from search_spaces.parameter import text_of
from search_spaces.reading import InputError, quoted, read_text
from tuner.launch.adapter import image_of, serving
from tuner.launch.requests import RequestSource
from tuner.spec.reading import LoadedSpec
from tuner.spec.yaml_file import KeyPath

RUNNER_PLACEHOLDERS = ("port", "host", "files", "port2", "port3", "cache_dir")
COMMAND_PLACEHOLDERS = ("id", "name", "image", "folder", "host", "port", "files")  # of runner.up, url and down
_RESIZED = ("cpu_cores", "memory")
NO_GPU = "none"  # among the choices of a gpu_type: the same server on CPU cores alone
_READY_S = 120.0
MAX_TEMPLATE_BYTES = 1 << 20  # a config map, in which it may travel, holds no more
_NAME = r"([A-Za-z_][A-Za-z0-9_]*|(?:url|address):[A-Za-z0-9][A-Za-z0-9._-]*)"
_PLACEHOLDER = re.compile(rf"\{{\{{{_NAME}\}}\}}|\{{{_NAME}\}}")


def placeholders(text: str) -> list[str]:
    """The names of values that `substitute` would look up, in order."""
    return [name for name in _named(text) if ":" not in name]


def addresses(text: str) -> list[str]:
    """The addresses of other services that a text of a chain asks for, such as `url:rank`, in order."""
    return [name for name in _named(text) if ":" in name]


def _named(text: str) -> list[str]:
    return [match[2] for match in _PLACEHOLDER.finditer(text) if match[2]]


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Every `{name}` replaced in one pass, so that a value with braces in it is never substituted again. Addresses of
    other services are plain text where `values` has none, outside a chain.
    """
    chained = any(":" in name for name in values)

    def replaced(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if ":" in name and not chained:
            return match[0]
        return f"{{{name}}}" if match[1] else values[name]

    return _PLACEHOLDER.sub(replaced, text)


def templates(loaded: LoadedSpec) -> Iterator[tuple[KeyPath, str]]:
    """Every text of the spec that placeholders are replaced in, with the key that it stands at."""
    yield from _start_templates(loaded)
    for index, request in enumerate(loaded.spec.service.manage):
        for name, text in (("path", request.path), ("body", request.body), ("json", _json_text(request.json_body))):
            if text is not None:
                yield ("service", "manage", index, name), text


def _start_templates(loaded: LoadedSpec) -> Iterator[tuple[KeyPath, str]]:
    """The texts that a server is started with; none for a server that is already running."""
    service, runner = loaded.spec.service, loaded.spec.runner
    if runner.attaches:
        return
    if runner.workload_patch:
        yield ("runner", "kubernetes", "patch"), json.dumps(runner.workload_patch)
    if runner.by_commands:
        for name, words in (("up", runner.up), ("url", runner.url), ("down", runner.down)):
            for index, word in enumerate((words,) if isinstance(words, str) else words or ()):
                yield ("runner", name, index), word
    else:
        for index, word in enumerate(service.command):
            yield ("service", "command", index), word
    for name, text in service.env.items():
        yield ("service", "env", name), text
    for name, template in service.files.items():
        try:
            _refuse_outside(loaded, name, template)
            yield ("service", "files", name), read_text(loaded.folder / template, MAX_TEMPLATE_BYTES)
        except InputError as error:
            raise loaded.error(("service", "files", name), f"cannot read the template: {error}") from error


def _refuse_outside(loaded: LoadedSpec, name: str, template: str) -> None:
    """Raises SpecError for a template outside the spec's folder. Its content is written into exports and trials, so it
    must not be just any file of this machine.
    """
    try:
        inside = (loaded.folder / template).resolve().is_relative_to(loaded.folder)
    except (OSError, ValueError, RuntimeError):  # no path that a file can have, or links in a circle
        inside = False
    if not inside:
        raise loaded.error(
            ("service", "files", name),
            f"the template {quoted(template)} does not lie in the spec's folder; copy it there",
        )


def roles(space: SearchSpace, configuration: Configuration) -> dict[str, ParameterValue]:
    """The values of the parameters that have a role."""
    return {parameter.role: configuration[parameter.name] for parameter in space.parameters if parameter.role}


@dataclass(frozen=True)
class Texts:
    """What a configuration makes of command, environment and files: the adapter's, and over them the spec's."""

    command: tuple[str, ...]
    env: dict[str, str]
    files: dict[str, str]
    note: str = ""


def rendered_texts(
    loaded: LoadedSpec, configuration: Configuration, placement: Placement, reached: Mapping[str, str] | None = None
) -> Texts:
    """The spec was checked before, so every placeholder has a value. `reached` has the URLs of the services that this
    one calls; without it they are named as a cluster's Services are. Raises SpecError for a template that is gone.
    """
    values = _texts(configuration) | _addresses(
        {name: f"http://{name}:80" for name in loaded.calls} | dict(reached or {})
    )
    values |= {"port": str(placement.port), "host": placement.host, "files": placement.files}
    values["cache_dir"] = placement.cache or placement.scratch
    more = placement.more or (placement.port + 1, placement.port + 2)
    values |= {"port2": str(more[0]), "port3": str(more[1])}
    texts = {key: substitute(text, values) for key, text in _start_templates(loaded) if key[0] == "service"}

    def named(section: str) -> dict[str, str]:
        return {str(key[2]): text for key, text in texts.items() if key[1] == section}

    found = serving(loaded)
    base = ServerCommand(()) if found is None else found.launch(configuration, placement)
    env = {**_environment(loaded), **_compiled(loaded, placement), **base.env, **named("env")}
    return Texts(tuple(named("command").values()) or base.command, env, {**base.files, **named("files")}, base.note)


def _addresses(urls: Mapping[str, str]) -> dict[str, str]:
    """The values of `{url:NAME}` and `{address:NAME}`."""
    hosts = {f"address:{name}": url.partition("://")[2] for name, url in urls.items()}
    return {f"url:{name}": url for name, url in urls.items()} | hosts


def _compiled(loaded: LoadedSpec, placement: Placement) -> dict[str, str]:
    """Variables that tell torch.compile, and the compiler beneath it, where to keep what they compiled."""
    if loaded.space.with_role("compile") is None or placement.cache is None:
        return {}
    return {
        "TORCHINDUCTOR_CACHE_DIR": f"{placement.cache}/inductor",
        "TRITON_CACHE_DIR": f"{placement.cache}/triton",
        "VLLM_CACHE_ROOT": f"{placement.cache}/vllm",
    }


def _with_cache(loaded: LoadedSpec, placement: Placement, cache: Path) -> Placement:
    """The placement of a process with its cache, which then exists. A container has files of its own alone: what it
    wrote to a folder of this machine would belong to whoever it runs as.
    """
    used = loaded.space.with_role("compile") is not None or any(
        "cache_dir" in placeholders(text) for _, text in templates(loaded)
    )
    if not used or not loaded.spec.runner.as_processes:
        return placement
    cache.mkdir(parents=True, exist_ok=True)
    return replace(placement, cache=str(cache.resolve()))


def _environment(loaded: LoadedSpec) -> dict[str, str]:
    """What a process is started with from `service.venv`; containers have their own."""
    venv = loaded.spec.service.venv
    if venv is None or not loaded.spec.runner.as_processes:
        return {}
    folder = loaded.folder / venv
    return {
        "VIRTUAL_ENV": str(folder),
        "PATH": os.pathsep.join((str(folder / "bin"), os.environ.get("PATH", os.defpath))),
    }


def resources(space: SearchSpace, configuration: Configuration) -> Resources:
    """What the parameters with a resource role ask for."""
    by_role = roles(space, configuration)
    cores, memory, gpu_type = by_role.get("cpu_cores"), by_role.get("memory"), by_role.get("gpu_type")
    gpus = by_role.get("gpus")
    if gpu_type == NO_GPU or gpus == 0:
        return Resources(
            float(cores) if cores is not None else None, parse_size(memory) if memory is not None else None, gpus=0
        )
    return Resources(
        cpu_cores=None if cores is None else float(cores),
        memory_bytes=None if memory is None else parse_size(memory),
        gpu_type=None if gpu_type is None else str(gpu_type),
        gpu_memory=by_role.get("gpu_memory"),
        gpus=None if gpus is None else int(gpus),
        gpu_compute=_compute(by_role.get("gpu_compute")),
    )


def _compute(value: ParameterValue | None) -> float | None:
    """The share of a GPU's compute, 0 to 1. None for a value that is no share, as in a table with units of its own;
    where servers are launched, such a value has been refused before.
    """
    try:
        return None if value is None else compute_share(value)
    except ValueError:
        return None


def compute_share(value: ParameterValue) -> float:
    """The share of a GPU's compute that `25%` or `0.25` means. Raises ValueError unless it is above 0 and at most 1."""
    share = quantity(value)
    if isinstance(value, bool) or isinstance(share, str) or not 0 < share <= 1:
        raise ValueError(f"{value!r} is no share of a GPU's compute; write for example 25%")
    return share


@dataclass(frozen=True)
class TrialLaunch:
    """What a trial decides of a launch. `cache` is the folder of what is compiled; a `fresh` launch shares no server
    with others; `group` joins servers that run at the same time; `go_on` may raise to end a wait.
    """

    study: str
    trial: int
    folder: Path
    cache: Path
    fresh: bool = False
    group: str | None = None
    go_on: Callable[[], None] = lambda: None


def render(
    loaded: LoadedSpec, configuration: Configuration, placement: Placement, source: RequestSource,
    launch: TrialLaunch, *, prepare: Callable[[str, Container], SampleRequest | None] | None = None,
    reached: Mapping[str, str] | None = None, best_effort: bool = False,
) -> Container:  # fmt: skip
    """The container of one configuration. `reached` are the addresses of the services that it calls."""
    placement = _with_cache(loaded, placement, launch.cache)
    texts = rendered_texts(loaded, configuration, placement, reached)
    return Container(
        study=launch.study,
        trial=launch.trial,
        folder=launch.folder,
        workdir=loaded.folder,
        parameters=dict(configuration),
        resources=resources(loaded.space, configuration),
        placement=placement,
        readiness=Readiness(
            path=ready_path(loaded),
            timeout_s=ready_timeout_s(loaded),
            request=sample_request(loaded, source),
            tls=Tls(source.plan.verify_tls, source.plan.ca_file) if source.tls else None,
        ),
        command=texts.command,
        env=texts.env,
        secrets=loaded.spec.service.secrets,
        files=texts.files,
        image=image_of(loaded),
        go_on=launch.go_on,
        fresh=launch.fresh,
        group=launch.group,
        best_effort=best_effort,
        live=live_parameters(loaded),
        patch=workload_patch(loaded, configuration),
        prepare=prepare,
    )


def workload_patch(loaded: LoadedSpec, configuration: Configuration) -> dict[str, Any]:
    """What the spec lays over a cluster's workload for a configuration."""
    found: dict[str, Any] = _filled(loaded.spec.runner.workload_patch, configuration, _texts(configuration))
    return found


def rendered_commands(loaded: LoadedSpec, container: Container, launch_id: str) -> Commands:
    """The commands that start, find and end the server of one launch."""
    spec = loaded.spec
    values = {
        "id": launch_id, "name": spec.service.name, "image": image_of(loaded) or "", "folder": str(container.folder),
        "host": container.placement.host, "port": str(container.placement.port), "files": container.placement.files,
        **_texts(container.parameters),
    }  # fmt: skip

    def words(templates: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(substitute(word, values) for word in templates)

    url = spec.runner.url or ""
    return Commands(
        words(spec.runner.up), substitute(url, values) if isinstance(url, str) else words(url), words(spec.runner.down)
    )


def managed(loaded: LoadedSpec, configuration: Configuration) -> Iterator[SampleRequest]:
    """The requests of `service.manage` for a configuration."""
    values = _texts(configuration)
    for request in loaded.spec.service.manage:
        body = None if request.body is None else substitute(request.body, values).encode()
        headers = {}
        if request.json_body is not None:
            body = json.dumps(_filled(request.json_body, configuration, values)).encode()
            headers = {"Content-Type": "application/json"}
        yield SampleRequest(request.method, substitute(request.path, values), headers, body)


def live_parameters(loaded: LoadedSpec) -> frozenset[str]:
    """The parameters that a running server can be told: by its adapter, or because only `service.manage` names them. A
    pod of a server without an adapter may be given other cores and memory too, if the spec allows it.
    """
    found = serving(loaded)
    managed = {name for key, text in templates(loaded) if key[1] == "manage" for name in placeholders(text)}
    at_start = {name for _, text in _start_templates(loaded) for name in placeholders(text)}
    resource = {one.name for one in loaded.space.parameters if one.role in RESOURCE_ROLES}
    live = frozenset() if found is None else found.live
    resized = {one.name for one in loaded.space.parameters if one.role in _RESIZED}
    if found is not None or loaded.spec.runner.type != "kubernetes" or not loaded.spec.runner.kubernetes.resize:
        resized = set()
    return ((live | (managed & set(loaded.space.names))) - resource | resized) - at_start


def _texts(configuration: Configuration) -> dict[str, str]:
    return {name: text_of(value) for name, value in configuration.items()}


def _json_text(content: Any) -> str | None:
    return None if content is None else json.dumps(content)


def _filled(content: Any, configuration: Configuration, values: Mapping[str, str]) -> Any:
    """JSON with its placeholders replaced; a text that is one placeholder becomes the value itself, a number as one."""
    if isinstance(content, Mapping):
        return {key: _filled(value, configuration, values) for key, value in content.items()}
    if isinstance(content, list):
        return [_filled(value, configuration, values) for value in content]
    if isinstance(content, str):
        whole = _PLACEHOLDER.fullmatch(content)
        return configuration[whole[2]] if whole and whole[2] in configuration else substitute(content, values)
    return content


def ready_path(loaded: LoadedSpec) -> str | None:
    """The spec's, or else the adapter's."""
    found, given = serving(loaded), loaded.spec.service.ready.path
    return given if given is not None or found is None else found.adapter.ready_path(found.model)


def ready_timeout_s(loaded: LoadedSpec) -> float:
    """The spec's, or else the adapter's."""
    found, given = serving(loaded), loaded.spec.service.ready.timeout
    return given if given is not None else _READY_S if found is None else found.adapter.ready_timeout_s


def sample_request(loaded: LoadedSpec, source: RequestSource) -> SampleRequest | None:
    """The request that shows whether the server is ready. None if a locustfile, or another service of a chain, makes
    the requests and the spec names none of its own.
    """
    undescribed = "request" not in loaded.spec.model_fields_set
    if undescribed and (loaded.spec.load.locustfile is not None or (loaded.is_called and serving(loaded) is None)):
        return None
    check = source.plan.check
    good = check.status if check else ()
    checked = check is not None and bool(check.json_paths or check.json_schema)
    return SampleRequest(source.method, source.path, source.headers, source.sample, good, checked)
