"""Mistakes that can be found before the first server is launched, so that they cost no trial."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from results import RESERVED_COLUMNS
from runners import Placement
from search_spaces import RESOURCE_ROLES, Parameter, quantity
from search_spaces.reading import is_file
from tuner.launch.adapter import Serving, check_serving, serving
from tuner.launch.chain import check_chain, unmeasured
from tuner.launch.checks.advice import blind_image, idle_limits, listens_locally, unchecked, unpriced_gpus
from tuner.launch.checks.files import check_environment, check_script
from tuner.launch.checks.streams import check_streams, unstreamed
from tuner.launch.checks.times import check_times, no_probe, slow_servers, too_short
from tuner.launch.checks.traces import unlike_its_probes
from tuner.launch.price import check_prices
from tuner.launch.quality import check_quality
from tuner.launch.render import (
    COMMAND_PLACEHOLDERS,
    MAX_TEMPLATE_BYTES,
    RUNNER_PLACEHOLDERS,
    compute_share,
    live_parameters,
    placeholders,
    rendered_texts,
    templates,
)
from tuner.launch.requests import adapter_request, must_describe
from tuner.spec.reading import LoadedSpec


def check(loaded: LoadedSpec, *, table_has_prices: bool = False) -> None:
    """Raises SpecError for the first mistake. `tuner.launch.requests` checks data sets, and the replay runner its
    table.
    """
    for service in loaded.services:
        for parameter in service.loaded.space.parameters:
            name = service.prefix + parameter.name
            if name in RESERVED_COLUMNS or parameter.name in _runner_placeholders(service.loaded):
                key = ("space", "parameters", parameter.name)
                raise service.loaded.error(key, f"{name} is a name that the outputs use; name the parameter otherwise")
        _check_placeholders(service.loaded)
    check_chain(loaded)
    if not table_has_prices:
        check_prices(loaded)
    if not loaded.spec.runner.launches:
        return
    for service in loaded.services:
        _check_service(service.loaded, best_effort=service.best_effort)


def _check_service(loaded: LoadedSpec, *, best_effort: bool) -> None:
    """Check what concerns one service only, if servers are really launched. Raises SpecError."""
    if loaded.spec.slo is None and not loaded.is_called and not best_effort:
        raise loaded.error(
            ("slo",), "is missing; without an objective for latency nothing can be tuned, as in {p99: 50ms}"
        )
    _check_power(loaded)
    _check_compute(loaded)
    check_times(loaded)
    _check_secrets(loaded)
    _check_reference(loaded)
    check_quality(loaded)
    check_streams(loaded)
    found = serving(loaded)
    if found is not None:
        check_serving(loaded, found, _used(loaded))
        _check_bodies(loaded, found)
    elif loaded.spec.request.protocol == "grpc":
        raise loaded.error(("request", "protocol"), "grpc needs a server that speaks V2, such as server: triton")
    if loaded.spec.runner.as_processes:
        if not loaded.at:
            _check_slices(loaded)
        check_environment(loaded)
        _check_program(loaded)
        check_script(loaded)
    if loaded.spec.runner.in_cluster:
        _check_files_size(loaded)
    if loaded.spec.runner.attaches:
        _check_reconfigurable(loaded)
    if loaded.spec.runner.by_commands:
        _check_commands(loaded)


def warnings(loaded: LoadedSpec) -> Iterator[str]:
    """Sentences about what is allowed but probably not meant."""
    if loaded.spec.runner.launches:
        yield from unlike_its_probes(loaded)
        yield from _of_each(loaded, _warnings)
        yield from unmeasured(loaded)


def _of_each(loaded: LoadedSpec, look: Callable[[LoadedSpec], Iterator[str]]) -> Iterator[str]:
    """What is said of the services: once, with the names of those that it is said of if it is not said of all. `load`
    is common to them.
    """
    said: defaultdict[str, list[str]] = defaultdict(list)
    for service in loaded.services:
        for text in look(service.loaded):
            said[text].append(service.name)
    for text, names in said.items():
        of_all = len(names) == len(loaded.services) or text.startswith("load.")
        yield text if of_all else f"{', '.join(names)}: {text}"


def hints(loaded: LoadedSpec) -> Iterator[str]:
    """Sentences about what a spec could add, or says in vain. Only `validate` shows them."""
    yield from _of_each(loaded, idle_limits)
    if loaded.spec.runner.launches:
        yield from _of_each(loaded, unchecked)


def _warnings(loaded: LoadedSpec) -> Iterator[str]:
    used, found = _used(loaded), serving(loaded)
    if not loaded.is_called:
        yield from no_probe(loaded)
        yield from list(too_short(loaded)) or slow_servers(loaded)
    yield from unstreamed(loaded)
    yield from listens_locally(loaded, used)
    yield from unpriced_gpus(loaded)
    shares = loaded.space.with_role("gpu_compute")
    if shares is not None and loaded.space.with_role("gpu_memory") is None and loaded.spec.prices.gpu_hour:
        yield (
            f"{shares.name} is a share of the compute alone: nothing bounds the memory that the server takes, so its "
            "whole GPU is paid for; add a parameter with the role gpu_memory"
        )
    if found is not None:
        yield from blind_image(loaded, found.adapter)
        return  # what reaches none of its knobs is an error
    for parameter in loaded.space.parameters:
        if parameter.name not in used and parameter.role not in RESOURCE_ROLES and len(parameter.choices) > 1:
            yield f"the parameter {parameter.name} reaches nothing: {{{parameter.name}}} is in no command, env or file"


def _used(loaded: LoadedSpec) -> set[str]:
    """Parameters that a placeholder names, or whose role is a resource."""
    named = {name for _, text in templates(loaded) for name in placeholders(text)}
    return named | {one.name for one in loaded.space.parameters if one.role in RESOURCE_ROLES}


def _check_power(loaded: LoadedSpec) -> None:
    """Raises SpecError for an objective of energy without GPUs, or on a runner that cannot read their power."""
    if not any(metric.startswith("energy") for metric in loaded.spec.objective.metrics):
        return
    if not any(loaded.space.with_role(role) for role in ("gpu_type", "gpu_memory", "gpus", "instance_type")):
        raise loaded.error(
            ("objective",), "energy is that of GPUs, and no parameter is one: add gpus: {choices: [1], role: gpus}"
        )
    if not loaded.spec.runner.sees_power:
        raise loaded.error(
            ("objective",), "energy needs the GPUs' power, which DCGM's exporter tells in a cluster: give its address "
            "in runner.kubernetes.gpu.dcgm",
        )  # fmt: skip


def _check_secrets(loaded: LoadedSpec) -> None:
    for index, name in enumerate(loaded.spec.service.secrets):
        if not os.environ.get(name):
            raise loaded.error(
                ("service", "secrets", index), f"the server needs {name}, which is not set: export {name}=..."
            )


def _check_compute(loaded: LoadedSpec) -> None:
    """Raises SpecError for a share of a GPU's compute that is none, or that nothing would keep the server to."""
    shares, runner = loaded.space.with_role("gpu_compute"), loaded.spec.runner
    if shares is None:
        return
    key = ("space", "parameters", shares.name)
    for choice in shares.choices:
        try:
            compute_share(choice)
        except ValueError as error:
            raise loaded.error(key, str(error)) from error
    told = shares.name in {name for _, text in templates(loaded) for name in placeholders(text)}
    if all(quantity(choice) == 1.0 for choice in shares.choices) or runner.keeps_compute(told=told):
        return
    remedy = {
        "process": "say runner.process.gpu_slices: mps, where CUDA's MPS runs, or kept-by-server, where the command is "
        f"told {{{shares.name}}} and sees to it",
        "kubernetes": "say runner.kubernetes.gpu.slices: hami-gpumem or mps, or one of your own with {percent} in it",
    }.get(runner.type, "use the process or the kubernetes runner")
    raise loaded.error(key, f"nothing here would keep the server to a share of its GPU's compute; {remedy}")


