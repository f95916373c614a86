"""What the Kubernetes runner is told, as plain values; and what a GPU slice is in this cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runners.protocol import GIB, MIB, ParameterValue, Resources

_NVIDIA = "nvidia.com/gpu"
_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": MIB, "Gi": GIB, "Ti": 2**40
}  # fmt: skip
_PROFILE = re.compile(r"\d+g\.(\d+)gb")  # MIG: 1g.10gb
_MIG_RESOURCE = re.compile(r"(?:\d+c\.)?\d+g\.\d+gb(?:\.[a-z.]+)?")  # as a device plugin names one: 1g.10gb.me
_WHOLE_SHARE = re.compile(r"100(?:\.0+)?\s*%|1(?:\.0+)?")
_COUNT = re.compile(r"\d+(?:[kMGTPE]i?)?")


@dataclass(frozen=True)
class Slices:
    """What a slice of a GPU is: extended resources with their counts, and environment variables. In both `{value}` is
    the slice as the spec writes it, `{gib}` and `{mib}` its memory in whole GiB and MiB, `{percent}` the share of the
    compute. Those of what is not asked for are left out. `claimed`: devices are claimed (DRA) in place of counted.
    """

    resources: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    claimed: bool = False

    @property
    def grants_compute(self) -> bool:
        """Whether it can be a share of the compute."""
        return any("{percent}" in text for text in (*self.resources.values(), *self.env.values()))

    @property
    def counts(self) -> bool:
        """Whether what the spec writes is a number of slices."""
        return any("{value}" in count for count in self.resources.values())


PRESETS: Mapping[str, Slices] = {
    # NVIDIA's device plugin with the strategy `mixed`: a resource per profile.
    "mig": Slices({"nvidia.com/mig-{value}": "1"}),
    # NVIDIA's device plugin, time-slicing with `renameByDefault: true`: so many shares.
    "shared": Slices({"nvidia.com/gpu.shared": "{value}"}),
    # Alibaba Cloud's GPU share scheduler counts GiB of memory.
    "aliyun-gpu-mem": Slices({"aliyun.com/gpu-mem": "{gib}"}),
    # HAMi's device plugin: a virtual GPU, with a limit in MiB, and one in percent of its cores.
    "hami-gpumem": Slices({"nvidia.com/gpu": "1", "nvidia.com/gpumem": "{mib}", "nvidia.com/gpucores": "{percent}"}),
    # NVIDIA's MPS: a share of a GPU, and limits that the MPS daemon keeps (of memory for the first device).
    "mps": Slices(
        {"nvidia.com/gpu.shared": "1"},
        {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0={mib}M", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "{percent}"},
    ),
    # Dynamic resource allocation: a ResourceClaimTemplate, of a GPU, a MIG device, or so much of one's memory.
    "dra": Slices(claimed=True),
}
CLAIM = "gpu"
_CLASS, _MIG_CLASS = "gpu.nvidia.com", "mig.nvidia.com"  # DeviceClasses of NVIDIA's DRA driver
_IN_WORDS = ("{value}", "{gib}", "{mib}")


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

    def plain(self, asked: Resources) -> Resources:
        """A whole share of a GPU (`100%`, or 1 where that is no number of slices) as the whole GPU."""
        if asked.gpu_memory is None or self.slices.counts or not _WHOLE_SHARE.fullmatch(str(asked.gpu_memory)):
            return asked
        return replace(asked, gpu_memory=None, gpus=asked.gpu_count)

    def asked(self, asked: Resources) -> tuple[dict[str, str], dict[str, str]]:
        """Extended resources and environment of so many slices, or of so many whole GPUs where no slice is asked for.

        Raises ValueError for a slice whose memory cannot be told where that is needed, for one that is no MIG profile
        or no number where that is asked for, and for a share of the compute that this cluster's slices cannot be.
        """
        asked = self.plain(asked)
        if not asked.gpu_count:
            return {}, {}
        if asked.shares_compute and not self.slices.grants_compute:
            raise ValueError(f"{asked.compute_percent}% of a GPU's compute cannot be asked for by these slices")
        if self.slices.claimed:
            return {}, {}
        if asked.gpu_memory is None and not asked.shares_compute:
            return {self.resources.get(asked.gpu_type or "", _NVIDIA): str(asked.gpu_count)}, {}
        fill = _filler(asked)
        wanted = {name: text for name, text in self.slices.resources.items() if _is_asked(name + text, asked)}
        for name, count in wanted.items():
            _refuse_unknown(name, count, fill)
        return (
            {
                # A count of slices is one for each GPU; the memory of one is each GPU's own already.
                fill(name): str(asked.gpu_count) if count == "1" else fill(count)
                for name, count in wanted.items()
            },
            {name: fill(text) for name, text in self.slices.env.items() if _is_asked(text, asked)},
        )

    def claim(self, asked: Resources) -> dict[str, Any] | None:
        """The spec of a ResourceClaimTemplate (resource.k8s.io/v1); None where nothing is claimed.

        https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/; attributes and classes as
        NVIDIA's driver publishes them. Raises ValueError for a slice whose memory cannot be told.
        """
        asked = self.plain(asked)
        if not self.slices.claimed or not asked.gpu_count:
            return None
        name = self.resources.get(asked.gpu_type or "", _CLASS)
        exactly: dict[str, Any] = {
            "deviceClassName": name, "allocationMode": "ExactCount", "count": asked.gpu_count,
        }  # fmt: skip
        selectors = []
        if asked.gpu_type is not None:
            selectors.append(self._is_product(name, asked.gpu_type))
        if isinstance(asked.gpu_memory, str) and _PROFILE.match(asked.gpu_memory):
            exactly["deviceClassName"] = _MIG_CLASS if name == _CLASS else name
            selectors.append(f"device.attributes['{name}'].profile == '{asked.gpu_memory}'")
        elif asked.gpu_memory is not None:  # of a device that several claims may have at once
            exactly["capacity"] = {"requests": {"memory": str(_bytes_of(asked.gpu_memory))}}
        if selectors:
            exactly["selectors"] = [{"cel": {"expression": one}} for one in selectors]
        return {"spec": {"devices": {"requests": [{"name": CLAIM, "exactly": exactly}]}}}

    def _is_product(self, domain: str, gpu_type: str) -> str:
        """By the names that the spec gives it, or by one that has it as a word: an A10 is no A100."""
        product = f"device.attributes['{domain}'].productName"
        if gpu_type in self.types:
            named = ", ".join(json.dumps(one) for one in self.types[gpu_type])
            return f"{product} in [{named}]"
        pattern = f"(^|[^0-9A-Za-z]){re.escape(gpu_type)}([^0-9A-Za-z]|$)"
        return f"{product}.matches({json.dumps(pattern)})"


@dataclass(frozen=True)
class KubernetesOptions:
    """`manifest` holds the documents of a user's own Deployment or InferenceService; without one a Deployment is made
    of `image`. `patch` is laid over it, here as it is before a configuration's values are filled in. The load test runs
    in `load_image`, if `load_job`. `see_nodes`: the nodes that are there are all that there will be.
    """

    image: str | None = None
    namespace: str | None = None
    context: str | None = None
    manifest: tuple[Mapping[str, Any], ...] = ()
    patch: Mapping[str, Any] = field(default_factory=dict)
    container: str | None = None
    workload: str | None = None
    port: int | None = None
    gpus: ClusterGpus = ClusterGpus()
    dcgm: str | None = None
    shm_bytes: int | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    service_account: str | None = None
    best_effort_priority_class: str | None = None
    image_pull_policy: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    load_job: bool = True
    load_image: str = "tune-load:1"
    load_cpu: float = 0.5
    room_timeout_s: float = 600.0
    see_nodes: bool = True


def _is_asked(text: str, asked: Resources) -> bool:
    """Whether what a text says of a slice is known of this one."""
    if "{percent}" in text and not asked.shares_compute:
        return False
    return asked.gpu_memory is not None or not any(one in text for one in _IN_WORDS)


def _refuse_unknown(name: str, count: str, fill: Callable[[str], str]) -> None:
    """Raises ValueError for a resource that no cluster has, and for a count that is none."""
    value = fill("{value}")
    if name.endswith("mig-{value}") and not _MIG_RESOURCE.fullmatch(value):
        raise ValueError(f"the GPU slice {value!r} is no MIG profile; write for example 1g.10gb")
    if "{value}" in count and not _COUNT.fullmatch(fill(count)):
        raise ValueError(f"the GPU slice {value!r} is no number of {name}; write a whole number")


def _filler(asked: Resources) -> Callable[[str], str]:
    value = asked.gpu_memory
    if isinstance(value, float) and value.is_integer():
        value = int(value)

    def fill(text: str) -> str:
        text = text.replace("{value}", str(value)).replace("{percent}", asked.compute_percent)
        if value is not None and ("{gib}" in text or "{mib}" in text):
            size = _bytes_of(value)
            text = text.replace("{gib}", str(-(-size // GIB))).replace("{mib}", str(-(-size // MIB)))
        return text

    return fill


def _bytes_of(value: ParameterValue) -> int:
    """Memory of a slice: a size (8Gi), a MIG profile (1g.10gb), or a whole number of GiB."""
    text = str(value)
    if profile := _PROFILE.fullmatch(text):
        return int(profile[1]) * GIB
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?i?)B?", text)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"the GPU slice {text!r} names no amount of memory; write for example 8Gi")
    if not match[2] and float(match[1]) <= 1:  # which is priced as a share
        raise ValueError(f"the GPU slice {text!r} is a share, and an amount of memory is needed; write for example 8Gi")
    return int(float(match[1]) * (_UNITS[match[2]] if match[2] else GIB))
