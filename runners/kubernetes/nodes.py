"""What can never be scheduled here, from a look at the nodes and the namespace's quotas: known before any launch."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any

from kubernetes.client.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity

from runners.kubernetes.cluster import Cluster
from runners.kubernetes.objects import resource_section
from runners.kubernetes.options import KubernetesOptions
from runners.protocol import GIB, Resources

_FRESH_S = 60.0


class Nodes:
    """A look at the cluster, renewed once a minute. Where nodes may not be listed, or are added for pods that wait,
    everything may be possible.
    """

    def __init__(self, cluster: Cluster, options: KubernetesOptions) -> None:
        self._cluster, self._options = cluster, options
        self._lock = threading.Lock()
        self._at = -_FRESH_S
        self._nodes: list[Any] | None = None
        self._quotas: list[Any] = []
        self._answers: dict[Resources, str | None] = {}

    def refuses(self, asked: Resources) -> str | None:
        """Why no node could ever run it, or None. A node that is full or cordoned now may have room later."""
        with self._lock:
            if time.monotonic() - self._at > _FRESH_S:
                self._look()
            if asked not in self._answers:
                self._answers[asked] = self._judge(asked)
            return self._answers[asked]

    @property
    def only_one(self) -> bool:
        """Whether all pods share one node; False where that is not known."""
        return self._nodes is not None and len(self._nodes) == 1

    def _look(self) -> None:
        core = self._cluster.core
        self._nodes = None
        if self._options.see_nodes:
            with contextlib.suppress(ApiException):  # whom the cluster refuses that is told why by what is made
                self._nodes = self._cluster.ask(core.list_node).items
        try:
            self._quotas = self._cluster.ask(core.list_namespaced_resource_quota, self._cluster.namespace).items
        except ApiException:
            self._quotas = []
        self._at, self._answers = time.monotonic(), {}

    def _judge(self, asked: Resources) -> str | None:
        try:
            section = resource_section(asked, self._options).get("requests", {})
            self._options.gpus.claim(asked)
        except ValueError as error:
            return str(error)
        wanted = {name: float(parse_quantity(count)) for name, count in section.items()}
        if said := self._over_quota(wanted):
            return said
        if self._nodes is None:
            return None
        fitting = [node for node in self._nodes if _selects(node.metadata.labels or {}, self._options.node_selector)]
        if asked.gpu_type is not None and not self._options.gpus.slices.claimed:
            label, values = self._options.gpus.type_label, self._options.gpus.label_values(asked.gpu_type)
            fitting = [node for node in fitting if (node.metadata.labels or {}).get(label) in values]
            if not fitting:
                there = sorted(
                    {node.metadata.labels[label] for node in self._nodes if label in (node.metadata.labels or {})}
                )
                return f"no node has the GPU {' or '.join(values)} ({label}); there is {', '.join(there) or 'none'}"
        for name, count in wanted.items():
            largest = max((_amount(node.status.allocatable or {}, name) for node in fitting), default=0.0)
            if count > largest + 1e-9:
                return f"asks for {_shown(name, count)}, and the most that a node here gives is {_shown(name, largest)}"
        if wanted and not any(_fits(node.status.allocatable or {}, wanted) for node in fitting):
            listed = ", ".join(_shown(name, count) for name, count in wanted.items())
            return f"no node gives all of it at once: {listed}"
        return None

    def _over_quota(self, wanted: Mapping[str, float]) -> str | None:
        for quota in self._quotas:
            if quota.spec.scopes or quota.spec.scope_selector:
                continue  # of some pods only: where that is ours, the API refuses it by itself
            for name, hard in (quota.spec.hard or {}).items():
                plain = name.removeprefix("requests.").removeprefix("limits.")
                if plain in wanted and wanted[plain] > float(parse_quantity(hard)):
                    asked = _shown(plain, wanted[plain])
                    allowed = _shown(plain, float(parse_quantity(hard)))
                    return f"asks for {asked}, and the quota {quota.metadata.name} allows {allowed}"
        return None


def _selects(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in selector.items())


def _fits(allocatable: Mapping[str, str], wanted: Mapping[str, float]) -> bool:
    return all(count <= _amount(allocatable, name) + 1e-9 for name, count in wanted.items())


def _amount(allocatable: Mapping[str, str], name: str) -> float:
    return float(parse_quantity(allocatable[name])) if name in allocatable else 0.0


def _shown(name: str, amount: float) -> str:
    if name == "cpu":
        return f"{amount:g} CPU cores"
    if name == "memory":
        return f"{amount / GIB:.3g} GiB of memory"
    return f"{amount:g} {name}"