def _check_slices(loaded: LoadedSpec) -> None:
    """Raises SpecError for slices of a GPU that nothing would keep a process to: alone, it has all of the GPU, whatever
    is paid for. Services that are tuned together do share a GPU.
    """
    slices = loaded.space.with_role("gpu_memory")
    if loaded.spec.runner.process.gpu_slices == "mps":
        return
    if slices is not None and loaded.spec.runner.process.gpu_slices == "kept-by-server":
        if slices.name not in {name for _, text in templates(loaded) for name in placeholders(text)}:
            raise loaded.error(
                ("space", "parameters", slices.name),
                f"runner.process.gpu_slices says that the server keeps to its slice, and {{{slices.name}}} is in no "
                "command, env or file, so it is not told",
            )
        return
    for choice in slices.choices if slices else ():
        if quantity(choice) != 1.0:
            raise loaded.error(
                ("space", "parameters", slices.name if slices else ""),
                f"a process gets whole GPUs, so {choice} of one would be measured as all of it; use the docker or "
                "kubernetes runner, or say runner.process.gpu_slices: kept-by-server where its command sees to that, "
                "or mps where CUDA's MPS runs",
            )


def _check_bodies(loaded: LoadedSpec, found: Serving) -> None:
    asked = adapter_request(loaded)
    if must_describe(loaded) and not (asked and asked.bodies) and not found.adapter.describes_models:
        raise loaded.error(
            ("service", "server"),
            f"{found.adapter.title} does not say what its models take; write request: {{json: {{text: hello}}}} or a "
            "dataset",
        )


