"""What the Kubernetes runner is told, as plain values; and what a GPU slice is in this cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runners.protocol import ParameterValue, Resources

_MIB = 2**20
_NVIDIA = "nvidia.com/gpu"
_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40
}  # fmt: skip
_PROFILE = re.compile(r"\d+g\.(\d+)gb")  # MIG: 1g.10gb


@dataclass(frozen=True)
class Slices:
    """What a slice of a GPU is: extended resources with their counts, and environment variables. In both `{value}` is
    the slice as the spec writes it, `{gib}` and `{mib}` its memory in whole GiB and MiB.
    """

    resources: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


PRESETS: Mapping[str, Slices] = {
    # NVIDIA's device plugin with the strategy `mixed`: a resource per profile.
    "mig": Slices({"nvidia.com/mig-{value}": "1"}),
    # NVIDIA's device plugin, time-slicing with `renameByDefault: true`: so many shares.
    "shared": Slices({"nvidia.com/gpu.shared": "{value}"}),
    # Alibaba Cloud's GPU share scheduler counts GiB of memory.
    "aliyun-gpu-mem": Slices({"aliyun.com/gpu-mem": "{gib}"}),
    # HAMi's device plugin: a virtual GPU, with a limit in MiB.
    "hami-gpumem": Slices({"nvidia.com/gpu": "1", "nvidia.com/gpumem": "{mib}"}),
    # NVIDIA's MPS: a share of a GPU, and a limit that the MPS daemon keeps for the first device.
    "mps": Slices({"nvidia.com/gpu.shared": "1"}, {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0={mib}M"}),
}


@dataclass(frozen=True)
class ClusterGpus:
    """How GPUs and slices are asked for. `types`: GPU type -> values of `type_label` on nodes that have it.
    `resources`: GPU type -> the extended resource that its device plugin counts, where it is not NVIDIA's.
    """

    type_label: str = "nvidia.com/gpu.product"
    types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    slices: Slices = PRESETS["mig"]
    resources: Mapping[str, str] = field(default_factory=dict)

    def label_values(self, gpu_type: str) -> tuple[str, ...]:
        """What the label may say."""
        return self.types.get(gpu_type, (gpu_type,))

    def asked(self, asked: Resources) -> tuple[dict[str, str], dict[str, str]]:
        """Extended resources and environment of so many slices, or of so many whole GPUs where no slice is asked for.

        Raises ValueError for a slice whose memory cannot be told, where that is needed.
        """
        if not asked.gpu_count:
            return {}, {}
        if asked.gpu_memory is None:
            return {self.resources.get(asked.gpu_type or "", _NVIDIA): str(asked.gpu_count)}, {}
        fill = _filler(asked.gpu_memory)
        return (
            {
                # A count of slices is one for each GPU; the memory of one is each GPU's own already.
                fill(name): str(asked.gpu_count) if count == "1" else fill(count)
                for name, count in self.slices.resources.items()
            },
            {name: fill(text) for name, text in self.slices.env.items()},
        )


@dataclass(frozen=True)
class KubernetesOptions:
    """`manifest` holds the documents of a user's own Deployment or InferenceService; without one a Deployment is made
    of `image`. The load test runs in `load_image`, if `load_job`.
    """

    image: str | None = None
    namespace: str | None = None
    context: str | None = None
    manifest: tuple[Mapping[str, Any], ...] = ()
    container: str | None = None
    workload: str | None = None
    port: int | None = None
    gpus: ClusterGpus = ClusterGpus()
    dcgm: str | None = None
    shm_bytes: int | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    service_account: str | None = None
    image_pull_policy: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    load_job: bool = True
    load_image: str = "tune-load:1"
    load_cpu: float = 0.5
    room_timeout_s: float = 600.0


def _filler(value: ParameterValue) -> Any:
    def fill(text: str) -> str:
        text = text.replace("{value}", str(value))
        if "{gib}" in text or "{mib}" in text:
            size = _bytes_of(value)
            text = text.replace("{gib}", str(-(-size // 2**30))).replace("{mib}", str(-(-size // _MIB)))
        return text

    return fill


def _bytes_of(value: ParameterValue) -> int:
    """Memory of a slice: a size (8Gi), a MIG profile (1g.10gb), or a whole number of GiB."""
    text = str(value)
    if profile := _PROFILE.fullmatch(text):
        return int(profile[1]) * 2**30
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?i?)B?", text)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"the GPU slice {text!r} names no amount of memory; write for example 8Gi")
    return int(float(match[1]) * (_UNITS[match[2]] if match[2] else 2**30))
