"""The workload of the user's own that was measured, as far as an export has to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from results.exports.deployable import MeasuredWorkload
from runners import Resources
from search_spaces import Configuration
from tuner.errors import UsageError
from tuner.launch.render import workload_patch
from tuner.spec.reading import LoadedSpec
from tuner.spec.yaml_file import read_documents

if TYPE_CHECKING:
    from collections.abc import Mapping


class Measured(NamedTuple):
    """`workload` is None where tune made the pod. `port` is where the manifest says that it listens, `note` what the
    readers of an export have to know.
    """

    workload: MeasuredWorkload | None = None
    port: int | None = None
    note: str = ""


def measured_workload(loaded: LoadedSpec, configuration: Configuration, asked: Resources) -> Measured:
    """The manifest lies beside the spec. Where it is not there any more, its names are taken from the spec alone."""
    runner = loaded.spec.runner
    spec, patch = runner.kubernetes, workload_patch(loaded, configuration)
    if not runner.in_cluster or not (spec.manifest or patch):
        return Measured()
    if spec.manifest is None:
        from runners.kubernetes.objects import SERVER

        return Measured(MeasuredWorkload(None, "Deployment", None, SERVER, patch))
    try:
        documents = read_documents(loaded.folder / spec.manifest)
        found = _found(loaded, documents, patch, asked)
    except (UsageError, ValueError):
        gone = MeasuredWorkload(spec.manifest, "Deployment", spec.workload, spec.container, patch)
        note = f"{spec.manifest} is not beside the spec any more: check the names and the port that stand here for its"
        return Measured(gone, None, note)
    return found


def _found(
    loaded: LoadedSpec, documents: tuple[Mapping[str, Any], ...], patch: Mapping[str, Any], asked: Resources
) -> Measured:
    """Raises ValueError for a manifest that has no such workload, or no such container."""
    from runners.kubernetes import manifest
    from runners.kubernetes.objects import laid_over

    spec = loaded.spec.runner.kubernetes
    assert spec.manifest is not None  # noqa: S101 (whoever calls has looked)
    workload = manifest.workload_of(documents, spec.workload, spec.container)
    as_patched = laid_over(workload, patch)
    pod = manifest.pod_of(as_patched)
    server, is_model = manifest.server_container(pod, spec.container), manifest.model_of(pod) is not None
    own = tuple(loaded.spec.runner.kubernetes.gpu.resources.values())
    replaced = manifest.gpus_of(server, own) if asked.gpu_count or asked.gpus is not None else {}
    about = workload.get("metadata") or {}
    name, container = about.get("name"), spec.container or server.get("name")
    return Measured(
        MeasuredWorkload(
            spec.manifest,
            manifest.kind_of(documents, workload),
            None if name is None else str(name),
            None if container is None else str(container),
            patch,
            takes_arguments="command" not in server and ("args" in server or is_model),
            other_gpus=tuple(replaced),
        ),
        manifest.workload_port(workload, spec.container),
        f"it was measured as the workload of {spec.manifest}, of which this has only what was tuned",
    )
