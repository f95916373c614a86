"""The spec's `runner:` section: where servers run, and what each place needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from tuner.spec.quantities import Bytes, Seconds, Share
from tuner.spec.section import Section, Text, Variables

SlicePreset = Literal["mig", "shared", "aliyun-gpu-mem", "hami-gpumem", "mps", "dra"]


class DockerSpec(Section):
    """Containers of Docker's engine; `DOCKER_HOST` says where its socket is, if not where it usually is."""

    build: str | None = Field(default=None, description="folder with a Dockerfile, to build service.image from")
    shm_size: Bytes | None = None
    mounts: Mapping[str, str] = Field(default_factory=dict, description="path in the container -> file or folder here")
    gpus: Mapping[str, tuple[Text, ...]] = Field(
        default_factory=dict, description="GPU type, slice, or type/slice -> the devices: indices, GPU or MIG UUIDs"
    )
    secrets: Literal["file", "environment"] = Field(
        default="file",
        description="how service.secrets reach the server: by a file that /bin/sh of the image reads, or in the "
        "container's environment, where `docker inspect` shows them",
    )

    @field_validator("mounts", mode="after")
    @classmethod
    def _absolute(cls, mounts: Mapping[str, str]) -> Mapping[str, str]:
        if relative := next((target for target in mounts if not target.startswith("/")), None):
            raise ValueError(f"{relative} is no absolute path in the container")
        return mounts


class ProcessSpec(Section):
    """Processes of this machine, which get whole GPUs."""

    gpu_slices: Literal["refused", "kept-by-server", "mps"] = Field(
        default="refused",
        description="mps: CUDA's MPS, which has to run here, keeps servers to their shares of a GPU's memory and "
        "compute. kept-by-server: the command holds the server itself to them; nothing here does, and every trial "
        "says so",
    )


class SliceSpec(Section):
    """What a slice of a GPU is in this cluster. `{value}` is the slice as the spec writes it, `{gib}` and `{mib}` its
    memory, `{percent}` the share of its compute (`gpu_compute`).
    """

    resources: Mapping[str, Text] = Field(default_factory=dict, description="extended resource -> how many")
    env: Variables = Field(default_factory=dict)


