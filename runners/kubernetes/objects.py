"""The cluster's objects of one launch, as plain documents: made anew, or a user's own patched."""

from __future__ import annotations

import base64
import copy
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from runners.kubernetes.manifest import Document, is_gpu, model_of, pod_of, server_container
from runners.kubernetes.options import CLAIM, KubernetesOptions
from runners.protocol import Container, Resources
from runners.starting import CONTAINER_FILES, CONTAINER_PORT

SERVER = "server"
STUDY, TRIAL, LAUNCH, HOST, LEASE = "tune/study", "tune/trial", "tune/launch", "tune/host", "tune/lease"
MANAGED = {"app.kubernetes.io/managed-by": "tune"}
# What Kubernetes merges lists by, where it is not the name (`patchMergeKey` in its API).
_MERGE_KEYS = {
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "volumeDevices": "devicePath",
    "hostAliases": "ip",
}
_SECTIONS = ("requests", "limits")
CLAIMS = ("resource.k8s.io", "v1", "resourceclaimtemplates")  # group, version, plural
CUSTOM = {"InferenceService": ("serving.kserve.io", "v1beta1", "inferenceservices")}  # group, version, plural


def metadata(name: str, labels: Mapping[str, str], owner: Mapping[str, Any] | None) -> Document:
    """The metadata of an object that goes when its owner goes."""
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
        "ports": [{"containerPort": port or CONTAINER_PORT}],
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
    theirs_kept = _without_gpus(server.get("resources") or {}, asked, options)
    server["resources"] = _merged(theirs_kept, resource_section(asked, options))
    if options.gpus.claim(asked) is not None:
        _claim(pod, server, claim_name(name))
    given = options.gpus.asked(asked)[1] | container.priority_env | dict(container.env)
    kept = [one for one in server.get("env") or () if one.get("name") not in given]
    there = {*given, *(one.get("name") for one in kept)}
    hidden = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": secrets_name(name), "key": key}}}
        for key in container.secrets
        if key not in there
    ]
    server["env"] = kept + hidden + [{"name": key, "value": literal(value)} for key, value in given.items()]
    if container.command:
        _run(server, container.command, is_model=model_of(pod) is not None)
    if options.image:  # else the manifest's own
        server["image"] = container.image or options.image
    if options.image_pull_policy:
        server["imagePullPolicy"] = options.image_pull_policy
    if container.best_effort and options.best_effort_priority_class:
        pod["priorityClassName"] = options.best_effort_priority_class
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


def chooses_image(workload: Mapping[str, Any], container: Container, options: KubernetesOptions) -> bool:
    """Whether the image is this configuration's: one that the patch names by a parameter. Else all configurations have
    the same.
    """
    if options.image:
        return False
    before = server_container(pod_of(laid_over(workload, options.patch)), options.container)
    after = server_container(pod_of(laid_over(workload, container.patch)), options.container)
    return any(before.get(key) != after.get(key) for key in ("image", "runtimeVersion"))


def literal(text: str) -> str:
    """A text that arrives as it is: a kubelet takes `$(NAME)` for a variable, and `$$` for a dollar."""
    return text.replace("$", "$$") if "$(" in text or "$$" in text else text


def _run(server: Document, command: Sequence[str], *, is_model: bool) -> None:
    """The container runs our command: its own words (`/bin/sh -c` among them) are no part of it. Where ours begins with
    an option, a manifest has arguments alone, or a runtime brings its program, ours are arguments to that program.
    """
    words = [literal(word) for word in command]
    keeps_program = "command" not in server and ("args" in server or is_model)
    if command[0].startswith("-") or keeps_program:
        server["args"] = words
    else:
        server["command"] = words
        server.pop("args", None)


def laid_over(document: Mapping[str, Any], patch: Mapping[str, Any]) -> Document:
    """The document with a patch, as `kubectl patch` does by default: mappings merge, null removes, lists of things with
    a key of their own (a name, mostly) merge by it, other lists are replaced.
    """
    found = copy.deepcopy(dict(document))
    for key, value in patch.items():
        before = found.get(key)
        if value is None:
            found.pop(key, None)
        elif isinstance(value, Mapping):
            found[key] = laid_over(before if isinstance(before, Mapping) else {}, value)
        elif (
            isinstance(value, list)
            and isinstance(before, list)
            and _have(by := _MERGE_KEYS.get(key, "name"), value, before)
        ):
            names = [one[by] for one in before]
            changed = {one[by]: one for one in value}
            kept = [laid_over(one, changed.get(one[by], {})) for one in before]
            found[key] = kept + [dict(one) for one in value if one[by] not in names]
        else:
            found[key] = copy.deepcopy(value)
    return found


def _have(key: str, *lists: list[Any]) -> bool:
    return all(isinstance(one, Mapping) and key in one for items in lists for one in items)


def service(name: str, port: int, labels: Mapping[str, str], owner: Mapping[str, Any] | None) -> Document:
    """An address of the launch's pod that stays."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, labels, owner),
        "spec": {"selector": {LAUNCH: labels[LAUNCH]}, "ports": [{"port": port, "targetPort": port}]},
    }


def secrets_name(name: str) -> str:
    """The name of the secret with the variables that a launch's server is given."""
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
    """The name of the config map with a launch's rendered files."""
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


def claim_name(name: str) -> str:
    """The name of the template by which a launch's pod claims its devices."""
    return f"{name}-{CLAIM}"