def _check_files_size(loaded: LoadedSpec) -> None:
    size = sum(len(text.encode()) for key, text in templates(loaded) if key[:2] == ("service", "files"))
    if size > MAX_TEMPLATE_BYTES:
        raise loaded.error(
            ("service", "files"),
            f"are {size / 2**20:.1f} MiB together, and the config map by which they reach a pod holds 1 MiB; put into "
            "the image what is no template",
        )


def _check_reference(loaded: LoadedSpec) -> None:
    quality = loaded.spec.quality
    reference = None if quality is None else quality.reference
    if reference is not None and (problem := loaded.space.why_invalid(reference)):
        raise loaded.error(("quality", "reference"), f"{problem}; the reference must lie in the space")


def _check_placeholders(loaded: LoadedSpec) -> None:
    for key, text in templates(loaded):
        # What a running server is told, and what a cluster is, has nothing to do with where this launch lies.
        late = key[1] in ("manage", "kubernetes")
        known = [
            *loaded.space.names,
            *(() if late else (COMMAND_PLACEHOLDERS if key[0] == "runner" else RUNNER_PLACEHOLDERS)),
        ]
        for name in placeholders(text):
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {{{close[0]}}}?" if close else f"there are {', '.join(known)}"
                raise loaded.error(
                    key, f"unknown placeholder {{{name}}}; {hint} (write {{{{{name}}}}} to keep the braces)"
                )


def _check_program(loaded: LoadedSpec) -> None:
    """Raises SpecError where the command's program is not there. Only a program that no parameter changes can be
    checked.
    """
    configuration = next(iter(loaded.space.sample(1, seed=0)))
    texts = rendered_texts(loaded, configuration, Placement("127.0.0.1", 1, "files"))
    if not texts.command:
        raise loaded.error(
            ("service", "command"), "is missing; the process runner needs one, as in [python, server.py]"
        )
    if serving(loaded) is None and "port" not in _used(loaded):
        raise loaded.error(
            ("service", "command"),
            "{port} is in no command, env or file, so the server cannot know where to listen; pass it, as in "
            '[python, server.py, --port, "{port}"]',
        )
    given = loaded.spec.service.command
    program = texts.command[0]
    if given and placeholders(given[0]):
        return
    if not _is_program(loaded, program, texts.env.get("PATH")):
        raise loaded.error(
            ("service", "command"),
            f"there is no program {program!r} here that can be run; install it, or name its path",
        )


def _runner_placeholders(loaded: LoadedSpec) -> tuple[str, ...]:
    return (*RUNNER_PLACEHOLDERS, *(COMMAND_PLACEHOLDERS if loaded.spec.runner.by_commands else ()))


def _check_reconfigurable(loaded: LoadedSpec) -> None:
    """Raises SpecError where a parameter has several choices that a server which runs already cannot be told."""
    live = live_parameters(loaded)
    for parameter in loaded.space.parameters:
        if len(parameter.choices) > 1 and parameter.name not in live:
            raise loaded.error(
                ("space", "parameters", parameter.name),
                "a server that is there already cannot be told it: name it in a request of service.manage, or give it "
                "the one value that the server has",
            )


def _check_commands(loaded: LoadedSpec) -> None:
    """Raises SpecError where a program of `runner.up`, `url` or `down` is missing, or no command is given a parameter
    that has several choices.
    """
    runner = loaded.spec.runner
    for name, words in (("up", runner.up), ("url", runner.url), ("down", runner.down)):
        if (
            isinstance(words, tuple)
            and words
            and not placeholders(words[0])
            and not _is_program(loaded, words[0], None)
        ):
            raise loaded.error(("runner", name), f"there is no program {words[0]!r} here that can be run")
    if isinstance(runner.url, str) and not runner.url.startswith(("http://", "https://", "{")):
        raise loaded.error(("runner", "url"), "is no address such as http://{host}:8000; write a command as a list")


def _is_program(loaded: LoadedSpec, program: str, path: str | None) -> bool:
    """Whether the first word of a command can be run here, by a path or from the PATH."""
    if "/" in program:
        return is_file(loaded.folder / program) and os.access(loaded.folder / program, os.X_OK)
    path = path or os.environ.get("PATH", os.defpath)
    return shutil.which(program, path=os.pathsep.join((path, str(Path(sys.executable).parent)))) is not None


def widest(parameter: Parameter) -> str:
    """A parameter's choices, short enough for a line."""
    shown = [str(choice) for choice in parameter.choices[:8]]
    return ", ".join(shown) + (f", ... ({len(parameter.choices)})" if len(parameter.choices) > 8 else "")
