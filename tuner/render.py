"""From a configuration to plain text: placeholders in the command, the environment and the rendered files.

`{name}` is replaced by a parameter's value, or by `{port}`, `{host}` and `{files}` (the folder of the rendered files).
`{{name}}` stays as `{name}`. No other brace is special, so JSON and most configuration formats need no escaping.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runners import Container, Placement, Readiness, Resources, SampleRequest, Tls
from search_spaces import Configuration, ParameterValue, SearchSpace, parse_size
from search_spaces.parameter import text_of
from tuner.request import RequestSource
from tuner.spec_file import LoadedSpec
from tuner.yaml_file import KeyPath

RUNNER_PLACEHOLDERS = ("port", "host", "files")
_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_][A-Za-z0-9_]*)\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")


def placeholders(text: str) -> list[str]:
    """The names that `substitute` would look up, in order."""
    return [match[2] for match in _PLACEHOLDER.finditer(text) if match[2]]


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Every `{name}` replaced in one pass, so that a value with braces in it is never substituted again."""
    return _PLACEHOLDER.sub(lambda match: f"{{{match[1]}}}" if match[1] else values[match[2]], text)


def templates(loaded: LoadedSpec) -> Iterator[tuple[KeyPath, str]]:
    """Every text of the spec that placeholders are replaced in, with the key that it stands at."""
    service = loaded.spec.service
    for index, word in enumerate(service.command):
        yield ("service", "command", index), word
    for name, text in service.env.items():
        yield ("service", "env", name), text
    for name, template in service.files.items():
        try:
            yield ("service", "files", name), (loaded.folder / template).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "is not UTF-8 text"
            raise loaded.error(("service", "files", name), f"cannot read the template {template}: {why}") from error


def roles(space: SearchSpace, configuration: Configuration) -> dict[str, ParameterValue]:
    """The values of the parameters that have a role."""
    return {parameter.role: configuration[parameter.name] for parameter in space.parameters if parameter.role}


@dataclass(frozen=True)
class Texts:
    """What a configuration makes of the spec's command, environment and files."""

    command: tuple[str, ...]
    env: dict[str, str]
    files: dict[str, str]


def rendered_texts(loaded: LoadedSpec, configuration: Configuration, placement: Placement) -> Texts:
    """The spec was checked before, so every placeholder has a value. Raises SpecError for a template that is gone."""
    values = {name: text_of(value) for name, value in configuration.items()}
    values |= {"port": str(placement.port), "host": placement.host, "files": placement.files}
    texts = {key: substitute(text, values) for key, text in templates(loaded)}

    def named(section: str) -> dict[str, str]:
        return {str(key[2]): text for key, text in texts.items() if key[1] == section}

    return Texts(tuple(named("command").values()), named("env"), named("files"))


def resources(space: SearchSpace, configuration: Configuration) -> Resources:
    """What the parameters with a resource role ask for."""
    by_role = roles(space, configuration)
    cores, memory, gpu_type = by_role.get("cpu_cores"), by_role.get("memory"), by_role.get("gpu_type")
    return Resources(
        cpu_cores=None if cores is None else float(cores),
        memory_bytes=None if memory is None else parse_size(memory),
        gpu_type=None if gpu_type is None else str(gpu_type),
        gpu_memory=by_role.get("gpu_memory"),
    )


def render(
    loaded: LoadedSpec, configuration: Configuration, placement: Placement, source: RequestSource, *, study: str,
    trial: int, folder: Path,
) -> Container:  # fmt: skip
    """The container of one configuration."""
    service, texts = loaded.spec.service, rendered_texts(loaded, configuration, placement)
    return Container(
        study=study,
        trial=trial,
        folder=folder,
        workdir=loaded.folder,
        parameters=dict(configuration),
        resources=resources(loaded.space, configuration),
        placement=placement,
        readiness=Readiness(
            path=service.ready.path,
            timeout_s=service.ready.timeout,
            request=_sample(loaded, source),
            tls=Tls(source.plan.verify_tls, source.plan.ca_file) if source.tls else None,
        ),
        command=texts.command,
        env=texts.env,
        files=texts.files,
        image=service.image,
    )


def _sample(loaded: LoadedSpec, source: RequestSource) -> SampleRequest | None:
    """None where a locustfile makes the requests and the spec names none of its own."""
    if loaded.spec.load.locustfile is not None and "request" not in loaded.spec.model_fields_set:
        return None
    good = source.plan.check.status if source.plan.check else ()
    return SampleRequest(source.method, source.path, source.headers, source.sample, good)
