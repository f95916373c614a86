"""What a spec may say but seldom means. Each piece of advice is a sentence that `validate` and a run show; none is an
error.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from runners.servers.protocol import ServerAdapter
from search_spaces import Role
from tuner.errors import UsageError
from tuner.launch.render import NO_GPU, templates
from tuner.spec.load import SloLimit
from tuner.spec.reading import LoadedSpec
from tuner.spec.yaml_file import read_documents

_ASK_FOR_GPUS: tuple[Role, ...] = ("gpu_type", "gpus", "gpu_memory", "gpu_compute")
_EVERYWHERE = ("0.0.0.0", "[::]", "::0")  # noqa: S104 (looked for in the user's command)


def listens_locally(loaded: LoadedSpec, used: Set[str]) -> Iterator[str]:
    """`used` are the placeholders that its texts name. In a container, and so in every manifest that `tune export`
    writes, 127.0.0.1 is the container's own.
    """
    service, container = loaded.spec.service, loaded.spec.runner.in_containers
    if service.server != "custom" or not service.command or not (container or service.image) or "host" in used:
        return
    if not any(address in text for _, text in templates(loaded) for address in _EVERYWHERE):
        where = "its container" if container else "a container of service.image"
        yield (
            "{host} is in no command, env or file: a server that listens on 127.0.0.1 by itself is reached by nobody "
            f"in {where}; pass it {{host}}, or make sure that it listens on 0.0.0.0"
        )


def unpriced_gpus(loaded: LoadedSpec) -> Iterator[str]:
    """GPUs that only the manifest knows of: every configuration has them, and none pays for them."""
    from runners.kubernetes import manifest

    given = loaded.spec.runner.kubernetes
    if (
        not loaded.spec.runner.in_cluster
        or given.manifest is None
        or any(map(loaded.space.with_role, (*_ASK_FOR_GPUS, "instance_type")))
    ):
        return
    try:
        workload = manifest.workload_of(read_documents(loaded.folder / given.manifest), given.workload, given.container)
        server = manifest.server_container(manifest.pod_of(workload), given.container)
    except (UsageError, ValueError):  # the runner says what is wrong with it
        return
    found = manifest.gpus_of(server, tuple(given.gpu.resources.values()))
    if found:
        listed = ", ".join(f"{name}: {count}" for name, count in found.items())
        yield (
            f"{given.manifest} asks for {listed}, which no price is paid for, since no parameter is the GPU: add for "
            "example gpu_type: [T4], or gpus: {choices: [1], role: gpus}, and its price to prices.gpu_hour"
        )


def blind_image(loaded: LoadedSpec, adapter: ServerAdapter) -> Iterator[str]:
    """The server's public image knows no GPU, and nobody has named another one."""
    spec, kind = loaded.spec, loaded.space.with_role("gpu_type")
    own = spec.service.image or spec.runner.build or (spec.runner.in_cluster and spec.runner.kubernetes.manifest)
    types = {str(choice).partition("-")[0] for choice in kind.choices} if kind is not None else set()  # of A100-80GB
    asked = any(map(loaded.space.with_role, _ASK_FOR_GPUS))
    if own or not asked or NO_GPU in types or not adapter.gpu_images:
        return
    fitting = [one for one in adapter.gpu_images if not one.types or types & set(one.types)] or adapter.gpu_images
    names = [str(one) if len(fitting) > 1 else one.name for one in fitting]
    one_each = ", each in a spec of its own" if len(names) > 1 else ""
    yield (
        f"service.image: {adapter.image}, which {adapter.title} has in containers and exports where nothing is named, "
        f"cannot use the GPUs that the space asks for; name {' or '.join(names)}{one_each}"
    )


def unchecked(loaded: LoadedSpec) -> Iterator[str]:
    """A hint where `request.check` is not set, so that every answer with status 200 counts as good."""
    spec = loaded.spec
    known = spec.service.server != "custom" or spec.request.stream is not None or spec.request.protocol == "grpc"
    if not known and spec.request.check is None and spec.load.locustfile is None:
        yield (
            "request.check is not set: an answer with status 200 counts as good, even if it holds an error; say what "
            "a good one holds, as in check: {json: {$.ok: true}} or check: {schema: answer.schema.json}"
        )


def idle_limits(loaded: LoadedSpec) -> Iterator[str]:
    """Hints at limits that decide nothing, because another limit implies them: p50 <= 100 ms beside p99 <= 50 ms."""
    limits = loaded.spec.slo.limits if loaded.spec.slo else ()
    for number, limit in enumerate(limits):
        others = (*limits[:number], *(other for other in limits[number + 1 :] if other != limit))
        stricter = next((other for other in others if _implies(other, limit)), None)
        if stricter is not None:
            yield (
                f"slo: {limit} can never be missed while {stricter} is held, so it decides nothing; lower it, or leave "
                "it out"
            )


def _implies(one: SloLimit, other: SloLimit) -> bool:
    """Whether whoever holds `one` holds `other`, too: as large a share of the requests is within as short a limit."""
    # A good request holds all of its limits; but that on its gaps is held by a share of them.
    held = [limit for limit in one.good if limit[0] != "itl"] or [(one.metric, one.limit_s)]
    within = any(metric == other.metric and limit_s <= other.limit_s for metric, limit_s in held)
    return not other.good and one.percentile >= other.percentile and within
