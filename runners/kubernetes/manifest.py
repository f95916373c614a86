"""A user's own manifest: which of its objects is tuned, which container of it, and where that one listens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Document = dict[str, Any]

PORT = 8000
WORKLOADS = ("Deployment", "InferenceService")
_SHARED = ("ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim")
# Predictors of v1beta1 that KServe turns into `model` itself, with the same keys in them.
_FRAMEWORKS = (
    "sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface", "lightgbm", "paddle", "pmml"
)  # fmt: skip
_SERVING, _BESIDE = (
    ("http", "http1", "http-web", "h2c", "https", "web", "api", "rest", "server"),
    ("metric", "prom", "grpc"),
)
_MAX_LISTS = 10


def flattened(documents: Sequence[Mapping[str, Any]], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The documents, those inside of a `List` too."""
    for one in documents:
        items = one.get("items")
        if str(one.get("kind", "")).endswith("List") and isinstance(items, list) and depth < _MAX_LISTS:
            yield from flattened([item for item in items if isinstance(item, Mapping)], depth + 1)
        else:
            yield one


def workload_of(
    documents: Sequence[Mapping[str, Any]], name: str | None = None, container: str | None = None
) -> Mapping[str, Any]:
    """The one that is tuned: of several the one with that name, or else the only one with that container. Raises
    ValueError where there is none, or more than one.
    """
    every = list(flattened(documents))
    found = [one for one in every if one.get("kind") in WORKLOADS]
    if not found:
        kinds = ", ".join(str(one.get("kind")) for one in every) or "nothing"
        raise ValueError(f"needs a {' or a '.join(WORKLOADS)}, and there is: {kinds}")
    named = [one for one in found if name is None or _name(one) == name]
    if len(named) > 1 and container is not None:
        named = [one for one in named if container in _containers(one)] or named
    if len(named) == 1:
        return named[0]
    listed = ", ".join(map(_name, found))
    if not named:
        raise ValueError(f"has no {' or '.join(WORKLOADS)} named {name}; there is {listed}")
    raise ValueError(f"has {len(found)} workloads ({listed}); say which in runner.kubernetes.workload")


def shared_of(documents: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What the workload needs beside it: created where it is absent, and never touched where it is there."""
    return [one for one in flattened(documents) if one.get("kind") in _SHARED]


def pod_of(workload: Mapping[str, Any]) -> Document:
    """The pod that a Deployment makes, or an InferenceService's predictor. Raises ValueError where there is none."""
    spec = workload.get("spec") or {}
    found = (
        spec.get("predictor")
        if workload.get("kind") == "InferenceService"
        else (spec.get("template") or {}).get("spec")
    )
    if not isinstance(found, dict):
        raise ValueError(f"the {workload.get('kind')} has no pod in it")
    return found


def model_of(pod: Mapping[str, Any]) -> Document | None:
    """An InferenceService's model, of which KServe makes a container that takes the same keys; None where the pod has
    containers.
    """
    if pod.get("containers"):
        return None
    return next((pod[key] for key in ("model", *_FRAMEWORKS) if isinstance(pod.get(key), dict)), None)


def server_container(pod: Mapping[str, Any], name: str | None) -> Document:
    """The container of a pod (or an InferenceService's predictor) that is tuned. Raises ValueError."""
    if (model := model_of(pod)) is not None:
        return model
    containers = [one for one in pod.get("containers") or () if isinstance(one, dict)]
    if name is None and containers:
        return containers[0]
    for one in containers:
        if one.get("name") == name:
            return one
    listed = ", ".join(str(one.get("name")) for one in containers) or "none"
    raise ValueError(f"the manifest has no container {name or 'at all'}; there is {listed}")


def server_port(server: Mapping[str, Any]) -> int:
    """Where the container says that it serves: by the port's name, by what its probes ask, or else its first port that
    is not for metrics.
    """
    ports = [one for one in server.get("ports") or () if isinstance(one, Mapping) and "containerPort" in one]
    by_name = {str(one.get("name")): one for one in ports}
    chosen = next((by_name[name] for name in _SERVING if name in by_name), None)
    if chosen is None and (probed := _probed(server)) is not None:
        if str(probed).isdecimal():
            return int(probed)
        chosen = by_name.get(str(probed))
    if chosen is None:
        serving = [one for one in ports if not any(word in str(one.get("name")).lower() for word in _BESIDE)]
        chosen = next(iter(serving or ports), None)
    return PORT if chosen is None else int(chosen["containerPort"])


def _probed(server: Mapping[str, Any]) -> Any:
    """The port that readiness, start-up or liveness is asked at."""
    for probe in ("readinessProbe", "startupProbe", "livenessProbe"):
        for way in ("httpGet", "tcpSocket"):
            port = ((server.get(probe) or {}).get(way) or {}).get("port")
            if port is not None:
                return port
    return None


def _name(workload: Mapping[str, Any]) -> str:
    return str((workload.get("metadata") or {}).get("name"))


def _containers(workload: Mapping[str, Any]) -> list[Any]:
    try:
        return [one.get("name") for one in pod_of(workload).get("containers") or () if isinstance(one, dict)]
    except ValueError:
        return []
