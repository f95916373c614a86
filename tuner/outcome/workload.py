"""The workload of the user's own that was measured, as far as an export has to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from results.exports.deployable import MeasuredWorkload, kubernetes_name
from runners import Resources
from search_spaces import Configuration
from search_spaces.reading import is_file
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
    """The manifest lies beside the spec. Where it cannot be read any more as it was, names are the spec's alone."""
    runner = loaded.spec.runner
    spec, patch = runner.kubernetes, workload_patch(loaded, configuration)
    if not runner.in_cluster or not (spec.manifest or patch):
        return Measured()
    if spec.manifest is None:
        own = _with_container(patch, kubernetes_name(loaded.spec.service.name))
        return Measured(MeasuredWorkload(None, "Deployment", None, None, own))
    try:
        documents = read_documents(loaded.folder / spec.manifest)
        found = _found(loaded, documents, patch, asked)
    except (UsageError, ValueError) as error:
        gone = MeasuredWorkload(spec.manifest, "Deployment", spec.workload, spec.container, patch)
        there = is_file(loaded.folder / spec.manifest)
        how = f"cannot be read as it was measured ({error})" if there else "is not beside the spec any more"
        note = f"{spec.manifest} {how}: check the names and the port that stand here for its"
        return Measured(gone, None, note)
    return found


def _with_container(patch: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The patch of tune's own pod with the name that its container has in exports: it is laid over those, too."""
    from runners.kubernetes.objects import SERVER

    def renamed(node: Any, keys: tuple[str, ...]) -> Any:
        if keys and isinstance(node, dict) and keys[0] in node:
            return {**node, keys[0]: renamed(node[keys[0]], keys[1:])}
        if not keys and isinstance(node, list):
            return [
                {**one, "name": name} if isinstance(one, dict) and one.get("name") == SERVER else one for one in node
            ]
        return node

    found: dict[str, Any] = renamed(patch, ("spec", "template", "spec", "containers"))
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
