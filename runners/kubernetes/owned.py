"""Whose the cluster's objects are: a Lease per run, renewed while it lives, that owns all that the run creates.

When a Lease is deleted, the cluster's garbage collector deletes what it owns. A run is dead when its process on this
machine is, or, seen from elsewhere, when its Lease has not been renewed for a while.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kubernetes.client.exceptions import ApiException

from runners.kubernetes.cluster import Cluster, words
from runners.kubernetes.objects import CLAIMS, CUSTOM, HOST, LAUNCH, LEASE, MANAGED, STUDY, TRIAL, secrets_name
from runners.leftovers.ownership import is_abandoned, state_folder, this_owner, this_place
from runners.protocol import Leftover, RunnerUnavailable
from search_spaces.reading import read_state

_RENEW_S, _DURATION_S = 15.0, 60
_DEAD_AFTER_S = 300.0  # clocks of machines differ
_OWNER, _PLACE, _STATE = "tune/owner", "tune/place", "tune/state"
_GONE_S, _LOOK_S = 90.0, 0.2
AT_ONCE = {"propagation_policy": "Background", "grace_period_seconds": 0}
_WITH_SECRETS: Mapping[str, Callable[[str], str]] = {
    "deployment": secrets_name,
    "job": str,
}  # what its secret is called
_SELECTOR = "app.kubernetes.io/managed-by=tune"


class RunLease:
    """This process's Lease in a namespace, renewed by a thread of its own from `take` until `release`."""

    def __init__(self, cluster: Cluster, study: str) -> None:
        self._cluster, self._study = cluster, study
        self.name = f"tune-{secrets.token_hex(5)}"
        self._done = threading.Event()
        self.reference: dict[str, str] = {}

    def take(self) -> None:
        """Make it. Raises RunnerUnavailable where the cluster refuses it; an interrupt leaves it to `release`."""
        cluster = self._cluster
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self.name,
                "labels": {**MANAGED, STUDY: self._study, HOST: label_value(platform.node()), LEASE: self.name},
                "ownerReferences": _own_pod(cluster.namespace),
                "annotations": {_OWNER: this_owner(), _PLACE: this_place(), _STATE: str(state_folder())},
            },
            "spec": {
                "holderIdentity": f"{platform.node()}/{this_owner()}",
                "leaseDurationSeconds": _DURATION_S,
                "renewTime": _now(),
            },
        }
        try:
            cluster.create(cluster.leases.create_namespaced_lease, body)
            made = cluster.ask(cluster.leases.read_namespaced_lease, self.name, cluster.namespace)
        except ApiException as error:
            with contextlib.suppress(ApiException, RunnerUnavailable):  # it may be made, and only not be read
                cluster.delete(cluster.leases.delete_namespaced_lease, self.name)
            raise RunnerUnavailable(
                f"the cluster refuses a Lease in the namespace {cluster.namespace}: {words(error)}\n"
                "Name a namespace that is there, and in which you may create objects (runner.kubernetes.namespace)."
            ) from error
        self.reference = {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": self.name, "uid": made.metadata.uid
        }  # fmt: skip
        threading.Thread(target=self._renew, name="kubernetes-lease", daemon=True).start()

    def release(self) -> None:
        """Give the Lease up, when nothing that it owns is left. Where the cluster was away, its controllers may have
        made a pod anew meanwhile; where it still is, the Lease stays, so that `tune clean` finds what it owns.
        """
        self._done.set()
        with contextlib.suppress(ApiException, RunnerUnavailable):
            _remove(self._cluster, self.name)
            self._cluster.delete(self._cluster.leases.delete_namespaced_lease, self.name)

    def labels(self, study: str, trial: int, launch: str) -> dict[str, str]:
        """The labels of everything that a launch creates."""
        return {
            **MANAGED, STUDY: label_value(study), TRIAL: str(trial), LAUNCH: launch,
            HOST: label_value(platform.node()), LEASE: self.name,
        }  # fmt: skip

    def _renew(self) -> None:
        while not self._done.wait(_RENEW_S):
            with contextlib.suppress(Exception):  # the API may be away; the next turn comes soon
                self._cluster.leases.patch_namespaced_lease(
                    self.name, self._cluster.namespace, {"spec": {"renewTime": _now()}}, _request_timeout=(5, 10)
                )


