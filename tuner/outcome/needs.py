"""What a replica asks for where it is deployed: resources, GPUs as that cluster counts them, and where it may run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from results.exports.deployable import Needs
from runners import Resources
from tuner.spec.reading import LoadedSpec

if TYPE_CHECKING:
    from runners.kubernetes.options import KubernetesOptions


class Needed(NamedTuple):
    """`env` is by what a share of a GPU is asked for, `notes` what a reader of the export has to know."""

    needs: Needs
    env: Mapping[str, str]
    notes: tuple[str, ...]


def needed(asked: Resources, options: KubernetesOptions, measured: LoadedSpec) -> Needed:
    """`measured` is the spec as it was measured."""
    from runners.kubernetes.objects import resource_section

    in_cluster, notes = measured.spec.runner.in_cluster, []
    if asked.shares_compute and not options.gpus.slices.grants_compute:
        notes.append(f"it had {asked.compute_percent}% of its GPU's compute, which nothing here asks for")
        asked = replace(asked, gpu_compute=None, gpus=asked.gpu_count)
    asked = options.gpus.plain(asked)
    try:
        options.gpus.asked(asked), options.gpus.claim(asked)
    except ValueError:
        notes.append(f"it had {_slice(asked)} of its GPU, which nothing here asks for: a whole one is")
        asked = replace(asked, gpu_memory=None, gpus=asked.gpu_count)
    label, labels = options.gpus.type_label, _gpu_labels(asked, options)
    if labels and not in_cluster and asked.gpu_type not in options.gpus.types:
        notes.append(
            f"{label}: {labels[0]} stands for the label of your nodes with that GPU, such as "
            "NVIDIA-A100-SXM4-40GB; runner.kubernetes.gpu.types says it for good"
        )
    needs = Needs(
        requests=resource_section(asked, options).get("requests", {}), cpu_cores=asked.cpu_cores,
        memory_bytes=asked.memory_bytes, gpu_type=asked.gpu_type, gpus=asked.gpu_count,
        node_selector={**options.node_selector, **({label: labels[0]} if len(labels) == 1 else {})},
        tolerations=options.tolerations, shm_bytes=_shm_bytes(measured, options), claim=options.gpus.claim(asked),
        node_labels={label: labels} if len(labels) > 1 else {}, gpu_slice=_slice(asked),
    )  # fmt: skip
    return Needed(needs, options.gpus.asked(asked)[1], tuple(notes))


def _shm_bytes(measured: LoadedSpec, options: KubernetesOptions) -> int | None:
    """As it was measured in the cluster; else what the spec says of either kind of container."""
    runner = measured.spec.runner
    return options.shm_bytes if runner.in_cluster else options.shm_bytes or runner.docker.shm_size


def _slice(asked: Resources) -> str | None:
    """The slice in words; None for a whole GPU. A number up to 1 is a share, as in its price."""
    value = asked.gpu_memory
    if isinstance(value, int | float) and value < 1:
        return f"{100 * value:g}%"
    return None if value is None else str(value)


def _gpu_labels(asked: Resources, options: KubernetesOptions) -> tuple[str, ...]:
    """A node with its GPU has one of them, as where it was measured; none where the GPU is claimed."""
    if asked.gpu_type is None or options.gpus.slices.claimed:
        return ()
    return tuple(one.replace(" ", "-") for one in options.gpus.label_values(asked.gpu_type))
