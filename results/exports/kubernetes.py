"""Kubernetes' own objects: Deployment, Service, HPA; values for a Helm chart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from results.exports.deployable import Deployable
from results.exports.documents import NO_IMAGE, Document, aim, body, header, remarked, to_yaml
from results.text import figure

_PERIOD_S = 2
_TIMEOUT_S = 5  # of a probe's request; Kubernetes' own is 1 s, which a busy server misses
_CLAIM = "gpu"
# Of Services beside it: one called `vllm` sets VLLM_PORT in a pod, which vLLM takes for its own setting.
NO_VARIABLES: Document = {"enableServiceLinks": False}
_HANGS_AFTER = 6  # probes without an answer, 10 s apart


def kubernetes(one: Deployable) -> dict[str, str]:
    """Deployment, Service and HorizontalPodAutoscaler (autoscaling/v2; none of a best-effort service), a ConfigMap for
    rendered files, and a ResourceClaimTemplate where the replica claims its GPUs.
    """
    text = to_yaml([*beside(one), deployment(one), service(one)], header(one))
    return {f"{one.name}.yaml": f"{text}---\n{explained_autoscaler(one)}" if one.scales else text}


def explained_autoscaler(one: Deployable) -> str:
    """The autoscaler as text, with a comment that says where its number is from."""
    percent, text = one.target_cpu_percent, body(autoscaler(one))
    if percent is None:
        return remarked(text, "averageValue", aim(one))
    cores, requested = one.cores_used_at_target, one.needs.cpu_cores or 1.0
    takes = f"at that rate it uses {figure(cores)} of the {figure(requested)} cores that it requests: "
    exact = round(100 * cores / requested)
    takes += (
        f"{percent}%"
        if exact == percent
        else (
            f"{exact}%, written as {percent}%.\nThat does not tell a busy replica from an idle one: "
            "scale by requests per second instead, or request other cores"
        )
    )
    return remarked(text, "averageUtilization", f"{aim(one)};\n{takes}")


def helm_values(one: Deployable) -> dict[str, str]:
    """Values under the names that `helm create` gives a chart."""
    image = one.program.image or NO_IMAGE
    # Without a tag such a chart takes its own version for one. A digest is put together again as it was.
    untagged = (image, "", "latest" if one.program.image else "")
    repository, _, tag = image.rpartition(":") if ":" in image.rsplit("/", 1)[-1] else untagged
    values: Document = {
        "replicaCount": one.replicas,
        "image": {"repository": repository, **({"tag": tag} if tag else {})},
        "fullnameOverride": one.name,
        "service": {"port": one.listens.port},
        "resources": resources(one),
        # Such a chart scales by the use of cores, at 80% unless told: where none was measured, that is a guess.
        "autoscaling": {
            "enabled": one.target_cpu_percent is not None,
            "minReplicas": one.min_replicas,
            "maxReplicas": one.max_replicas,
        },
        **placement(one),
    }
    if one.program.pull_secrets:
        values["imagePullSecrets"] = account(one)["imagePullSecrets"]
    if one.program.service_account:
        values["serviceAccount"] = {"create": False, "name": one.program.service_account}
    values |= started(one)
    if one.program.env or one.program.secrets:
        values["env"] = env_entries(one)
    server = container(one)
    # Such a chart has no start-up probe, without which a liveness probe would end a server that still loads.
    late = {"initialDelaySeconds": math.ceil(one.listens.ready_timeout_s)}
    values |= {"readinessProbe": server["readinessProbe"], "livenessProbe": late | server["livenessProbe"]}
    values |= {"volumeMounts": server["volumeMounts"]} if "volumeMounts" in server else {}
    values |= volumes_of(one)
    if one.target_cpu_percent is not None:
        values["autoscaling"]["targetCPUUtilizationPercentage"] = one.target_cpu_percent
    variable = f"{one.name.upper().replace('-', '_')}_PORT"
    head = (
        f"{header(one)}\nWrite enableServiceLinks: false into the chart's pod spec, for which it has no value:\n"
        f"else its Service sets {variable} in the server, which was measured without."
    )
    return {"values.yaml": to_yaml([values], head), **file_of(beside(one), one)}


def beside(one: Deployable) -> list[Document]:
    """What its pods need beside them: the rendered files, and the template of their claims."""
    return [*([_config_map(one)] if one.program.files else []), *claims(one)]


def claims(one: Deployable) -> list[Document]:
    """A ResourceClaimTemplate (resource.k8s.io/v1) where the replica claims its GPUs."""
    if one.needs.claim is None:
        return []
    kind = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate"}
    named = {"name": _claim_name(one), "labels": metadata(one)["labels"]}
    return [{**kind, "metadata": named, "spec": dict(one.needs.claim)}]


def file_of(documents: list[Document], one: Deployable) -> dict[str, str]:
    """A file of what pods need beside them; none where that is nothing."""
    return {"files.yaml": to_yaml(documents, header(one, replicas=False))} if documents else {}


def _claim_name(one: Deployable) -> str:
    return f"{one.name}-gpu"


def deployment(one: Deployable) -> Document:
    """One container, which is ready when it answers."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(one),
        "spec": {
            "replicas": one.replicas,
            "selector": {"matchLabels": selector(one)},
            "template": {"metadata": {"labels": selector(one)}, "spec": pod(one)},
        },
    }


