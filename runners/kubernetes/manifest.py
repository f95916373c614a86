"""A user's own manifest: which of its objects is tuned, which container of it, and where that one listens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runners.starting import CONTAINER_PORT

Document = dict[str, Any]

_KSERVE_PORT = 8080  # of KServe's own runtimes, and where it sends requests unless a container says otherwise
_TEMPLATED = ("Deployment", "StatefulSet", "ReplicaSet", "Rollout", "LeaderWorkerSet", "RayService")
_USUAL = ("Deployment", "InferenceService")
WORKLOADS = (*_TEMPLATED, "InferenceService")
_SHARED = ("ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim")
# Predictors of v1beta1 that KServe turns into `model` itself, with the same keys in them.
_FRAMEWORKS = (
    "sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface", "lightgbm", "paddle", "pmml"
)  # fmt: skip
_SERVING, _BESIDE = (
    ("http", "http1", "http-web", "h2c", "https", "web", "api", "rest", "server", "serve"),
    ("metric", "prom", "grpc"),
)
_MAX_LISTS = 10
# Where Kubernetes has mappings, as far as they are read here: in a workload, and in a container.
_IN_WORKLOADS = (
    ("metadata", "labels"), ("metadata", "annotations"), ("spec", "selector", "matchLabels"),
    ("spec", "template", "metadata", "labels"), ("spec", "template", "spec"), ("spec", "predictor", "labels"),
    ("spec", "leaderWorkerTemplate", "leaderTemplate"), ("spec", "leaderWorkerTemplate", "workerTemplate"),
    ("spec", "rayClusterConfig", "headGroupSpec", "template"),
)  # fmt: skip
_PROBES = ("readinessProbe", "startupProbe", "livenessProbe")
_IN_CONTAINERS = (
    ("resources", "limits"), ("resources", "requests"),
    *((probe, way) for probe in _PROBES for way in ("httpGet", "tcpSocket")),
)  # fmt: skip
# And what begins so: nvidia.com/gpu.shared, nvidia.com/gpumem, gpu.intel.com/i915.
_GPU_RESOURCES = ("nvidia.com/gpu", "nvidia.com/mig-", "amd.com/gpu", "gpu.intel.com/", "aliyun.com/gpu-")


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
    """The one that is tuned: of several the one with that name, or else the only one with that container. What makes
    pods of a template comes as a Deployment of that template: one pod of it is measured, whoever makes the others.
    Raises ValueError where there is none, or more than one.
    """
    every = list(flattened(documents))
    templated = [one for one in every if one.get("kind") in WORKLOADS]
    for one in templated:
        _refuse_other_shapes(one, _IN_WORKLOADS, str(one.get("kind")))
    usual = [one for one in templated if one.get("kind") in _USUAL]
    # A chart's StatefulSet beside its Deployment is a database, more often than not; by its name it is chosen too.
    named_so = any(_name(one) == name for one in templated)
    found = usual if usual and not named_so else templated
    if not found:
        kinds = ", ".join(str(one.get("kind")) for one in every) or "nothing"
        wanted = f"a {', a '.join(_TEMPLATED)} or an InferenceService"
        raise ValueError(f"needs {wanted}, and there is: {kinds}")
    named = [one for one in found if name is None or _name(one) == name]
    if len(named) > 1 and container is not None:
        named = [one for one in named if container in _containers(one)] or named
    if len(named) == 1:
        return _as_deployment(named[0])
    listed = ", ".join(map(_name, found))
    if not named:
        raise ValueError(f"has no workload named {name}; there is {listed}")
    raise ValueError(f"has {len(found)} workloads ({listed}); say which in runner.kubernetes.workload")


def _refuse_other_shapes(one: Mapping[str, Any], paths: Sequence[tuple[str, ...]], what: str) -> None:
    """Raises ValueError where there is something else than the mappings that the API wants."""
    for path in paths:
        found: Any = one
        for depth, key in enumerate(path, 1):
            found = found.get(key) or {}
            if not isinstance(found, Mapping):
                raise ValueError(f"the {what}'s {'.'.join(path[:depth])} is no mapping of keys to values")


def kind_of(documents: Sequence[Mapping[str, Any]], workload: Mapping[str, Any]) -> str:
    """What the documents say that the chosen workload is: it comes as a Deployment of what makes pods of a template."""
    every = [one for one in flattened(documents) if one.get("kind") in WORKLOADS and _name(one) == _name(workload)]
    as_it_is = any(one is workload for one in every)
    others = [str(one.get("kind")) for one in every if one.get("kind") not in _USUAL]
    return str(workload.get("kind")) if as_it_is or not others else others[0]


def _as_deployment(workload: Mapping[str, Any]) -> Mapping[str, Any]:
    kind, spec = workload.get("kind"), workload.get("spec") or {}
    if kind not in _TEMPLATED or kind == "Deployment":
        return workload
    template = spec.get("template")
    if kind == "LeaderWorkerSet":
        group = spec.get("leaderWorkerTemplate") or {}
        if (size := group.get("size", 1)) != 1:
            raise ValueError(f"the LeaderWorkerSet makes groups of {size} pods, and one pod is measured; use size: 1")
        template = group.get("leaderTemplate") or group.get("workerTemplate")
    if kind == "RayService":
        template = _ray_template(spec.get("rayClusterConfig") or {})
    if not isinstance(template, Mapping) or not isinstance(template.get("spec"), Mapping):
        raise ValueError(f"the {kind} has no pod in it")
    pod = dict(template["spec"])
    # A new StatefulSet's claims are empty as well, and would stay behind.
    claims = [(one.get("metadata") or {}).get("name") for one in spec.get("volumeClaimTemplates") or ()]
    if claims:
        kept = [one for one in pod.get("volumes") or () if one.get("name") not in claims]
        pod["volumes"] = kept + [{"name": name, "emptyDir": {}} for name in claims]
    own = {"template": {**template, "spec": pod}}
    if spec.get("selector"):
        own["selector"] = spec["selector"]
    about = workload.get("metadata") or {}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": own}


def _ray_template(cluster: Mapping[str, Any]) -> Any:
    """The pod of the workers that KubeRay makes, or of the head where there are none. Raises ValueError where workers
    of several kinds, or on several hosts, serve together: one pod is measured.
    """
    autoscaled = bool(cluster.get("enableInTreeAutoscaling"))
    groups = [one for one in cluster.get("workerGroupSpecs") or () if _has_workers(one, autoscaled)]
    if len(groups) > 1:
        names = ", ".join(str(one.get("groupName")) for one in groups)
        raise ValueError(f"the RayService has several groups of workers ({names}), and one pod is measured; leave one")
    if not groups:
        return (cluster.get("headGroupSpec") or {}).get("template")
    if (hosts := groups[0].get("numOfHosts", 1)) != 1:
        raise ValueError(f"the RayService's workers are groups of {hosts} hosts, and one pod is measured; use 1")
    return groups[0].get("template")


def _has_workers(group: Mapping[str, Any], autoscaled: bool) -> bool:
    """Whether the group ever has a pod: KubeRay's own defaults are no replicas, and no limit to what it adds."""
    most = group.get("maxReplicas", 1) if autoscaled else 0
    return any(isinstance(one, int) and one > 0 for one in (group.get("replicas"), group.get("minReplicas"), most))


