"""What the cluster says of a launch: pods and events as they change, and what they mean for it."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import watch
from kubernetes.client.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity

from runners.kubernetes.cluster import ANSWER_S, MOST_WORDS, Cluster
from runners.protocol import Infeasible, RunnerUnavailable, ServerFailed
from runners.readiness import exited

_ROUND_S = 30  # a watch that is no longer wanted ends with its round
_PAUSE_S = 0.5
_NO_IMAGE = ("ErrImageNeverPull", "InvalidImageName")
_PULLS = ("ErrImagePull", "ImagePullBackOff")  # and pulls again: a registry may be away for a moment
# As registries and kubelets say it: no later try will find the image, or be allowed to have it.
_NEVER_PULLED = (
    "not found", "manifest unknown", "does not exist", "access denied", "access to the resource is denied",
    "unauthorized", "authorization failed", "forbidden", "invalid reference format",
)  # fmt: skip
_HAVE_IT = "Put it where the cluster's nodes pull images from, or name another (service.image, or the manifest's)."
_NEVER_RAN = ("StartError", "ContainerCannotRun")
_NOT_CREATED = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
# Said of a pod by what admits it: time does not change it. The last is a quota of what the pod says nothing of.
_FOR_GOOD = ("violates PodSecurity", "denied the request", "failed quota")
_QUOTA = re.compile(r"exceeded quota: \S+, requested: (.+), used: .+, limited: (.+)")
_LIMITS = re.compile(r"(?:maximum|minimum) \S+ usage per |max limit to request ratio per ")  # of a LimitRange
_IN_TURN = ("PodInitializing", "ContainerCreating")


class NoImage(RunnerUnavailable):
    """The cluster will never have the server's image: why, and what to do."""

    def __init__(self, reason: str, to_do: str) -> None:
        super().__init__(f"{reason}\n{to_do}")
        self.reason = reason


@dataclass(frozen=True)
class Seen:
    """The pods of a launch by name, and the messages of its events' reasons, the latest of each."""

    pods: Mapping[str, Any]
    events: Mapping[str, str]


class Watcher:
    """Watches the pods with a label, and the events of objects whose names begin so, until it is closed.

    A watch that breaks (the API server restarts) begins again from a list, so nothing is missed for good.
    """

    def __init__(self, cluster: Cluster, selector: str, prefix: str) -> None:
        self._cluster, self._selector, self._prefix = cluster, selector, prefix
        self._pods: dict[str, Any] = {}
        self._events: dict[str, str] = {}
        self._changed, self._closed = threading.Condition(), threading.Event()
        self._watches: list[watch.Watch] = []
        for target in (self._watch_pods, self._watch_events):
            threading.Thread(target=self._over_and_over, args=(target,), name="kubernetes-watch", daemon=True).start()

    def seen(self) -> Seen:
        """What is known now."""
        with self._changed:
            return Seen(dict(self._pods), dict(self._events))

    def await_change(self, at_most_s: float) -> None:
        """Blocks until something has changed, or for that long."""
        with self._changed:
            self._changed.wait(at_most_s)

    def await_end(self, at_most_s: float) -> bool:
        """Blocks until nothing of the pods, which are being deleted, runs; False when the time was over first.

        A kubelet takes up to ten seconds longer to give up the pod itself, whose containers have ended.
        """
        deadline = time.monotonic() + at_most_s
        with self._changed:
            while not all(map(_is_over, self._pods.values())):
                self._changed.wait(min(1.0, max(0.01, deadline - time.monotonic())))
                if time.monotonic() >= deadline:
                    return False
        return True

    def close(self) -> None:
        """Watch no longer; the threads end with their connections."""
        self._closed.set()
        for one in list(self._watches):
            one.stop()

    def _over_and_over(self, look: Callable[[watch.Watch], None]) -> None:
        while not self._closed.is_set():
            one = watch.Watch()
            self._watches.append(one)
            try:
                look(one)
            except Exception:  # noqa: BLE001 (whatever broke it, the next round begins from a list)
                self._closed.wait(_PAUSE_S)
            finally:
                self._watches.remove(one)

    def _watch_pods(self, one: watch.Watch) -> None:
        core, namespace = self._cluster.core, self._cluster.namespace
        listed = core.list_namespaced_pod(namespace, label_selector=self._selector, _request_timeout=ANSWER_S)
        with self._changed:
            self._pods = {pod.metadata.name: pod for pod in listed.items}
            self._changed.notify_all()
        for change in one.stream(
            core.list_namespaced_pod, namespace, label_selector=self._selector, timeout_seconds=_ROUND_S,
            resource_version=listed.metadata.resource_version, _request_timeout=(ANSWER_S[0], _ROUND_S + 10),
        ):  # fmt: skip
            name = change["object"].metadata.name
            with self._changed:
                if change["type"] == "DELETED":
                    self._pods.pop(name, None)
                else:
                    self._pods[name] = change["object"]
                self._changed.notify_all()
            if self._closed.is_set():
                return

    def _watch_events(self, one: watch.Watch) -> None:
        core, namespace = self._cluster.core, self._cluster.namespace
        for change in one.stream(
            core.list_namespaced_event,
            namespace,
            timeout_seconds=_ROUND_S,
            _request_timeout=(ANSWER_S[0], _ROUND_S + 10),
        ):
            event = change["object"]
            if (event.involved_object.name or "").startswith(self._prefix):
                with self._changed:
                    self._events[event.reason or "?"] = " ".join((event.message or "").split())
                    self._changed.notify_all()
            if self._closed.is_set():
                return