def claim_template(
    name: str, claim: Mapping[str, Any], labels: Mapping[str, str], owner: Mapping[str, Any] | None
) -> Document:
    """A claim is made of it for the pod, and goes with the pod."""
    return {
        "apiVersion": "/".join(CLAIMS[:2]),
        "kind": "ResourceClaimTemplate",
        "metadata": metadata(claim_name(name), labels, owner),
        "spec": dict(claim),
    }


def _claim(pod: Document, server: Document, template: str) -> None:
    """Theirs of the same name are replaced."""
    theirs = [one for one in pod.get("resourceClaims") or () if one.get("name") != CLAIM]
    pod["resourceClaims"] = [*theirs, {"name": CLAIM, "resourceClaimTemplateName": template}]
    claimed = [one for one in server["resources"].get("claims") or () if one.get("name") != CLAIM]
    server["resources"]["claims"] = [*claimed, {"name": CLAIM}]


def _file_key(number: int) -> str:
    return f"file-{number}"


def _place(pod: Document, asked: Resources, options: KubernetesOptions, beside: Mapping[str, str] | None) -> None:
    """Node selector, affinity, tolerations: a GPU type with one name is selected, several names are alternatives."""
    selector = dict(pod.get("nodeSelector") or {}) | dict(options.node_selector)
    if asked.gpu_type is not None and not options.gpus.slices.claimed:  # a claim names the product itself
        values = options.gpus.label_values(asked.gpu_type)
        if len(values) == 1:
            selector[options.gpus.type_label] = values[0]
        else:
            _require(pod, {"key": options.gpus.type_label, "operator": "In", "values": list(values)})
    if selector:
        pod["nodeSelector"] = selector
    if beside is not None:  # servers that are tuned together share a node, as they would share a machine
        same_node: Document = {"labelSelector": {"matchLabels": dict(beside)}, "topologyKey": "kubernetes.io/hostname"}
        affinity = pod.setdefault("affinity", {}).setdefault("podAffinity", {})
        required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", [])
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = [*required, same_node]
    theirs = list(pod.get("tolerations") or ())
    if new := [dict(one) for one in options.tolerations if dict(one) not in theirs]:
        pod["tolerations"] = [*theirs, *new]


def _require(pod: Document, expression: Document) -> None:
    """Beside what the manifest requires of nodes: its terms are alternatives, so each of them gets the expression."""
    affinity = pod["affinity"] = dict(pod.get("affinity") or {})
    nodes = affinity["nodeAffinity"] = dict(affinity.get("nodeAffinity") or {})
    required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = []
    for term in required.get("nodeSelectorTerms") or [{}]:
        others = [one for one in term.get("matchExpressions") or () if one.get("key") != expression["key"]]
        terms.append({**term, "matchExpressions": [*others, expression]})
    nodes["requiredDuringSchedulingIgnoredDuringExecution"] = {**required, "nodeSelectorTerms": terms}


def _mount(pod: Document, server: Document, options: KubernetesOptions, config: str, files: Sequence[str]) -> None:
    ours: list[tuple[Document, Document]] = []  # a volume, and its mount
    if files:
        items = [{"key": _file_key(number), "path": path} for number, path in enumerate(files)]
        ours.append((
            {"name": "tune-files", "configMap": {"name": config, "items": items}},
            {"name": "tune-files", "mountPath": CONTAINER_FILES, "readOnly": True},
        ))  # fmt: skip
    if options.shm_bytes is not None:
        ours.append((
            {"name": "tune-shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(options.shm_bytes)}},
            {"name": "tune-shm", "mountPath": "/dev/shm"},  # noqa: S108 (the container's own)
        ))  # fmt: skip
    if not ours:
        return
    taken = {mount["mountPath"] for _, mount in ours}
    theirs = list(server.get("volumeMounts") or ())
    # Kubernetes refuses a pod with two mounts at one path.
    replaced = {one.get("name") for one in theirs if str(one.get("mountPath", "")).rstrip("/") in taken}
    server["volumeMounts"] = [one for one in theirs if str(one.get("mountPath", "")).rstrip("/") not in taken]
    server["volumeMounts"] += [mount for _, mount in ours]
    every = [*(pod.get("containers") or ()), *(pod.get("initContainers") or ()), server]
    used = {mount.get("name") for one in every for mount in one.get("volumeMounts") or ()}
    names = {volume["name"] for volume, _ in ours}
    kept = [one for one in pod.get("volumes") or () if one.get("name") not in replaced - used | names]
    pod["volumes"] = kept + [volume for volume, _ in ours]


def _without_gpus(theirs: Mapping[str, Any], asked: Resources, options: KubernetesOptions) -> Document:
    """A manifest's resources. The GPUs in them are left out where the configuration says which it has: some of its own,
    which may be called otherwise (a slice in place of a whole one, a claim), or none.
    """
    if not asked.gpu_count and asked.gpus is None:
        return dict(theirs)
    own = tuple(options.gpus.resources.values())
    return {
        kind: {name: one for name, one in (section or {}).items() if not is_gpu(name, own)}
        if kind in _SECTIONS
        else section
        for kind, section in theirs.items()
    }


def _merged(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Document:
    merged: Document = {
        kind: {**(theirs.get(kind) or {}), **(ours.get(kind) or {})}
        for kind in _SECTIONS
        if theirs.get(kind) or ours.get(kind)
    }
    return merged | ({"claims": theirs["claims"]} if theirs.get("claims") else {})