def _own_pod(namespace: str) -> list[dict[str, str]]:
    """The pod that this process runs in, where the chart says which, as the Lease's owner: whatever it leaves when it
    is killed goes with it. An owner in another namespace would be taken for one that is gone.
    """
    name, uid = os.environ.get("TUNE_POD_NAME"), os.environ.get("TUNE_POD_UID")
    if not name or not uid or os.environ.get("TUNE_POD_NAMESPACE") != namespace:
        return []
    return [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}]


def remember_cluster(context: str | None, namespace: str) -> None:
    """Write down where this user's runs launch, so that `tune clean` can look there."""
    place = {"context": context, "namespace": namespace, "kubeconfig": os.environ.get("KUBECONFIG")}
    text = json.dumps(place, sort_keys=True)
    folder = state_folder() / "clusters"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt").write_text(text, encoding="utf-8")


def remove_everywhere() -> tuple[list[Leftover], list[str]]:
    """What dead runs own wherever this user's runs have launched; and which of these places cannot be reached now."""
    removed: list[Leftover] = []
    unreachable = []
    for path in sorted((state_folder() / "clusters").glob("*.txt")):
        try:
            place = json.loads(read_state(path))
            cluster = Cluster(place["context"], place["namespace"], place["kubeconfig"])
            removed += remove_abandoned(cluster)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        except RunnerUnavailable as error:
            why = str(error).splitlines()[0]
            gone = "" if why.startswith("the cluster refuses") else f"; if that cluster is gone for good, delete {path}"
            unreachable.append(f"namespace {place['namespace']}: {why}{gone}")
    return removed, unreachable


def remove_abandoned(cluster: Cluster) -> list[Leftover]:
    """Delete what dead runs own in the namespace, and wait until their pods are gone."""
    try:
        leases = cluster.ask(cluster.leases.list_namespaced_lease, cluster.namespace, label_selector=_SELECTOR).items
    except ApiException:
        return []  # where leases may not be listed, nothing of ours was made
    removed = []
    for lease in leases:
        if _is_dead(lease):
            removed += _remove(cluster, lease.metadata.name)
            cluster.delete(cluster.leases.delete_namespaced_lease, lease.metadata.name)
    return removed


def _remove(cluster: Cluster, lease: str) -> list[Leftover]:
    """What carries the Lease's label, until nothing of it is left and nobody can make another: a controller that has
    not heard of a deletion yet makes what was deleted anew.
    """
    deadline = time.monotonic() + _GONE_S
    removed = _sweep_until_gone(cluster, lease, deadline)
    _await_controllers(cluster, lease, deadline)
    _sweep_until_gone(cluster, lease, deadline)
    return [one for one in removed.values() if one.what.startswith(("deployment", "job"))]


def _sweep_until_gone(cluster: Cluster, lease: str, deadline: float) -> dict[str, Leftover]:
    removed: dict[str, Leftover] = {}
    while found := _sweep(cluster, f"{LEASE}={lease}"):
        removed |= found
        if time.monotonic() > deadline:
            raise RunnerUnavailable(
                f"what a run made is still there after {_GONE_S:g} s; see: kubectl get all -l {LEASE}={lease}"
            )
        time.sleep(_LOOK_S)
    return removed


def _await_controllers(cluster: Cluster, lease: str, deadline: float) -> None:
    """Wait until the cluster's controllers have heard of all that was deleted: each hears of its objects in order, so
    it has when it has seen to a Deployment that was made after that (one that asks for no pod), and to its ReplicaSet.
    """
    name = f"{lease}-end"
    labels = {**MANAGED, LEASE: lease, LAUNCH: name}
    nothing = {"name": "none", "image": "none"}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {LAUNCH: name}},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [nothing]}},
        },
    }
    try:
        cluster.create(cluster.apps.create_namespaced_deployment, body)
        listing, selector = cluster.apps.list_namespaced_replica_set, f"{LAUNCH}={name}"
        while not any(
            one.status.observed_generation
            for one in cluster.ask(listing, cluster.namespace, label_selector=selector).items
        ):
            if time.monotonic() > deadline:
                raise RunnerUnavailable(f"the cluster's controllers have done nothing for {_GONE_S:g} s")
            time.sleep(_LOOK_S)
        cluster.delete(cluster.apps.delete_namespaced_deployment, name, propagation_policy="Foreground")
    except ApiException:
        return  # where Deployments may not be made, none was


