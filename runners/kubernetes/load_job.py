"""The Job that makes the load in the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runners.kubernetes.objects import LAUNCH, literal, metadata
from runners.kubernetes.options import KubernetesOptions
from runners.protocol import Program

CONTAINER = "load"
_BUNDLE = "/tune/load"
_MEMORY = "128Mi"


def load_job(
    program: Program, options: KubernetesOptions, name: str, server: str, labels: Mapping[str, str],
    owner: Mapping[str, Any], chunks: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """The Job that runs a program beside the launch `server`, on another node where there is one."""
    arguments = [literal(word.replace("{bundle}", _BUNDLE)) for word in program.arguments]
    apart = {
        "labelSelector": {"matchLabels": {LAUNCH: server}},
        "topologyKey": "kubernetes.io/hostname",
    }
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": options.load_image,
        "command": ["python", "-P", "-m", program.module, *arguments],
        "resources": {"requests": {"memory": _MEMORY, "cpu": f"{round(options.load_cpu * 1000)}m"}},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "bundle", "mountPath": _BUNDLE, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (the container's own)
        ],
    }  # fmt: skip
    if options.image_pull_policy:
        container["imagePullPolicy"] = options.image_pull_policy
    if program.env:
        container["envFrom"] = [{"secretRef": {"name": name}}]
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": apart}]
            }
        },
        "containers": [container],
        "volumes": [
            {"name": "bundle", "projected": {"sources": [{"configMap": {"name": one}} for one in chunks]}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    if options.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": one} for one in options.image_pull_secrets]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(name, labels, owner),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(program.at_most_s) + 60,
            "ttlSecondsAfterFinished": 600,
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }
