"""The cluster's objects of one launch, as plain documents: made anew, or a user's own patched."""

from __future__ import annotations

import base64
import copy
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from runners.kubernetes.options import KubernetesOptions
from runners.protocol import Container, Resources

PORT = 8000
FILES = "/tune/files"
SERVER = "server"
STUDY, TRIAL, LAUNCH, HOST, LEASE = "tune/study", "tune/trial", "tune/launch", "tune/host", "tune/lease"
MANAGED = {"app.kubernetes.io/managed-by": "tune"}
_WORKLOADS = ("Deployment", "InferenceService")
CUSTOM = {"InferenceService": ("serving.kserve.io", "v1beta1", "inferenceservices")}  # group, version, plural
_SHARED = ("ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim")

Document = dict[str, Any]


def metadata(name: str, labels: Mapping[str, str], owner: Mapping[str, Any] | None) -> Document:
    """Of an object that goes when its owner goes."""
    return {"name": name, "labels": dict(labels), "ownerReferences": [dict(owner)] if owner else []}


def resource_section(asked: Resources, options: KubernetesOptions) -> Document:
    """Requests and limits, which are the same: what is measured is what was given."""
    wanted: dict[str, str] = {}
    if asked.cpu_cores is not None:
        wanted["cpu"] = f"{math.ceil(asked.cpu_cores * 1000)}m"
    if asked.memory_bytes is not None:
        wanted["memory"] = str(asked.memory_bytes)
    wanted |= options.gpus.asked(asked)[0]
    return {"requests": dict(wanted), "limits": dict(wanted)} if wanted else {}