def running_pod(seen: Seen, container: str) -> Any | None:
    """The pod whose container runs, or None; raises for what the launch cannot survive.

    Raises Infeasible where it ran out of memory, ServerFailed for what else ended it, NoImage where there is no image.
    """
    for pod in seen.pods.values():
        if pod.status.reason == "Evicted":
            raise ServerFailed(f"Evicted: {pod.status.message}")
        state = container_state(pod, container)
        if state is None:
            continue
        judge_state(state)
        if state.state.running is not None and pod.status.pod_ip and pod.metadata.deletion_timestamp is None:
            return pod
    return None


def container_state(pod: Any, container: str) -> Any | None:
    """The status of the pod's container of that name; None while there is none."""
    return next((one for one in pod.status.container_statuses or () if one.name == container), None)


def never_ran(pod: Any, container: str) -> str | None:
    """Why the program of a container could not even be started; None where it could."""
    status = container_state(pod, container)
    ended = status.state.terminated if status is not None else None
    return _line(ended.message) if ended is not None and ended.reason in _NEVER_RAN else None


def judge_state(status: Any) -> None:
    """Raises as `running_pod` for a container's status."""
    waiting = status.state.waiting
    ended = status.state.terminated or (status.last_state.terminated if status.last_state else None)
    if ended is not None:
        if ended.reason == "OOMKilled":
            raise Infeasible("OOMKilled: the server needed more memory than it was given")
        if ended.reason in _NEVER_RAN:
            raise ServerFailed(f"{ended.reason}: {_line(ended.message)}")
        # A Deployment would start it again, and wait longer each time.
        raise ServerFailed(f"CrashLoopBackOff: {exited(ended.exit_code)}")
    if waiting is None:
        return
    message = (waiting.message or "").lower()
    if waiting.reason in _NO_IMAGE or (
        waiting.reason in _PULLS and any(one in message.replace(status.image.lower(), "") for one in _NEVER_PULLED)
    ):
        raise NoImage(f"{waiting.reason}: the cluster has no image {status.image}: {_line(waiting.message)}", _HAVE_IT)
    if waiting.reason in _NOT_CREATED:
        raise ServerFailed(f"{waiting.reason}: {_line(waiting.message)}")


def too_late(seen: Seen, container: str, limit_s: float, *, own_image: bool) -> Exception:
    """That no container ran within the time. An image that could not be pulled, and that all configurations have, would
    cost every trial as long.
    """
    said = f"did not start within {limit_s:g} s: {why_waiting(seen)}"
    return NoImage(said, _HAVE_IT) if pull_fails(seen, container) and not own_image else ServerFailed(said)


def pull_fails(seen: Seen, container: str) -> bool:
    """Whether the container's image could not be pulled so far."""
    states = [container_state(pod, container) for pod in seen.pods.values()]
    return any(state is not None and _waits_for(state) in _PULLS for state in states)