def pod(one: Deployable) -> Document:
    """A pod's spec."""
    return {
        "containers": [container(one)],
        "automountServiceAccountToken": False,
        **NO_VARIABLES,
        **account(one),
        **placement(one),
        **volumes_of(one),
    }


def account(one: Deployable) -> Document:
    """As whom a pod runs, and by which secrets its image is pulled."""
    program = one.program
    return {
        **({"serviceAccountName": program.service_account} if program.service_account else {}),
        **({"imagePullSecrets": [{"name": name} for name in program.pull_secrets]} if program.pull_secrets else {}),
    }


def container(one: Deployable) -> Document:
    """The server, with its probes."""
    ready = (
        {
            "httpGet": {
                "path": one.listens.ready_path,
                "port": one.listens.port,
                **({"scheme": "HTTPS"} if one.listens.https else {}),
            }
        }
        if one.listens.ready_path
        else {"tcpSocket": {"port": one.listens.port}}
    )
    found: Document = {
        "name": one.name,
        "image": one.program.image or NO_IMAGE,
        "ports": _ports(one),
        **({"resources": resources(one)} if one.needs.requests or one.needs.claim else {}),
        "startupProbe": {
            **ready, "periodSeconds": _PERIOD_S, "timeoutSeconds": _TIMEOUT_S,
            "failureThreshold": max(3, math.ceil(one.listens.ready_timeout_s / _PERIOD_S)),
        },
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": _TIMEOUT_S},
        # Slower than readiness: a server that is busy loses traffic first, and is started again only when it hangs.
        "livenessProbe": {
            **ready, "periodSeconds": 10, "timeoutSeconds": _TIMEOUT_S, "failureThreshold": _HANGS_AFTER,
        },
        "securityContext": {"allowPrivilegeEscalation": False},
    }  # fmt: skip
    found |= started(one)
    if one.program.env or one.program.secrets:
        found["env"] = env_entries(one)
    mounts = [{"name": "files", "mountPath": one.program.files_folder, "readOnly": True}] if one.program.files else []
    if one.needs.shm_bytes:
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108 (the container's own)
    if mounts:
        found["volumeMounts"] = mounts
    return found


def _ports(one: Deployable) -> list[Document]:
    found: list[Document] = [{"name": "http", "containerPort": one.listens.port}]
    if one.listens.metrics_port is not None:
        found.append({"name": "metrics", "containerPort": one.listens.metrics_port})
    return found


def autoscaler(one: Deployable) -> Document:
    """Targets the knee: as a share of the requested cores, or, where that is unknown, as requests/s of each pod, which
    needs an adapter for custom metrics.
    """
    percent = one.target_cpu_percent
    metric: Document = (
        {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}},
        }
        if percent is not None
        else {
            "type": "Pods",
            "pods": {
                "metric": {"name": "http_requests_per_second"},
                "target": {"type": "AverageValue", "averageValue": quantity(one.target_qps)},
            },
        }
    )
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(one),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": one.name},
            "minReplicas": one.min_replicas,
            "maxReplicas": one.max_replicas,
            "metrics": [metric],
        },
    }