def plain_deployment(port: int | None) -> Document:
    """What a manifest of the user's own would be, for a spec without one: it is patched as theirs are."""
    server = {
        "name": SERVER,
        "ports": [{"containerPort": port or PORT}],
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    pod = {
        "containers": [server],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # Not as process 1, which the kernel shields from the signal that ends it: a trial would wait for the grace.
        "shareProcessNamespace": True,
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": pod}}}


def workload_of(documents: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The one that is tuned. Raises ValueError where there is none, or more than one."""
    found = [one for one in documents if one.get("kind") in _WORKLOADS]
    if len(found) != 1:
        kinds = ", ".join(str(one.get("kind")) for one in documents) or "nothing"
        raise ValueError(f"needs exactly one {' or '.join(_WORKLOADS)}, and there is: {kinds}")
    return found[0]


def shared_of(documents: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What the workload needs beside it: created where it is absent, and never touched where it is there."""
    return [one for one in documents if one.get("kind") in _SHARED]


def server_port(server: Mapping[str, Any]) -> int:
    """Where the container says that it listens."""
    ports = server.get("ports") or []
    return int(ports[0]["containerPort"]) if ports else PORT


def server_container(pod: Mapping[str, Any], name: str | None) -> Document:
    """The container of a pod (or an InferenceService's predictor) that is tuned. Raises ValueError."""
    containers = list(pod.get("containers") or ())
    if not containers and isinstance(pod.get("model"), dict):
        model: Document = pod["model"]
        return model  # KServe makes a container of it that takes the same keys
    if name is None and containers:
        first: Document = containers[0]
        return first
    for one in containers:
        if one.get("name") == name:
            found: Document = one
            return found
    listed = ", ".join(str(one.get("name")) for one in containers) or "none"
    raise ValueError(f"the manifest has no container {name}; there is {listed}")


def patched(
    workload: Mapping[str, Any], name: str, container: Container, options: KubernetesOptions,
    labels: Mapping[str, str], owner: Mapping[str, Any] | None,
) -> Document:  # fmt: skip
    """A workload under a name of ours, with the configuration in it: resources, environment, arguments, image, files,
    and where and as whom it may run. All else stays as it is.
    """
    found = laid_over(workload, container.patch)
    theirs = found.get("metadata", {})
    found["metadata"] = metadata(name, {**(theirs.get("labels") or {}), **labels}, owner)
    if theirs.get("annotations"):
        found["metadata"]["annotations"] = dict(theirs["annotations"])
    pod = pod_of(found)
    server = server_container(pod, options.container)
    asked = container.resources
    server["resources"] = _merged(server.get("resources") or {}, resource_section(asked, options))
    given = options.gpus.asked(asked)[1] | dict(container.env)
    kept = [one for one in server.get("env") or () if one.get("name") not in given]
    there = {*given, *(one.get("name") for one in kept)}
    hidden = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": secrets_name(name), "key": key}}}
        for key in container.secrets
        if key not in there
    ]
    server["env"] = kept + hidden + [{"name": key, "value": value} for key, value in given.items()]
    if container.command:
        server["args" if "args" in server or "model" in pod else "command"] = list(container.command)
    if options.image:  # else the manifest's own
        server["image"] = container.image or options.image
    if options.image_pull_policy:
        server["imagePullPolicy"] = options.image_pull_policy
    if options.service_account:
        pod["serviceAccountName"] = options.service_account
    if options.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": one} for one in options.image_pull_secrets]
    beside = None if container.group is None else {key: labels[key] for key in (STUDY, TRIAL)}
    _place(pod, asked, options, beside)
    _mount(pod, server, options, files_name(name), list(container.files))
    pod["terminationGracePeriodSeconds"] = 1  # a measured server has nothing to save
    if found["kind"] == "Deployment":
        spec = found["spec"]
        spec |= {"replicas": 1, "strategy": {"type": "Recreate"}}
        own = spec["template"].setdefault("metadata", {})
        own["labels"] = {**(own.get("labels") or {}), **labels}
        # The user's own Service, if one runs, must not send traffic to a pod that is being measured.
        selected = {**((spec.get("selector") or {}).get("matchLabels") or {}), **(theirs.get("labels") or {})}
        own["labels"] = {key: value for key, value in own["labels"].items() if key in labels or key not in selected}
        spec["selector"] = {"matchLabels": {LAUNCH: labels[LAUNCH]}}
    else:
        found["spec"]["predictor"]["labels"] = {**(pod.get("labels") or {}), **labels}
        found["metadata"].setdefault("annotations", {})["serving.kserve.io/deploymentMode"] = "RawDeployment"
        found["spec"]["predictor"] |= {"minReplicas": 1, "maxReplicas": 1}
    return found


def laid_over(document: Mapping[str, Any], patch: Mapping[str, Any]) -> Document:
    """The document with a patch, as `kubectl patch` does by default: mappings merge, null removes, lists of things with
    a name merge by name, other lists are replaced.
    """
    found = copy.deepcopy(dict(document))
    for key, value in patch.items():
        before = found.get(key)
        if value is None:
            found.pop(key, None)
        elif isinstance(value, Mapping):
            found[key] = laid_over(before if isinstance(before, Mapping) else {}, value)
        elif isinstance(value, list) and isinstance(before, list) and _named(value) and _named(before):
            names = [one["name"] for one in before]
            changed = {one["name"]: one for one in value}
            kept = [laid_over(one, changed.get(one["name"], {})) for one in before]
            found[key] = kept + [dict(one) for one in value if one["name"] not in names]
        else:
            found[key] = copy.deepcopy(value)
    return found


def _named(items: list[Any]) -> bool:
    return all(isinstance(one, Mapping) and "name" in one for one in items)


def service(name: str, port: int, labels: Mapping[str, str], owner: Mapping[str, Any] | None) -> Document:
    """An address of the launch's pod that stays."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, labels, owner),
        "spec": {"selector": {LAUNCH: labels[LAUNCH]}, "ports": [{"port": port, "targetPort": port}]},
    }


def secrets_name(name: str) -> str:
    """Of the secret with the variables of ours that a launch's server is given."""
    return f"{name}-secrets"


def secret(name: str, variables: Sequence[str], labels: Mapping[str, str], owner: Mapping[str, Any] | None) -> Document:
    """Their values, from our environment."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(secrets_name(name), labels, owner),
        "data": {key: base64.b64encode(os.environ.get(key, "").encode()).decode() for key in variables},
    }


def files_name(name: str) -> str:
    """Of the config map with a launch's rendered files."""
    return f"{name}-files"


def config_map(
    name: str, files: Mapping[str, str], labels: Mapping[str, str], owner: Mapping[str, Any] | None
) -> Document:
    """The rendered files. A key may hold no slash, so the pod's mount gives each its path."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(files_name(name), labels, owner),
        "data": {_file_key(number): text for number, text in enumerate(files.values())},
    }


def _file_key(number: int) -> str:
    return f"file-{number}"


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


def _place(pod: Document, asked: Resources, options: KubernetesOptions, beside: Mapping[str, str] | None) -> None:
    """Node selector, affinity, tolerations: a GPU type with one name is selected, several names are alternatives."""
    selector = dict(pod.get("nodeSelector") or {}) | dict(options.node_selector)
    if asked.gpu_type is not None:
        values = options.gpus.label_values(asked.gpu_type)
        if len(values) == 1:
            selector[options.gpus.type_label] = values[0]
        else:
            term = {"matchExpressions": [{"key": options.gpus.type_label, "operator": "In", "values": list(values)}]}
            affinity = pod.setdefault("affinity", {}).setdefault("nodeAffinity", {})
            affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [term]}
    if selector:
        pod["nodeSelector"] = selector
    if beside is not None:  # servers that are tuned together share a node, as they would share a machine
        together: Document = {"labelSelector": {"matchLabels": dict(beside)}, "topologyKey": "kubernetes.io/hostname"}
        affinity = pod.setdefault("affinity", {}).setdefault("podAffinity", {})
        required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", [])
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = [*required, together]
    if options.tolerations:
        pod["tolerations"] = [*(pod.get("tolerations") or ()), *map(dict, options.tolerations)]


def _mount(pod: Document, server: Document, options: KubernetesOptions, config: str, files: Sequence[str]) -> None:
    volumes, mounts = list(pod.get("volumes") or ()), list(server.get("volumeMounts") or ())
    if files:
        items = [{"key": _file_key(number), "path": path} for number, path in enumerate(files)]
        volumes.append({"name": "tune-files", "configMap": {"name": config, "items": items}})
        mounts.append({"name": "tune-files", "mountPath": FILES, "readOnly": True})
    if options.shm_bytes is not None:
        volumes.append({"name": "tune-shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(options.shm_bytes)}})
        mounts.append({"name": "tune-shm", "mountPath": "/dev/shm"})  # noqa: S108 (the container's own)
    if volumes:
        pod["volumes"] = volumes
    if mounts:
        server["volumeMounts"] = mounts


def _merged(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Document:
    return {
        kind: {**(theirs.get(kind) or {}), **(ours.get(kind) or {})}
        for kind in ("requests", "limits")
        if theirs.get(kind) or ours.get(kind)
    }
