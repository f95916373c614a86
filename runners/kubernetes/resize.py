"""CPU and memory of a running pod, changed in place where the API offers it (the subresource `pods/resize`, in
Kubernetes from 1.33 on).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any

from kubernetes.client.exceptions import ApiException
from kubernetes.utils import parse_quantity

from runners.kubernetes.cluster import Cluster, words
from runners.protocol import ServerFailed

_DONE_S, _LOOK_S = 30.0, 0.2
_WAITING = ("PodResizePending", "PodResizeInProgress")


def resize(cluster: Cluster, pod: str, container: str, wanted: Mapping[str, str]) -> None:
    """Blocks until the container has these resources, as requests and as limits. Raises ServerFailed where the API has
    no such subresource or refuses, and where the node has no room: then nobody knows what the container has.
    """
    if not offers_resize(cluster):
        raise ServerFailed("the cluster's API does not resize pods (Kubernetes does from 1.33 on)")
    if not hasattr(cluster.core, "patch_namespaced_pod_resize"):
        raise ServerFailed("the installed package kubernetes cannot resize pods; install kubernetes>=33")
    try:
        containers = _read(cluster, pod)["spec"]["containers"]
        place = next(number for number, one in enumerate(containers) if one["name"] == container)
        changes = [
            {"op": "add", "path": f"/spec/containers/{place}/resources/{kind}/{name}", "value": value}
            for kind in ("requests", "limits")
            for name, value in wanted.items()
        ]
        patch: Any = cluster.core.patch_namespaced_pod_resize
        with contextlib.closing(cluster.ask(patch, pod, cluster.namespace, changes, _preload_content=False)):
            pass
        _await_resized(cluster, pod, container, wanted)
    except ApiException as error:
        raise ServerFailed(f"the cluster refuses to resize the pod: {words(error)}") from error


def offers_resize(cluster: Cluster) -> bool:
    """Whether the API lists the subresource."""
    answer: Any = cluster.ask(cluster.core.get_api_resources, _preload_content=False)
    with contextlib.closing(answer):
        found = json.loads(answer.data)
    return any(one.get("name") == "pods/resize" for one in found.get("resources") or ())


def _await_resized(cluster: Cluster, pod: str, container: str, wanted: Mapping[str, str]) -> None:
    end, said = time.monotonic() + _DONE_S, ""
    while time.monotonic() < end:
        status = _read(cluster, pod).get("status") or {}
        waiting = [
            one for one in status.get("conditions") or () if one["type"] in _WAITING and one.get("status") == "True"
        ]
        if any(one.get("reason") == "Infeasible" for one in waiting):
            raise ServerFailed(f"the node cannot resize the pod: {waiting[0].get('message', 'Infeasible')}")
        if not waiting and _has(status, container, wanted):
            return
        said = next((str(one.get("message") or one.get("reason") or "") for one in waiting), "")
        time.sleep(_LOOK_S)
    raise ServerFailed(f"the pod was not resized within {_DONE_S:g} s{f': {said}' if said else ''}")


def _has(status: Mapping[str, Any], container: str, wanted: Mapping[str, str]) -> bool:
    """Whether the container itself has it: what its pod asks for may still be on its way."""
    found: Mapping[str, Any] = next(
        (one for one in status.get("containerStatuses") or () if one["name"] == container), {}
    )
    limits = (found.get("resources") or {}).get("limits") or {}
    return all(
        name in limits and parse_quantity(limits[name]) == parse_quantity(value) for name, value in wanted.items()
    )


def _read(cluster: Cluster, pod: str) -> dict[str, Any]:
    """As it is sent: older packages know fewer of its keys."""
    answer: Any = cluster.ask(cluster.core.read_namespaced_pod, pod, cluster.namespace, _preload_content=False)
    with contextlib.closing(answer):
        found: dict[str, Any] = json.loads(answer.data)
        return found