def _sweep(cluster: Cluster, selector: str) -> dict[str, Leftover]:
    """Delete each kind by itself: the garbage collector takes its time, and may be absent. What was there."""
    found: dict[str, Leftover] = {}
    namespaced: list[tuple[str, Any, Any, Mapping[str, Any]]] = [
        ("deployment", cluster.apps.list_namespaced_deployment, cluster.apps.delete_namespaced_deployment, AT_ONCE),
        ("replica set", cluster.apps.list_namespaced_replica_set, cluster.apps.delete_namespaced_replica_set, AT_ONCE),
        ("job", cluster.batch.list_namespaced_job, cluster.batch.delete_namespaced_job, AT_ONCE),
        ("pod", cluster.core.list_namespaced_pod, cluster.core.delete_namespaced_pod, {}),
        ("service", cluster.core.list_namespaced_service, cluster.core.delete_namespaced_service, {}),
        ("config map", cluster.core.list_namespaced_config_map, cluster.core.delete_namespaced_config_map, {}),
        ("secret", cluster.core.list_namespaced_secret, cluster.core.delete_namespaced_secret, {}),
    ]
    for group, version, plural in (*CUSTOM.values(), CLAIMS):
        with contextlib.suppress(ApiException):  # where the cluster has no such kind, or it may not be listed
            theirs = cluster.ask(
                cluster.custom.list_namespaced_custom_object, group, version, cluster.namespace, plural,
                label_selector=selector,
            )  # fmt: skip
            for one in theirs.get("items") or ():
                name, labels = one["metadata"]["name"], one["metadata"].get("labels") or {}
                found[f"{plural} {name}"] = Leftover(f"{plural} {name}", labels.get(STUDY, "?"), labels.get(TRIAL, "?"))
                cluster.ask(
                    cluster.custom.delete_namespaced_custom_object, group, version, cluster.namespace, plural, name
                )
    refused: RunnerUnavailable | None = None
    for kind, listing, deleting, how in namespaced:
        try:
            for one in cluster.ask(listing, cluster.namespace, label_selector=selector).items:
                labels, name = one.metadata.labels, f"{kind} {one.metadata.name}"
                found[name] = Leftover(name, labels.get(STUDY, "?"), labels.get(TRIAL, "?"))
                if one.metadata.deletion_timestamp is None:
                    cluster.delete(deleting, one.metadata.name, **how)
                if kind in _WITH_SECRETS:  # known by its name, where no secret may be listed or read
                    with contextlib.suppress(RunnerUnavailable):  # who may not delete one made none
                        cluster.delete(cluster.core.delete_namespaced_secret, _WITH_SECRETS[kind](one.metadata.name))
        except ApiException:
            continue  # a kind that may not be listed was not created either
        except RunnerUnavailable as error:
            refused = error  # the other kinds go all the same
    if refused is not None:
        raise refused
    return found


def label_value(text: str) -> str:
    """Fit for a label: at most 63 letters, digits, dots, dashes, underscores; a letter or digit at both ends."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in text)
    return kept[:63].strip("._-") or "x"


def _is_dead(lease: Any) -> bool:
    notes = lease.metadata.annotations or {}
    if notes.get(_PLACE) == this_place():
        # Its process can be seen; where it is another state folder's, that judges for itself.
        return is_abandoned(notes.get(_OWNER, ""), notes.get(_PLACE, ""), notes.get(_STATE, ""))
    # Elsewhere, or here before the last boot: another machine may well have our host name.
    renewed = lease.spec.renew_time
    return renewed is not None and (datetime.datetime.now(datetime.UTC) - renewed).total_seconds() > _DEAD_AFTER_S


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