def needs_command(documents: Sequence[Mapping[str, Any]], name: str | None, container: str | None) -> bool:
    """Whether an operator writes the command of the workload's container, so that the pod alone would serve nothing."""
    workload = workload_of(documents, name, container)
    ray = {_name(one) for one in flattened(documents) if one.get("kind") == "RayService"}
    server = server_container(pod_of(workload), container)
    return _name(workload) in ray and not (server.get("command") or server.get("args"))


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
    for one in containers:
        _refuse_other_shapes(one, _IN_CONTAINERS, f"container {one.get('name')}")
    if name is None and containers:
        return containers[0]
    for one in containers:
        if one.get("name") == name:
            return one
    listed = ", ".join(str(one.get("name")) for one in containers) or "none"
    raise ValueError(f"the manifest has no container {name or 'at all'}; there is {listed}")


def is_gpu(resource: str, own: Sequence[str] = ()) -> bool:
    """Whether a resource of that name is GPUs or slices of one. `own` are the names that the spec gives some."""
    return resource in own or resource.startswith(_GPU_RESOURCES)


def gpus_of(server: Mapping[str, Any], own: Sequence[str] = ()) -> dict[str, str]:
    """The GPUs that the container asks for, by the name of the resource."""
    limits = (server.get("resources") or {}).get("limits") or {}
    return {name: str(count) for name, count in limits.items() if is_gpu(name, own) and str(count) != "0"}


def workload_port(workload: Mapping[str, Any], container: str | None) -> int:
    """Where the workload's container serves, or where its kind listens as a rule."""
    usual = _KSERVE_PORT if workload.get("kind") == "InferenceService" else CONTAINER_PORT
    return server_port(server_container(pod_of(workload), container), usual)


def server_port(server: Mapping[str, Any], usual: int = CONTAINER_PORT) -> int:
    """Where the container says that it serves: by the port's name, by what its probes ask, or else its first port that
    is not for metrics. `usual` is where it is if it says nothing.
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
    return usual if chosen is None else int(chosen["containerPort"])


def _probed(server: Mapping[str, Any]) -> Any:
    """The port that readiness, start-up or liveness is asked at."""
    for probe in _PROBES:
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
