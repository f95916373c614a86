"""One Deployment and one Service per trial, in a namespace of the user's choice; nothing of them is left afterwards."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.stream import stream

from runners.host.gpu import ask_dcgm
from runners.host.ports import elsewhere_inside
from runners.host.samples import Samples, sampling
from runners.host.server_log import end_of
from runners.kubernetes import manifest, objects
from runners.kubernetes.cluster import Cluster
from runners.kubernetes.forward import forwarded, is_reachable, url_of
from runners.kubernetes.in_cluster_load import LoadJobs
from runners.kubernetes.launched import create_objects, delete_objects, refuse_missing_rights
from runners.kubernetes.nodes import Nodes
from runners.kubernetes.observed import (
    NoImage,
    Watcher,
    container_state,
    does_not_fit,
    has_room,
    is_alone,
    judge_state,
    log_tail,
    refused,
    running_pod,
    too_late,
)
from runners.kubernetes.options import KubernetesOptions
from runners.kubernetes.owned import RunLease, label_value, remember_cluster, remove_abandoned
from runners.kubernetes.resize import resize
from runners.kubernetes.usage import as_sample, commands
from runners.protocol import (
    Container,
    Endpoint,
    InClusterLoad,
    Infeasible,
    Leftover,
    Placement,
    Recorded,
    Resources,
    RunnerUnavailable,
    ServerFailed,
    Usage,
)
from runners.readiness import await_server, with_last_words
from runners.starting import CONTAINER_FILES, opened_private, write_files
from search_spaces.masking import masked

_LOOK_S, _SAMPLE_S = 0.5, 1.0


class KubernetesRunner:
    """Raises RunnerUnavailable where there is no cluster, ValueError for a manifest that cannot be patched."""

    def __init__(self, options: KubernetesOptions) -> None:
        self._options = options
        self._workload = manifest.workload_of(
            options.manifest or (objects.plain_deployment(options.port),), options.workload, options.container
        )
        server = manifest.server_container(manifest.pod_of(self._workload), options.container)
        self._port = options.port or manifest.workload_port(self._workload, options.container)
        self._container = str(server.get("name") or "kserve-container")
        self._cluster = Cluster(options.context, options.namespace)
        self._nodes = Nodes(self._cluster, options)
        self._lease: RunLease | None = None
        self._lock = threading.Lock()

    @property
    def near(self) -> bool:
        """Whether the load comes from here: only where no Job in the cluster makes it."""
        return not self._options.load_job

    def refuses(self, resources: Resources) -> str | None:
        """What no node could ever give, or no quota allows."""
        return self._nodes.refuses(resources)

    def place(self, folder: Path) -> Placement:  # noqa: ARG002
        """A pod has an address of its own, so all listen on the same port."""
        more = (self._port + 1, self._port + 2)
        return Placement("0.0.0.0", self._port, CONTAINER_FILES, more)  # noqa: S104 (inside the pod)

    def close(self) -> None:
        """Give up this run's Lease. An interrupt waits for that."""
        with self._lock:
            if self._lease is None:
                return
            try:
                self._lease.release()
            except KeyboardInterrupt:
                self._lease.release()
                raise
            finally:
                self._lease = None

    def remove_leftovers(self) -> list[Leftover]:
        """What dead runs own in the namespace."""
        return remove_abandoned(self._cluster)

    @contextlib.contextmanager
    def launch(self, container: Container) -> Iterator[Endpoint]:
        """See `runners.protocol.Runner.launch`."""
        if said := self.refuses(container.resources):
            raise Infeasible(said)
        claimed = self._options.gpus.slices.claimed
        refuse_missing_rights(self._cluster, self._workload, secrets=bool(container.secrets), claimed=claimed)
        launch = secrets.token_hex(5)
        lease = self._own_lease(container.study)
        study = label_value(container.study).lower().replace("_", "-").replace(".", "-")[:30].strip("-")
        name = f"tune-{study}-{container.trial}-{launch}"
        labels = lease.labels(container.study, container.trial, launch)
        write_files(container.files, container.folder / "files")
        watcher = Watcher(self._cluster, f"{objects.LAUNCH}={launch}", name)
        with contextlib.ExitStack() as stack:
            stack.callback(watcher.close)
            if container.secrets:
                stack.callback(self._cluster.delete, self._cluster.core.delete_namespaced_secret,
                               objects.secrets_name(name))  # fmt: skip
            stack.callback(self._remove, name, watcher)  # before anything exists, lest an interrupt falls between
            stack.callback(self._write_log, watcher, container.folder / "server.log")
            launched = time.monotonic()
            create_objects(
                self._cluster, self._workload, self._options, self._port, name, container, labels, lease.reference
            )
            pod = self._await_pod(watcher, container)
            server = _Server(self, container, watcher, pod, self._container, self._port)
            state = container_state(pod, self._container)
            server.image = None if state is None else state.image_id or None
            server.url = stack.enter_context(server.way())
            stack.enter_context(sampling(server.samples, server.looker(), _SAMPLE_S, container.folder / "usage.csv"))
            server.notes += await_server(server.url, container, server.check, server.log_tail, server.elsewhere)
            server.refuse_what_nobody_reaches()
            server.cold_start_s = time.monotonic() - launched
            if self._options.load_job:
                # Straight to the pod: it takes a moment until every node routes a new service's address.
                server.beside = LoadJobs(
                    self._cluster, self._options, f"{name}-load", labels, lease.reference, server.inner_url,
                    self._nodes.only_one,
                )  # fmt: skip
            yield server

    @property
    def cluster(self) -> Cluster:
        """The cluster in which it launches."""
        return self._cluster

    @property
    def options(self) -> KubernetesOptions:
        """What the spec says of the cluster."""
        return self._options

    @property
    def dcgm(self) -> str | None:
        """The URL of DCGM's exporter, which tells of the GPUs; None if it is not known."""
        return self._options.dcgm

    def _own_lease(self, study: str) -> RunLease:
        with self._lock:
            if self._lease is None:
                remember_cluster(self._cluster.context, self._cluster.namespace)
                # Before it is made, lest an interrupt falls between; what could not be made is not given up.
                self._lease = RunLease(self._cluster, label_value(study))
                try:
                    self._lease.take()
                except RunnerUnavailable:
                    self._lease = None
                    raise
            return self._lease

    def _await_pod(self, watcher: Watcher, container: Container) -> Any:
        """The pod, once its server's container runs. While there is no room it waits for some."""
        begun, placed_at = time.monotonic(), None
        own_image = objects.chooses_image(self._workload, container, self._options)
        while True:
            container.go_on()
            seen = watcher.seen()
            try:
                pod = running_pod(seen, self._container)
            except ServerFailed as error:
                name = next(iter(seen.pods), "")
                raise with_last_words(error.reason, log_tail(self._cluster, name, self._container)) from error
            except NoImage as error:
                if not own_image:
                    raise  # every trial would lack it
                raise ServerFailed(error.reason) from error
            if pod is not None:
                return pod
            if (why := refused(seen)) is not None:
                raise (Infeasible if does_not_fit(why) else ServerFailed)(f"FailedCreate: {why}")
            now = time.monotonic()
            if placed_at is None and has_room(seen):
                placed_at = now
            limit, since = (
                (self._options.room_timeout_s, begun)
                if placed_at is None
                else (container.readiness.timeout_s, placed_at)
            )
            if now - since > limit:
                raise too_late(seen, self._container, limit, own_image=own_image)
            watcher.await_change(_LOOK_S)

    def _write_log(self, watcher: Watcher, path: Path) -> None:
        """Keep what the server printed, also where it ended before it was ready."""
        printed = [log_tail(self._cluster, pod, self._container, lines=20_000) for pod in watcher.seen().pods]
        if any(printed):
            with os.fdopen(opened_private(path), "w", encoding="utf-8") as log:
                log.write(masked("".join(printed)))

    def _remove(self, name: str, watcher: Watcher) -> None:
        """Delete all objects of the launch, and wait until nothing runs. An interrupt waits for that."""
        claimed = self._options.gpus.slices.claimed
        try:
            delete_objects(self._cluster, self._workload, name, watcher, claimed=claimed)
        except KeyboardInterrupt:
            delete_objects(self._cluster, self._workload, name, watcher, claimed=claimed)
            raise


