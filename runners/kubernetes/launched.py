"""The objects of one launch: all are created together, and all are deleted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from kubernetes.client.exceptions import ApiException

from runners.kubernetes import manifest, objects
from runners.kubernetes.cluster import Cluster, to_make, words
from runners.kubernetes.observed import Watcher, concerns_one, does_not_fit
from runners.kubernetes.options import KubernetesOptions
from runners.kubernetes.owned import AT_ONCE
from runners.protocol import Container, Infeasible, RunnerUnavailable, ServerFailed

_GONE_S, _LOOK_S = 90.0, 1.0
_AGAIN_S = 2.0


def refuse_missing_rights(
    cluster: Cluster, template: Mapping[str, Any], *, secrets: bool, claimed: bool
) -> None:  # fmt: skip
    """Asked before anything is made: who may make something and not delete it would leave it. Raises
    RunnerUnavailable.
    """
    group, _, plural = objects.CUSTOM.get(template["kind"], ("apps", "", "deployments"))
    kinds = [("coordination.k8s.io", "leases"), (group, plural), ("", "services"), ("", "configmaps")]
    if secrets:
        kinds.append(("", "secrets"))
    if claimed:
        group, _, plural = objects.CLAIMS
        kinds.append((group, plural))
    rights = [(verb, "coordination.k8s.io", "leases") for verb in ("get", "patch")]
    rights += [("delete", "apps", "replicasets"), ("delete", "", "pods")]
    if denied := cluster.denied(to_make(*kinds) + rights):
        raise RunnerUnavailable(
            f"this account may not {', '.join(denied)} in the namespace {cluster.namespace}\n"
            "Give it a Role with these rights; charts/tune/templates/rbac.yaml has all that tune needs."
        )


def create_objects(
    cluster: Cluster, template: Mapping[str, Any], options: KubernetesOptions, port: int, name: str,
    container: Container, labels: dict[str, str], owner: dict[str, Any],
) -> None:  # fmt: skip
    """All objects of a launch. While others use up the namespace's quota of them, as a trial beside this one may, they
    are asked for again, as long as a pod is waited for. Raises RunnerUnavailable, ServerFailed and Infeasible.
    """
    deadline = time.monotonic() + options.room_timeout_s
    try:
        workload = objects.patched(template, name, container, options, labels, owner)
        while True:
            container.go_on()
            try:
                _create_all(cluster, workload, options, port, name, container, labels, owner)
                return
            except ApiException as error:
                said = words(error)
                if "exceeded quota" not in said or does_not_fit(said) or time.monotonic() > deadline:
                    raise
            time.sleep(_AGAIN_S)
    except ApiException as error:
        raise as_failure(error.status, words(error)) from error
    except ValueError as error:
        raise ServerFailed(f"the cluster refuses the launch: {error}") from error


def as_failure(status: int, said: str) -> Exception:
    """What an object's refusal means: for this configuration alone, or (no such right, no such namespace) for all."""
    text = f"the cluster refuses the launch: {said}"
    if does_not_fit(said):
        return Infeasible(text)
    return RunnerUnavailable(text) if status in (401, 403, 404) and not concerns_one(said) else ServerFailed(text)


def _create_all(
    cluster: Cluster, workload: Mapping[str, Any], options: KubernetesOptions, port: int, name: str,
    container: Container, labels: dict[str, str], owner: dict[str, Any],
) -> None:  # fmt: skip
    """May be repeated: what is there already stays as it is."""
    for shared in manifest.shared_of(options.manifest):
        _create_shared(cluster, shared)
    if container.files:
        files = objects.config_map(name, container.files, labels, owner)
        cluster.create(cluster.core.create_namespaced_config_map, files)
    if container.secrets:
        secret = objects.secret(name, container.secrets, labels, owner)
        cluster.create(cluster.core.create_namespaced_secret, secret)
    if (claim := options.gpus.claim(container.resources)) is not None:
        cluster.create_custom(objects.CLAIMS, objects.claim_template(name, claim, labels, owner))
    if workload["kind"] == "Deployment":
        cluster.create(cluster.apps.create_namespaced_deployment, workload)
    else:
        cluster.create_custom(objects.CUSTOM[workload["kind"]], workload)
    cluster.create(cluster.core.create_namespaced_service, objects.service(name, port, labels, owner))


def _create_shared(cluster: Cluster, document: Any) -> None:
    """What the manifest's workload needs beside it, if it is not there: it stays."""
    from kubernetes import utils

    body = {**document, "metadata": {**document.get("metadata", {}), "namespace": cluster.namespace}}
    try:
        utils.create_from_dict(cluster.api, body, namespace=cluster.namespace)
    except utils.FailToCreateError as error:
        if any(one.status != 409 for one in error.api_exceptions):
            raise error.api_exceptions[0] from error


def delete_objects(
    cluster: Cluster, template: Mapping[str, Any], name: str, watcher: Watcher, *, claimed: bool = False
) -> None:  # fmt: skip
    """Delete all objects of a launch, and wait until nothing runs. Raises RunnerUnavailable where something does.
    `claimed`: its devices are.
    """
    kind = template["kind"]
    if kind == "Deployment":
        cluster.delete(cluster.apps.delete_namespaced_deployment, name, **AT_ONCE)
    else:
        group, version, plural = objects.CUSTOM[kind]
        with contextlib.suppress(ApiException):
            cluster.ask(cluster.custom.delete_namespaced_custom_object, group, version, cluster.namespace, plural, name)
    _delete_pods(cluster, watcher)
    cluster.delete(cluster.core.delete_namespaced_service, name)
    cluster.delete(cluster.core.delete_namespaced_config_map, objects.files_name(name))
    if claimed:
        group, version, plural = objects.CLAIMS
        called = objects.claim_name(name)
        with contextlib.suppress(ApiException):  # a configuration without a GPU claims none
            cluster.ask(
                cluster.custom.delete_namespaced_custom_object, group, version, cluster.namespace, plural, called
            )
    deadline = time.monotonic() + _GONE_S
    while not watcher.await_end(_LOOK_S):
        if time.monotonic() > deadline:
            raise RunnerUnavailable(f"the pod of {name} still runs {_GONE_S:g} s after it was deleted")
        _delete_pods(cluster, watcher)  # one that was made while a launch was refused is heard of late
    for pod in watcher.seen().pods:
        cluster.delete(cluster.core.delete_namespaced_pod, pod, grace_period_seconds=0)


def _delete_pods(cluster: Cluster, watcher: Watcher) -> None:
    """Delete the pods that are seen, with what would make them anew. The cluster's garbage collector would do so,
    sooner or later: now and then after most of a minute.
    """
    for pod in watcher.seen().pods.values():
        if pod.metadata.deletion_timestamp is not None:
            continue
        for owner in pod.metadata.owner_references or ():
            if owner.kind == "ReplicaSet":
                cluster.delete(cluster.apps.delete_namespaced_replica_set, owner.name, **AT_ONCE)
        cluster.delete(cluster.core.delete_namespaced_pod, pod.metadata.name)