class ClusterGpuSpec(Section):
    """How a GPU type and a slice are asked of the cluster."""

    type_label: str = Field(default="nvidia.com/gpu.product", min_length=1)
    types: Mapping[str, str | tuple[str, ...]] = Field(default_factory=dict, description="GPU type -> label's values")
    resources: Mapping[str, Text] = Field(
        default_factory=dict,
        description="GPU type -> its extended resource, where that is not nvidia.com/gpu: amd.com/gpu, "
        "gpu.intel.com/i915, google.com/tpu; with slices: dra its DeviceClass, where that is not gpu.nvidia.com",
    )
    slices: SlicePreset | SliceSpec = "mig"
    dcgm: str | None = Field(
        default=None, pattern=r"^https?://", description="metrics of DCGM's exporter, to see use by"
    )

    @field_validator("slices", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        presets = get_args(SlicePreset)
        if isinstance(value, str) and value not in presets:
            raise ValueError(f"{value!r} is none of {', '.join(presets)}, and no mapping of resources and env")
        return value

    @property
    def grants_compute(self) -> bool:
        """Whether a slice holds a server to its share of the GPU's compute."""
        if isinstance(self.slices, str):
            return self.slices in ("hami-gpumem", "mps")
        return any("{percent}" in text for text in (*self.slices.resources.values(), *self.slices.env.values()))


class KubernetesSpec(Section):
    """Pods of the cluster that the kubeconfig (or the pod's own service account) names."""

    namespace: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="default: $TUNE_NAMESPACE, or else the kubeconfig's, or the tuner's own pod's",
    )
    context: str | None = None
    manifest: str | None = Field(
        default=None,
        description="workload with a pod template, or InferenceService, alone or in a rendered chart, to launch",
    )
    patch: Mapping[str, Any] = Field(
        default_factory=dict, description="laid over the workload, as kubectl patch does; may have placeholders"
    )
    container: str | None = Field(default=None, description="the manifest's container to tune; default: its first")
    workload: str | None = Field(
        default=None, description="the manifest's workload to tune, by its name, where it has several"
    )
    port: int | None = Field(
        default=None, ge=1, le=65535, description="where the server listens; default: the manifest's, or 8000"
    )
    gpu: ClusterGpuSpec = ClusterGpuSpec()
    shm_size: Bytes | None = None
    node_selector: Mapping[str, Text] = Field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    service_account: str | None = None
    best_effort_priority_class: str | None = Field(
        default=None, description="of the pods of best-effort services, which ask for nothing (QoS class BestEffort)"
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    image_pull_secrets: tuple[str, ...] = ()
    load: Literal["job", "port-forward"] = "job"
    load_image: str | None = Field(
        default=None, description="the load test's image; default: $TUNE_LOAD_IMAGE, $TUNE_IMAGE, or else tune-load:1"
    )
    load_cpu: float = Field(default=0.5, ge=0, description="cores that the load test's pod asks for")
    room_timeout: Seconds = 600.0
    see_nodes: bool = Field(
        default=True,
        description="whether what no node has is infeasible at once; false where the cluster adds nodes for pods that "
        "wait (its autoscaler, Karpenter)",
    )
    resize: bool = Field(
        default=False,
        description="cores and memory of a running pod are changed between trials, where the API can (1.33 on)",
    )


RunnerName = Literal["process", "docker", "kubernetes", "command", "attach", "replay"]
_OWN_KEYS: Mapping[str, tuple[str, ...]] = {"command": ("url", "up", "down"), "attach": ("url",), "replay": ("table",)}


class RunnerSpec(Section):
    """Where servers run. `table` is the replay runner's CSV file; `url`, `up` and `down` are those of a server that is
    there already, or that commands start and end.
    """

    type: RunnerName = "process"
    table: str | None = None
    url: Text | tuple[Text, ...] | None = Field(
        default=None, description="http://host:port; or a command, as a list of words, that prints it"
    )
    up: tuple[Text, ...] = Field(default=(), description="the command that starts a server; may have placeholders")
    down: tuple[Text, ...] = Field(
        default=(), description="the command that ends it, and succeeds where nothing is left"
    )
    up_timeout: Seconds = Field(default=600.0, description="for up, and until the URL is known")
    down_timeout: Seconds = 300.0
    noise: Share = Field(
        default=0.0, ge=0, le=0.5, description="of a replay: how far launches differ, to see what noise does to a run"
    )
    reuse: bool = Field(default=True, description="trials share a server where they differ only in what it can be told")
    process: ProcessSpec = ProcessSpec()
    docker: DockerSpec = DockerSpec()
    kubernetes: KubernetesSpec = KubernetesSpec()

    @field_validator("up", "down", mode="before")
    @classmethod
    def _is_a_list(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(f"a command is a list, since no shell reads it: [{', '.join(value.split())}]")
        return value

    @property
    def launches(self) -> bool:
        """Whether servers are started, or asked; a table's rows are read."""
        return self.type != "replay"

    @property
    def attaches(self) -> bool:
        """Whether the server is there already: it is not started, and ends when its owner ends it."""
        return self.type == "attach"

    @property
    def elsewhere(self) -> bool:
        """Whether the user, or a command of theirs, says where the one server runs and what it gets."""
        return self.type in ("attach", "command")

    @property
    def on_this_machine(self) -> bool:
        """Whether servers run on this machine's cores, and every port of theirs is reached from here."""
        return self.type in ("process", "docker")

    @property
    def in_containers(self) -> bool:
        """Whether servers run from images, which have paths and environments of their own."""
        return self.type in ("docker", "kubernetes")

    @property
    def as_processes(self) -> bool:
        """Whether servers are processes of this machine, with its programs, its files and its environment."""
        return self.type == "process"

    @property
    def by_commands(self) -> bool:
        """Whether commands of the user's own start and end servers."""
        return self.type == "command"

    @property
    def in_cluster(self) -> bool:
        """Whether servers run in a cluster, on machines that have no file of this one."""
        return self.type == "kubernetes"

    @property
    def publishes_ports(self) -> bool:
        """Whether a container's port may be reached by this machine alone, on an address of its own."""
        return self.type == "docker"

    @property
    def connects_services(self) -> bool:
        """Whether a service can be started with the addresses of others, as in a chain."""
        return self.launches and not self.elsewhere

    @property
    def build(self) -> str | None:
        """The folder that `service.image` is built from; None where no image is built."""
        return self.docker.build if self.type == "docker" else None

    @property
    def sees_power(self) -> bool:
        """Whether what the GPUs draw can be read where servers run."""
        return not self.in_cluster or self.kubernetes.gpu.dcgm is not None

    def keeps_compute(self, *, told: bool) -> bool:
        """Whether somebody holds a server to its share of a GPU's compute. `told`: its command knows the share."""
        if self.as_processes:
            return self.process.gpu_slices == "mps" or (told and self.process.gpu_slices == "kept-by-server")
        return self.elsewhere or (self.in_cluster and self.kubernetes.gpu.grants_compute)

    @property
    def workload_patch(self) -> Mapping[str, Any]:
        """What is laid over a cluster's workload; nothing on other runners."""
        return self.kubernetes.patch if self.in_cluster else {}

    @model_validator(mode="after")
    def _keys_of_its_type(self) -> RunnerSpec:
        if (self.type == "replay") != (self.table is not None):
            raise ValueError("type: replay needs table: FILE.csv, and nothing else has one")
        if self.noise and self.type != "replay":
            raise ValueError("noise is for type: replay alone; real launches have their own")
        for key in ("url", "up", "down"):
            if getattr(self, key) and key not in _OWN_KEYS.get(self.type, ()):
                raise ValueError(
                    f"{key} is not for type: {self.type}; url goes with attach, up, url and down with command"
                )
        if self.type == "attach" and not isinstance(self.url, str):
            raise ValueError("type: attach needs url: http://host:port, that of the server that is there")
        if self.type == "command" and not (self.up and self.url and self.down):
            raise ValueError(
                "type: command needs up: [...], url: (an address, or a command that prints it) and down: [...]"
            )
        return self


def of_type(section: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A spec's `runner:` for another runner, to be validated: what belongs to one alone is left out."""
    own = {"up_timeout", "down_timeout", "noise", *(key for keys in _OWN_KEYS.values() for key in keys)}
    return {**{key: value for key, value in section.items() if key not in own}, "type": name}
