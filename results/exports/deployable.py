"""What an export is made of: the recommended configuration, rendered, with what was measured of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from results.planning.fleet import replicas_for
from results.trial_parts import Estimate, ParameterValue

# Of the measured capacity, where no knee was measured; and the least and the most that a target may be of it.
_MIN_CPU_PERCENT, _MAX_CPU_PERCENT = 10, 95  # below, an idle replica uses as much; above, none is added in time
_TARGET, _MIN_TARGET, _MAX_TARGET = 0.8, 0.5, 0.9
_VALLEY = 5  # the peak is so many times the least traffic that replicas are kept for
_MAX_UNTOLD = 10  # replicas, where no traffic was given
_ROOM = 1.5  # for traffic above what was planned


def kubernetes_name(service: str) -> str:
    """A service's name as Kubernetes takes it: lower case, digits and dashes, at most 50 characters."""
    found = re.sub(r"[^a-z0-9]+", "-", service.lower()).strip("-")[:48].strip("-") or "service"
    return found if found[0].isalpha() else f"s-{found}"  # a Service's name begins with a letter


@dataclass(frozen=True)
class DeployedProgram:
    """What runs: `files` are rendered, by their path under `files_folder`; `secrets` names variables whose values only
    the environment has. `mounts`: path in the container -> what lay there, read-only, of the machine that measured it.
    Its image is pulled by `pull_secrets`, and it runs as `service_account`, of the cluster that measured it.
    """

    image: str | None
    command: tuple[str, ...]
    env: Mapping[str, str]
    secrets: tuple[str, ...]
    files: Mapping[str, str]
    files_folder: str
    mounts: Mapping[str, str] = field(default_factory=dict)
    pull_secrets: tuple[str, ...] = ()
    service_account: str | None = None


@dataclass(frozen=True)
class Listening:
    """Where the server answers, and how it says that it is ready. It is told its port, or listens on one that is
    `fixed` by its image. Prometheus finds its counters at `metrics_port` (None: not known to be another one).
    """

    port: int
    https: bool
    ready_path: str | None
    ready_timeout_s: float
    fixed: bool = False
    metrics_port: int | None = None


@dataclass(frozen=True)
class Needs:
    """What a replica asks for. `requests` are Kubernetes' requests and limits, GPU resources included; `gpus` is how
    many GPUs, or slices of one (None: one, where a type is said), each of them `gpu_slice` (None: whole). `claim` is
    the spec of the ResourceClaimTemplate by which it gets them, where it claims them. A node must have one of the
    labels that `node_labels` has for a key.
    """

    requests: Mapping[str, str]
    cpu_cores: float | None
    memory_bytes: int | None
    gpu_type: str | None
    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...]
    shm_bytes: int | None
    gpus: int | None = None
    claim: Mapping[str, Any] | None = None
    node_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gpu_slice: str | None = None


@dataclass(frozen=True)
class MeasuredReplica:
    """What one replica holds. `limit` is the SLO in words, `good` the share of `good_of` requests that held its goodput
    where it asks for one, `cores_used` what the capacity took, `energy_wh` what a million output tokens take of the
    GPUs, where their power was measured.
    """

    capacity: Estimate
    knee_qps: float | None
    p50_ms: float | None
    cores_used: float | None
    limit: str
    confirmed: bool
    good: float | None = None
    good_of: int | None = None
    energy_wh: float | None = None


@dataclass(frozen=True)
class MeasuredWorkload:
    """A workload of the user's own that was measured, and of which an export has what was tuned alone: that of `file`
    (None: tune's own, with a `patch`). `patch` is what the spec lays over it, filled in. Its container has arguments
    alone where it `takes_arguments`; `other_gpus` are resources in it that the configuration's GPUs replaced.
    """

    file: str | None
    kind: str
    name: str | None
    container: str | None
    patch: Mapping[str, Any]
    takes_arguments: bool = False
    other_gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployable:
    """One container, ready to be written down.

    `notes` say what else has to be. `roles` has the values of the parameters with a role. `qps` is the traffic that
    replicas are for (None: not said). One that is `called` gets its requests from other services of its chain alone.
    """

    service: str
    configuration: Mapping[str, ParameterValue]
    program: DeployedProgram
    listens: Listening
    needs: Needs
    measured: MeasuredReplica
    notes: tuple[str, ...]
    qps: float | None
    roles: Mapping[str, ParameterValue] = field(default_factory=dict)
    spare: int = 1
    called: bool = False
    workload: MeasuredWorkload | None = None

    @property
    def name(self) -> str:
        """The service's name as Kubernetes takes it."""
        return kubernetes_name(self.service)

    @property
    def gpu_count(self) -> int:
        """How many GPUs, or slices of one, a replica has; one where only a type is said."""
        return int(self.needs.gpu_type is not None) if self.needs.gpus is None else self.needs.gpus

    @property
    def scales(self) -> bool:
        """Whether a replica is known to hold any traffic at all: a best-effort service has no share of it."""
        return self.measured.capacity.low > 0

    @property
    def target_qps(self) -> float:
        """The rate that an autoscaler should keep each replica at: the measured knee, within 50% to 90% of the lower
        bound of the capacity.
        """
        low = self.measured.capacity.low
        knee = _TARGET * low if self.measured.knee_qps is None else self.measured.knee_qps
        return min(max(knee, _MIN_TARGET * low), _MAX_TARGET * low)

    @property
    def target_cpu_percent(self) -> int | None:
        """The same as a share of the requested cores; None where no use of cores was measured, or none is requested."""
        used = self.cores_used_at_target
        if not self.needs.cpu_cores or not used:
            return None
        return min(_MAX_CPU_PERCENT, max(_MIN_CPU_PERCENT, round(100 * used / self.needs.cpu_cores)))

    @property
    def cores_used_at_target(self) -> float:
        """Cores in use at that rate, in proportion to what was used at the capacity; 0 where that was not measured."""
        used = self.measured.cores_used or 0.0
        return used * self.target_qps / self.measured.capacity.value if self.scales else 0.0

    @property
    def concurrency(self) -> int:
        """Requests under way at that rate, by Little's law; at least one."""
        return max(1, round(self.target_qps * (self.measured.p50_ms or 0.0) / 1e3))

    @property
    def replicas(self) -> int:
        """Replicas for `qps`, with one spare; one if no traffic was given."""
        return self._replicas_for(self.qps, self.measured.capacity.low)

    @property
    def min_replicas(self) -> int:
        """The least replicas of an autoscaler: enough for a fifth of the traffic."""
        valley = None if self.qps is None else self.qps / _VALLEY
        return self._replicas_for(valley, self.measured.capacity.low)

    @property
    def max_replicas(self) -> int:
        """The most replicas of an autoscaler: enough for half as much traffic again."""
        if not self.scales:
            return 1
        if self.qps is None:
            return _MAX_UNTOLD
        return max(self.min_replicas + 1, self._replicas_for(_ROOM * self.qps, self.target_qps))

    def _replicas_for(self, qps: float | None, each: float) -> int:
        return 1 if qps is None or not self.scales else replicas_for(qps / each, self.spare, 1)