def why_waiting(seen: Seen) -> str:
    """Why no container runs yet, in the cluster's words: no room, a quota that is used up, an image on its way."""
    for pod in seen.pods.values():
        for condition in pod.status.conditions or ():
            if condition.type == "PodScheduled" and condition.status == "False":
                return f"{condition.reason or 'Unschedulable'}: {_line(condition.message)}"
        before = [one for one in pod.status.init_container_statuses or () if _waits_for(one) not in (None, *_IN_TURN)]
        for status in (*before, *(pod.status.container_statuses or ())):
            if _waits_for(status):
                return f"{_waits_for(status)}: {_line(status.state.waiting.message)}".rstrip(": ")
    if "FailedCreate" in seen.events:
        return f"FailedCreate: {seen.events['FailedCreate']}"
    return "no pod was made yet" if not seen.pods else "its pod is being started"


def _waits_for(status: Any) -> str | None:
    """Why a container does not run yet, in one word; None for one that runs or has run."""
    return status.state.waiting.reason if status.state is not None and status.state.waiting is not None else None


def refused(seen: Seen) -> str | None:
    """Why the cluster will never make the pod, in its words; None where it has made one, or may, as when a quota that
    is used up has room again.
    """
    said = seen.events.get("FailedCreate", "")
    for_good = any(one in said for one in _FOR_GOOD) or does_not_fit(said)
    return said if not seen.pods and for_good else None


def concerns_one(said: str) -> bool:
    """Whether a refusal is of this object for what is in it, by a quota or a policy, and not of all that we ask for."""
    return "exceeded quota" in said or any(one in said for one in _FOR_GOOD)


def does_not_fit(said: str) -> bool:
    """Whether a refusal says that the namespace's limits never allow as much (or as little) as is asked for."""
    if _LIMITS.search(said):
        return True
    if (quota := _QUOTA.search(said)) is None:
        return False
    requested, limited = map(_amounts, quota.groups())
    if len(said) >= MOST_WORDS:  # the last number may have been cut
        limited = dict(list(limited.items())[:-1])
    return any(amount > limited.get(name, amount) for name, amount in requested.items())


def _amounts(text: str) -> dict[str, float]:
    """Those of `limits.cpu=2,pods=1`; what cannot be read is left out."""
    found = {}
    for pair in text.split(","):
        name, _, amount = pair.strip().partition("=")
        with contextlib.suppress(ValueError):
            found[name] = float(parse_quantity(amount))
    return found


def has_room(seen: Seen) -> bool:
    """Whether a pod has been given a node."""
    return any(pod.spec.node_name for pod in seen.pods.values())


def log_tail(cluster: Cluster, pod: str, container: str, lines: int = 30) -> str:
    """The end of what the container printed, before its last restart if it has restarted."""
    for previous in (True, False):
        try:
            found = cluster.ask(
                cluster.core.read_namespaced_pod_log, pod, cluster.namespace, container=container, tail_lines=lines,
                previous=previous, _preload_content=False,
            )  # fmt: skip
            text = found.data.decode("utf-8", errors="replace")  # a server may print anything
        except (ApiException, RunnerUnavailable):
            continue
        if text:
            return str(text)
    return ""


def is_alone(pod: Any) -> bool:
    """Whether nothing but the server runs in its pod for as long as the pod does: no sidecar, in either form."""
    stays = [one for one in pod.spec.init_containers or () if one.restart_policy == "Always"]
    return len(pod.spec.containers) == 1 and not stays


def _is_over(pod: Any) -> bool:
    """Whether no container of a pod that is being deleted runs, or will."""
    if pod.status.phase in ("Succeeded", "Failed"):
        return True
    states = [one.state for one in pod.status.container_statuses or ()]
    if pod.metadata.deletion_timestamp is None or not states:
        return False
    if pod.status.phase == "Running":
        # What has run and runs no longer has ended; some kubelets then say that it waits to be created.
        return not any(state.running for state in states)
    return all(map(_has_ended, states))


def _has_ended(state: Any) -> bool:
    waits = state.waiting is not None and state.waiting.reason not in (None, "ContainerCreating", "PodInitializing")
    return state.terminated is not None or waits


def _line(text: str | None) -> str:
    return " ".join((text or "").split())[:300]