@dataclass
class _Server:
    """A pod that runs; an Endpoint once it is ready."""

    runner: KubernetesRunner
    container: Container
    watcher: Watcher
    pod: Any
    name: str
    port: int
    url: str = ""
    cold_start_s: float = 0.0
    image: str | None = None
    client_cores: tuple[int, ...] = ()
    shares_cores: bool = False
    samples: Samples = field(default_factory=Samples)
    recorded: Recorded | None = None
    reused_from: int | None = None
    beside: InClusterLoad | None = None
    notes: tuple[str, ...] = ()
    oom_kills: int = 0

    @contextlib.contextmanager
    def way(self) -> Iterator[str]:
        """Its URL from here."""
        if is_reachable(self.pod.status.pod_ip, self.port):
            self.notes = ("The load came from outside the cluster, straight to the pod.",)
            yield self.inner_url
            return
        self.notes = ("The load went through a port-forward, which adds to every latency.",)
        with forwarded(self.runner.cluster, self.pod.metadata.name, self.port) as port:
            yield url_of(self.container.readiness.scheme, "127.0.0.1", port)

    @property
    def inner_url(self) -> str:
        """The pod's own address: what leads to it from here may be a port-forward."""
        return url_of(self.container.readiness.scheme, self.pod.status.pod_ip, self.port)

    def check(self) -> None:
        pod = self.watcher.seen().pods.get(self.pod.metadata.name)
        if self.oom_kills:
            raise Infeasible("OOMKilled: the kernel ended a process of the server for want of memory")
        if pod is None or pod.metadata.deletion_timestamp is not None:
            raise ServerFailed("the pod was deleted while it was needed")
        if pod.status.reason == "Evicted":
            raise ServerFailed(f"Evicted: {pod.status.message}")
        state = container_state(pod, self.name)
        if state is None:
            return
        try:
            judge_state(state)
        except ServerFailed as error:
            raise with_last_words(error.reason, self.log_tail()) from error

    def resize(self, resources: Resources) -> None:
        """See `runners.protocol.Resizable`."""
        given = objects.resource_section(resources, self.runner.options)
        wanted = {name: given["limits"][name] for name in ("cpu", "memory") if name in given.get("limits", {})}
        resize(self.runner.cluster, self.pod.metadata.name, self.name, wanted)

    def refuse_what_nobody_reaches(self) -> None:
        """Raises ServerFailed for a server that only a port-forward reaches, which comes from inside its pod. Beside
        others in its pod it may be meant to: one of them may be its proxy.
        """
        if self.url != self.inner_url and is_alone(self.pod) and (where := self.elsewhere()):
            raise ServerFailed(f"only a port-forward reaches the server{where}", self.log_tail())

    def elsewhere(self) -> str:
        """The end of a message that says where the server listens, if nobody outside its pod reaches it there."""
        with contextlib.suppress(Exception):  # the pod may be gone, or have no `cat`; the failure itself is known
            return elsewhere_inside(self._printed(self._core(), ("cat", "/proc/net/tcp", "/proc/net/tcp6")), self.port)
        return ""

    def usage(self, start: float, end: float) -> Usage:
        return self.samples.usage(start, end)

    def log_tail(self) -> str:
        """The end of what the server printed."""
        return end_of(log_tail(self.runner.cluster, self.pod.metadata.name, self.name).encode())

    def looker(self) -> Callable[[], None]:
        """Adds a sample each time it is called, by a command in the container that reads the container's own cgroup.
        Where it has no `cat`, its use stays unknown.
        """
        core, left = self._core(), list(commands())

        def look() -> None:
            if not left:
                return
            found = as_sample(self._printed(core, left[0]), time.monotonic())
            if found is None:
                left.pop(0)  # the other version of cgroups
            else:
                dcgm = self.runner.dcgm
                gpu = None if dcgm is None else ask_dcgm(dcgm, self.pod.metadata.name)
                self.samples.add(replace(found.sample, gpu=gpu))
                self.oom_kills = found.oom_kills

        return look

    def _core(self) -> client.CoreV1Api:
        """One of its own, since a stream changes it while it opens."""
        return client.CoreV1Api(client.ApiClient(self.runner.cluster.api.configuration))

    def _printed(self, core: client.CoreV1Api, command: tuple[str, ...]) -> str:
        """What a command prints in the server's container."""
        printed: str = stream(
            core.connect_get_namespaced_pod_exec, self.pod.metadata.name, self.runner.cluster.namespace,
            container=self.name, command=list(command), stdout=True, stderr=False, stdin=False, tty=False,
            _request_timeout=5,
        )  # fmt: skip
        return printed