def metadata(one: Deployable) -> Document:
    """An object's metadata, with the labels that Kubernetes recommends."""
    return {"name": one.name, "labels": {**selector(one), "app.kubernetes.io/managed-by": "tune"}}


def resources(one: Deployable) -> Document:
    """A container's resources. Requests equal limits, so that what is reserved is what was measured."""
    wanted = {name: _size(value) if name == "memory" else value for name, value in one.needs.requests.items()}
    claimed = {} if one.needs.claim is None else {"claims": [{"name": _CLAIM}]}
    return ({"requests": wanted, "limits": dict(wanted)} if wanted else {}) | claimed


def _size(value: str) -> str:
    """Bytes in the largest unit that they are a whole number of: `1Gi`, `768Mi`."""
    if not value.isdigit():
        return value
    for power, unit in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        count, rest = divmod(int(value), 1024**power)
        if count and not rest:
            return f"{count}{unit}"
    return value


def service(one: Deployable) -> Document:
    """A Service, which listens on port 80."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(one),
        "spec": {"selector": selector(one), "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }


def _config_map(one: Deployable) -> Document:
    data = {f"file-{number}": text for number, text in enumerate(one.program.files.values())}
    name = {"name": f"{one.name}-files", "labels": metadata(one)["labels"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": data}


def volumes_of(one: Deployable) -> Document:
    """A pod's volumes: the rendered files, and shared memory."""
    items = [{"key": f"file-{number}", "path": path} for number, path in enumerate(one.program.files)]
    volumes: list[Document] = []
    if items:
        volumes.append({"name": "files", "configMap": {"name": f"{one.name}-files", "items": items}})
    if one.needs.shm_bytes:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _size(str(one.needs.shm_bytes))}})
    return {"volumes": volumes} if volumes else {}


def placement(one: Deployable) -> Document:
    """Which nodes a pod may run on, and what it claims of them."""
    found: Document = {}
    if one.needs.node_selector:
        found["nodeSelector"] = dict(one.needs.node_selector)
    if one.needs.node_labels:  # a selector has room for one value
        labels = one.needs.node_labels.items()
        wanted = [{"key": key, "operator": "In", "values": list(values)} for key, values in labels]
        terms = {"nodeSelectorTerms": [{"matchExpressions": wanted}]}
        found["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    if one.needs.claim is not None:
        found["resourceClaims"] = [{"name": _CLAIM, "resourceClaimTemplateName": _claim_name(one)}]
    if one.needs.tolerations:
        found["tolerations"] = [dict(toleration) for toleration in one.needs.tolerations]
    return found


def env_entries(one: Deployable) -> list[Mapping[str, Any]]:
    """A secret's value is that of a Secret by the service's name, which is for the user to make."""
    reference = f"{one.name}-secrets"
    hidden = [name for name in one.program.secrets if name not in one.program.env]
    return [
        *({"name": name, "value": _literal(value)} for name, value in one.program.env.items()),
        *({"name": name, "valueFrom": {"secretKeyRef": {"name": reference, "key": name}}} for name in hidden),
    ]


def started(one: Deployable) -> Document:
    """The words of the command, as a kubelet reads them: those that begin with an option are the arguments of the
    image's own program.
    """
    if not one.program.command:
        return {}
    words = [_literal(word) for word in one.program.command]
    return {"args" if words[0].startswith("-") else "command": words}


def _literal(text: str) -> str:
    """A kubelet takes `$(NAME)` for a variable, and `$$` for a dollar."""
    return text.replace("$", "$$") if "$(" in text or "$$" in text else text


def selector(one: Deployable) -> dict[str, str]:
    """The label that the deployment's pods have."""
    return {"app.kubernetes.io/name": one.name}


def quantity(value: float) -> str:
    """A rate in whole numbers, or in thousandths, as Kubernetes writes them."""
    return str(round(value)) if value >= 10 else f"{round(1000 * value)}m"
