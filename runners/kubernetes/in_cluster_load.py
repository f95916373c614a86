"""A program as a Job beside the server: the load test in the product's own image, on another node if there is one."""

from __future__ import annotations

import base64
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes.client.exceptions import ApiException

from runners.kubernetes.cluster import Cluster, to_make, words
from runners.kubernetes.load_job import CONTAINER, load_job
from runners.kubernetes.objects import LAUNCH, metadata
from runners.kubernetes.observed import Watcher, never_ran, pull_fails, running_pod, why_waiting
from runners.kubernetes.options import KubernetesOptions
from runners.kubernetes.owned import AT_ONCE
from runners.protocol import Infeasible, LoadJobUnavailable, Program, RunnerUnavailable, ServerFailed

_CHUNK = 700_000  # of the 1 MiB that an object may have, in base64
_MAX_CHUNKS = 60
_START_S, _ROOM_S = 120.0, 5.0
_READ_S = 5.0
_AWAY_S = 120.0


@dataclass(frozen=True)
class LoadJobs:
    """Runs load tests beside one launch. `labels` are the launch's; `url` is the server's address in the cluster."""

    cluster: Cluster
    options: KubernetesOptions
    name: str
    labels: Mapping[str, str]
    owner: Mapping[str, Any]
    url: str
    shares_cores: bool

    def run(self, program: Program, go_on: Callable[[], None]) -> Iterator[str]:
        """See `runners.protocol.InClusterLoad.run`."""
        labels = {**self.labels, LAUNCH: f"{self.labels[LAUNCH]}-load"}
        with contextlib.ExitStack() as stack:
            chunks = self._store(program, labels, stack)
            watcher = Watcher(self.cluster, f"{LAUNCH}={labels[LAUNCH]}", self.name)
            stack.callback(watcher.close)
            pod = self._start(program, labels, chunks, watcher, go_on, stack)
            yield from self._lines(pod, watcher, go_on)

    def _store(self, program: Program, labels: Mapping[str, str], stack: contextlib.ExitStack) -> list[str]:
        """The bundle in config maps, and the secrets in a secret; all are gone when the stack is closed."""
        core, kinds = self.cluster.core, [("batch", "jobs"), ("", "configmaps"), ("", "secrets")]
        if denied := self.cluster.denied(to_make(*(kinds if program.env else kinds[:2]))):
            raise LoadJobUnavailable(f"this account may not {', '.join(denied)} in the cluster")
        pieces = [program.bundle[at : at + _CHUNK] for at in range(0, len(program.bundle), _CHUNK)]
        if len(pieces) > _MAX_CHUNKS:
            raise LoadJobUnavailable(
                f"{len(program.bundle) / 2**20:.0f} MiB of requests are more than the cluster's objects carry"
            )
        names = [f"{self.name}-{number:02d}" for number in range(len(pieces))]
        try:
            for name, piece in zip(names, pieces, strict=True):
                stack.callback(self.cluster.delete, core.delete_namespaced_config_map, name)
                data = {f"bundle.{name[-2:]}": base64.b64encode(piece).decode()}
                self.cluster.create(
                    core.create_namespaced_config_map,
                    {"metadata": metadata(name, labels, self.owner), "binaryData": data},
                )
            if program.env:
                values = {key: base64.b64encode(os.environ.get(key, "").encode()).decode() for key in program.env}
                stack.callback(self.cluster.delete, core.delete_namespaced_secret, self.name)
                self.cluster.create(
                    core.create_namespaced_secret, {"metadata": metadata(self.name, labels, self.owner), "data": values}
                )
        except ApiException as error:
            raise LoadJobUnavailable(f"the cluster refuses what the load test needs: {words(error)}") from error
        return names

    def _start(
        self, program: Program, labels: Mapping[str, str], chunks: list[str], watcher: Watcher,
        go_on: Callable[[], None],
        stack: contextlib.ExitStack,
    ) -> Any:  # fmt: skip
        """The running pod. A generator without cores of its own would be starved by the server that it loads: where no
        node has room for it, it does not run here.
        """
        stack.callback(self._remove, watcher)
        try:
            job = load_job(program, self.options, self.name, self.labels[LAUNCH], labels, self.owner, chunks)
            self.cluster.create(self.cluster.batch.create_namespaced_job, job)
        except ApiException as error:
            raise LoadJobUnavailable(f"the cluster refuses the load test's Job: {words(error)}") from error
        pod = self._await_pod(watcher, go_on)
        if pod is None:
            raise LoadJobUnavailable(f"the load test's pod does not start: {why_waiting(watcher.seen())}")
        return pod

    def _await_pod(self, watcher: Watcher, go_on: Callable[[], None]) -> Any | None:
        """The Job's pod once it runs; None if it gets no node soon, or does not start there."""
        begun = time.monotonic()
        while True:
            go_on()
            seen = watcher.seen()
            for pod in seen.pods.values():
                if pod.status.phase in ("Succeeded", "Failed"):
                    if (why := never_ran(pod, CONTAINER)) is not None:
                        raise LoadJobUnavailable(f"the load test's image {self.options.load_image} does not run: {why}")
                    return pod
            try:
                pod = running_pod(seen, CONTAINER)
            except (RunnerUnavailable, ServerFailed, Infeasible) as error:
                why = str(error).partition("\n")[0]  # what to do is said of the server's image
                raise LoadJobUnavailable(
                    f"the load test's image {self.options.load_image} does not run: {why}"
                ) from error
            if pod is not None:
                return pod
            if pull_fails(seen, CONTAINER):  # the load can come from here meanwhile
                raise LoadJobUnavailable(
                    f"the load test's image {self.options.load_image} does not run: {why_waiting(seen)}"
                )
            placed = any(pod.spec.node_name for pod in seen.pods.values())
            if time.monotonic() - begun > (_START_S if placed else _ROOM_S):
                return None
            watcher.await_change(0.5)

    def _lines(self, pod: Any, watcher: Watcher, go_on: Callable[[], None]) -> Iterator[str]:
        """Followed to its end; where the connection breaks the log is read again, past what was seen."""
        count, lost_at = 0, None
        while True:
            try:
                answer = self.cluster.core.read_namespaced_pod_log(
                    pod.metadata.name, self.cluster.namespace, container=CONTAINER, follow=True,
                    _preload_content=False, _request_timeout=(_READ_S, _READ_S),
                )  # fmt: skip
                with contextlib.closing(answer):
                    for number, line in enumerate(_split(answer)):
                        lost_at = None
                        go_on()
                        if number >= count:
                            count += 1
                            yield line
            except (urllib3.exceptions.HTTPError, ApiException) as error:
                if isinstance(error, ApiException) and error.status in (400, 404):
                    return  # the pod is gone, and its log with it
                go_on()
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > _AWAY_S:
                    raise RunnerUnavailable(f"the Kubernetes API has not answered for {_AWAY_S:g} s") from error
                time.sleep(0.5)
                continue
            if self._has_ended(watcher, pod):
                return
            time.sleep(0.2)

    def _has_ended(self, watcher: Watcher, pod: Any) -> bool:
        now = watcher.seen().pods.get(pod.metadata.name)
        return now is None or now.status.phase in ("Succeeded", "Failed")

    def _remove(self, watcher: Watcher) -> None:
        self.cluster.delete(self.cluster.batch.delete_namespaced_job, self.name, **AT_ONCE)
        for pod in watcher.seen().pods:  # it holds nothing worth a farewell, and ends with its generator
            self.cluster.delete(self.cluster.core.delete_namespaced_pod, pod, grace_period_seconds=0)


def _split(answer: Any) -> Iterator[str]:
    """Whole lines of a body that comes in pieces."""
    rest = b""
    for piece in answer.stream(65_536, decode_content=True):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", errors="replace")
    if rest:
        yield rest.decode("utf-8", errors="replace")
