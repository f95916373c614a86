"""Servers as containers of Docker's engine, or Podman's: limits, GPUs, statistics and causes of death are its own."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from docker.errors import APIError, NotFound
from docker.types import DeviceRequest, LogConfig, Mount

from runners.docker.devices import NamedDevices
from runners.docker.engine import Engine, engine_message
from runners.docker.images import Images
from runners.docker.secret_file import give_secrets, with_secrets
from runners.host.cores import Allotment, Cores
from runners.host.gpu import Nvml, nvml
from runners.host.ports import elsewhere_inside, tables_of
from runners.host.samples import Sample, Samples, sampling
from runners.host.server_log import bounded, end_of
from runners.leftovers.ownership import LAUNCH, OWNER, PLACE, STATE, STUDY, TRIAL, is_abandoned, ownership_labels
from runners.protocol import (
    GIB,
    MIB,
    Container,
    Endpoint,
    InClusterLoad,
    Infeasible,
    Leftover,
    LocalProcesses,
    Placement,
    Recorded,
    Resources,
    RunnerUnavailable,
    ServerFailed,
    Usage,
)
from runners.readiness import await_server, exited, with_last_words
from runners.starting import CONTAINER_FILES, CONTAINER_PORT, opened_private, write_files

_INTERVAL_S = 0.5
_LOG_TAIL_LINES = 30
_LOG_LIMITS = {"max-size": "20m", "max-file": "2"}  # a server that prints for ever must not fill the disk
_LEAST_SHARES = 2  # of the processor, where others have 1024 each
_KILLED = 137
_UNCONTROLLED = (
    "and the engine can hold no container to that: it lacks the cgroup controller {0} (a rootless engine has it where "
    "systemd's user@.service says Delegate=cpu cpuset memory pids)"
)


@dataclass(frozen=True)
class DockerOptions:
    """`build` is a folder with a Dockerfile, from which the image is built. `mounts` (path in the container -> path
    here) are read-only. `gpus` gives the engine's devices (indices, GPU or MIG UUIDs) by GPU type, by slice, or by
    `type/slice`. `secrets_in_environment` gives secrets where `docker inspect` shows them, for images without a shell.
    """

    image: str
    build: Path | None = None
    shm_bytes: int | None = None
    mounts: Mapping[str, Path] = field(default_factory=dict)
    gpus: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    secrets_in_environment: bool = False


class DockerRunner:
    """Raises RunnerUnavailable where there is no engine, or no image to be had."""

    def __init__(self, options: DockerOptions) -> None:
        self._options, self._engine = options, Engine()
        self._cores = Cores(lambda: self._engine.cores)
        self._devices = NamedDevices(options.gpus)
        self._images = Images(self._engine, options.image, options.build)

    @property
    def near(self) -> bool:
        """True: the servers are on this machine, or the load generator is as near to them as it can be."""
        return True

    def refuses(self, resources: Resources) -> str | None:
        """Refuses more cores or memory than the engine's machine has, and GPUs for which no device is named."""
        cores, memory = len(self._engine.cores), self._engine.memory_bytes
        if resources.cpu_cores is not None and not 0 < resources.cpu_cores <= cores:
            return f"asks for {resources.cpu_cores:g} CPU cores, and Docker's machine has {cores}"
        if resources.memory_bytes is not None and resources.memory_bytes > memory:
            asked = resources.memory_bytes / GIB
            return f"asks for {asked:.3g} GiB of memory, and Docker's machine has {memory / GIB:.3g}"
        if resources.cpu_cores is not None and not self._engine.controls("cpu"):
            return f"asks for {resources.cpu_cores:g} CPU cores, {_UNCONTROLLED.format('cpu')}"
        if resources.memory_bytes is not None and not self._engine.controls("memory"):
            return f"asks for {resources.memory_bytes / GIB:.3g} GiB of memory, {_UNCONTROLLED.format('memory')}"
        return self._devices.refuses(resources)

    def lacks(self, image: str) -> bool:
        """Whether the engine has to pull that image before it can launch it."""
        return self._images.lacks(image)

    def place(self, folder: Path) -> Placement:  # noqa: ARG002
        """Every container has a network of its own, so all listen on the same port."""
        more = (CONTAINER_PORT + 1, CONTAINER_PORT + 2)
        return Placement("0.0.0.0", CONTAINER_PORT, CONTAINER_FILES, more)  # noqa: S104 (published on 127.0.0.1 alone)

    @contextlib.contextmanager
    def launch(self, container: Container) -> Iterator[Endpoint]:
        """See `runners.protocol.Runner.launch`."""
        if said := self.refuses(container.resources):
            raise Infeasible(said)
        image = self._images.have(container.image or self._options.image)
        asked = container.resources.cpu_cores
        count = None if asked is None else math.ceil(asked)
        with (
            self._devices.take(container.resources, container.go_on, container.group) as devices,
            self._cores.take(count, container.go_on, leftovers=container.best_effort) as cores,
            self._running(container, image, cores, devices) as server,
        ):
            yield server

    def close(self) -> None:
        """End the connections to the engine; what was launched is gone by then."""
        self._engine.close()

    def remove_leftovers(self) -> list[Leftover]:
        """Remove the containers of this machine's dead runs."""
        return remove_containers(self._engine)

    @contextlib.contextmanager
    def _running(
        self, container: Container, image: str, cores: Allotment, devices: tuple[str, ...]
    ) -> Iterator[_Server]:
        """Create, start, wait until ready, and leave nothing behind, however the block ends."""
        write_files(container.files, container.folder / "files")
        _let_read(container.folder / "files")
        labels = ownership_labels(container.study, container.trial)
        name = f"tune-{container.study.lower()}-{container.trial}-{labels[LAUNCH][:8]}"
        with contextlib.ExitStack() as stack:
            stack.callback(self._remove, name)  # before it exists, lest an interrupt falls between
            self._create(name, container, image, cores, devices, labels)
            launched, since = time.monotonic(), int(time.time())
            self._start(name, container)
            stack.callback(_write_log, self._engine, name, container.folder / "server.log")
            server = _Server(
                self._engine, name, container, cores, self._engine.is_here, since, devices,
                nvml() if devices and self._engine.is_here else None, image=image,
            )  # fmt: skip
            server.locate()
            stack.enter_context(sampling(server.samples, server.sample, _INTERVAL_S, container.folder / "usage.csv"))
            server.notes += await_server(server.url, container, server.check, server.log_tail, server.elsewhere)
            server.cold_start_s = time.monotonic() - launched
            yield server

    def _create(
        self, name: str, container: Container, image: str, cores: Allotment, devices: tuple[str, ...],
        labels: dict[str, str],
    ) -> None:  # fmt: skip
        asked, options = container.resources, self._options
        mounts = [Mount(target, str(source), type="bind", read_only=True) for target, source in options.mounts.items()]
        if container.files:
            files = str((container.folder / "files").resolve())
            mounts.append(Mount(CONTAINER_FILES, files, type="bind", read_only=True))
        given: dict[str, Any] = {
            "nano_cpus": None if asked.cpu_cores is None else int(asked.cpu_cores * 1e9),
            "cpuset_cpus": ",".join(map(str, cores.server)) if self._engine.pins else None,
            "cpu_shares": _LEAST_SHARES if container.best_effort else None,
            "mem_limit": asked.memory_bytes,
            "memswap_limit": asked.memory_bytes,  # no swap beside it: what it needs is memory
            "shm_size": options.shm_bytes,
            "device_requests": [DeviceRequest(device_ids=list(devices), capabilities=[["gpu"]])] if devices else None,
        }
        secrets = tuple(one for one in container.secrets if one not in container.env)
        shown, by_file = (secrets, ()) if options.secrets_in_environment else ((), secrets)
        command = with_secrets(self._engine, image, container.command) if by_file else list(container.command)
        try:
            self._engine.ask(
                self._engine.client.containers.create,
                image,
                command[1:] or None,
                entrypoint=command[:1] or None,  # as a pod's: the image's own would get it as arguments
                name=name,
                labels=labels,
                environment={name: os.environ.get(name, "") for name in shown}
                | container.priority_env
                | dict(container.env),
                mounts=mounts,
                ports={f"{CONTAINER_PORT}/tcp": ("127.0.0.1", None)},
                # Else SELinux would keep the container from what is mounted, which is labelled as its owner's.
                security_opt=["no-new-privileges", *(["label=disable"] if mounts and self._engine.is_confined else [])],
                log_config=LogConfig(type="json-file", config=_LOG_LIMITS),
                **{key: value for key, value in given.items() if value is not None},
            )
        except APIError as error:
            if error.status_code != 409:  # it answered an earlier try of this call, whose answer was lost
                raise ServerFailed(f"Docker cannot create the container: {engine_message(error)}") from error
        if by_file:
            give_secrets(self._engine, name, by_file)

    def _start(self, name: str, container: Container) -> None:
        try:
            self._engine.ask(self._engine.client.api.start, name)
        except APIError as error:
            words = engine_message(error)
            program = container.command[0] if container.command else "the image's program"
            what = f"cannot run {program!r}" if "exec" in words else "Docker cannot start the container"
            raise ServerFailed(f"{what}: {words}") from error

    def _remove(self, name: str) -> None:
        """Kill and remove the container; the engine answers when it is gone. An interrupt is heeded after that."""
        try:
            _remove(self._engine, name)
        except KeyboardInterrupt:
            _remove(self._engine, name)
            raise


@dataclass
class _Server:
    """A container that runs; an Endpoint once it is ready. `since` is when it began, in the engine's seconds."""

    engine: Engine
    name: str
    container: Container
    cores: Allotment
    here: bool
    since: int
    devices: tuple[str, ...] = ()
    gpus: Nvml | None = None
    url: str = ""
    cold_start_s: float = 0.0
    image: str | None = None
    samples: Samples = field(default_factory=Samples)
    recorded: Recorded | None = None
    reused_from: int | None = None
    beside: InClusterLoad | None = None
    notes: tuple[str, ...] = ()

    @property
    def client_cores(self) -> tuple[int, ...]:
        return self.cores.client if self.here else ()

    @property
    def shares_cores(self) -> bool:
        return self.here and (self.cores.shared or not self.engine.pins)

    @property
    def processes(self) -> LocalProcesses | None:
        """The engine names its first process as its own machine counts, which may be another one than ours."""
        found = self._inspect() if self.here else {}
        pid = found.get("State", {}).get("Pid")
        if not pid or not _is_of_container(pid, found["Id"]):
            return None
        return LocalProcesses(self.cores.server, (pid,))

    def locate(self) -> None:
        """Its own address where that can be reached from here, since Docker's proxy would be part of every answer;
        else the port that is published on 127.0.0.1. A rootless engine's networks may have the addresses of ours.
        """
        network = self._inspect()["NetworkSettings"]
        scheme = self.container.readiness.scheme
        gateways = {one.address for many in psutil.net_if_addrs().values() for one in many}
        for one in network["Networks"].values():
            if one["IPAddress"] and one["Gateway"] in gateways and not self.engine.is_rootless:
                self.url = f"{scheme}://{one['IPAddress']}:{CONTAINER_PORT}"
                return
        published = (network.get("Ports") or {}).get(f"{CONTAINER_PORT}/tcp")
        self.url = f"{scheme}://127.0.0.1:{published[0]['HostPort'] if published else CONTAINER_PORT}"

    def check(self) -> None:
        try:
            state = self._inspect()["State"]
        except NotFound as error:
            raise ServerFailed("somebody removed the container") from error
        limit = self.container.resources.memory_bytes
        allowed = "" if limit is None else f" with {limit / MIB:.0f} MiB allowed"
        if state["OOMKilled"] or self._oom_events():
            raise Infeasible(f"out of memory: the kernel ended a process of the container{allowed}")
        if not state["Running"]:
            code = state["ExitCode"]
            how = "the server was killed" if code == _KILLED else exited(code)
            said = f": {state['Error']}" if state["Error"] else ""
            raise with_last_words(f"{how}{said}", self.log_tail())

    def elsewhere(self) -> str:
        """The end of a message that says where the server listens, if nobody outside its container reaches it there."""
        with contextlib.suppress(NotFound):
            if (found := self.processes) is not None:
                return elsewhere_inside(tables_of(found.pids[0]), CONTAINER_PORT)
        return ""

    def usage(self, start: float, end: float) -> Usage:
        return self.samples.usage(start, end)

    def log_tail(self) -> str:
        """The end of what the server printed."""
        with contextlib.suppress(APIError):
            return end_of(b"".join(_log(self.engine, self.name, tail=_LOG_TAIL_LINES)))
        return ""

    def sample(self) -> None:
        """Add what the engine's statistics say now."""
        found = self.engine.client.api.stats(self.name, stream=False, one_shot=True)
        sample = as_sample(found, time.monotonic())
        if sample is not None:
            gpu = None if self.gpus is None else self.gpus.look((), self.devices)
            self.samples.add(replace(sample, gpu=gpu))

    def _inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = self.engine.ask(self.engine.client.api.inspect_container, self.name)
        return found

    def _oom_events(self) -> bool:
        """Whether the kernel has killed a process in it: a worker that dies so leaves its parent running."""
        wanted = {"container": self.name, "event": "oom"}
        events = self.engine.ask(
            self.engine.client.api.events, since=self.since, until=int(time.time()), filters=wanted, decode=True
        )
        with contextlib.closing(events):
            return next(iter(events), None) is not None


def _let_read(folder: Path) -> None:
    """Whoever the image runs as may read its rendered files, whatever our umask is; nobody else gets into the folder
    of the trial that they lie in.
    """
    for path in (folder, *folder.rglob("*")) if folder.is_dir() else ():
        path.chmod(0o755 if path.is_dir() else 0o644)


def _is_of_container(pid: int, container_id: str) -> bool:
    """Whether the process that has this id here is in that container: its cgroup is named after it."""
    try:
        return container_id in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return False


def _write_log(engine: Engine, name: str, path: Path) -> None:
    with contextlib.suppress(APIError):
        content = bounded(_log(engine, name))
        with os.fdopen(opened_private(path), "wb") as log:
            log.write(content)


def _log(engine: Engine, name: str, **more: Any) -> Iterator[bytes]:
    with contextlib.closing(engine.ask(engine.client.api.logs, name, stream=True, follow=False, **more)) as parts:
        yield from parts


def as_sample(stats: Mapping[str, Any], at: float) -> Sample | None:
    """The engine's statistics, of cgroup version 1 or 2; None of a container that has none (it does not run)."""
    cpu, memory = stats.get("cpu_stats", {}), stats.get("memory_stats", {})
    if "usage" not in memory or not cpu.get("cpu_usage", {}).get("total_usage"):
        return None
    detail, throttling = memory.get("stats", {}), cpu.get("throttling_data", {})
    # Pages of files that were not used lately would be dropped before anything else.
    cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))
    return Sample(
        at=at,
        cpu_s=cpu["cpu_usage"]["total_usage"] / 1e9,
        memory_bytes=max(0, memory["usage"] - cache),
        processes=stats.get("pids_stats", {}).get("current", 0),
        periods=throttling.get("periods"),
        throttled=throttling.get("throttled_periods"),
    )


def remove_containers(engine: Engine) -> list[Leftover]:
    """Remove the containers of owners that are surely dead. Blocks until they are gone."""
    removed = []
    found = engine.ask(engine.client.api.containers, all=True, filters={"label": OWNER})
    for one in found:
        labels: dict[str, str] = one.get("Labels") or {}
        if {OWNER, STATE, PLACE} <= labels.keys() and is_abandoned(labels[OWNER], labels[PLACE], labels[STATE]):
            name = one["Names"][0].lstrip("/") if one.get("Names") else one["Id"][:12]
            _remove(engine, one["Id"])
            removed.append(Leftover(f"container {name}", labels.get(STUDY, "?"), labels.get(TRIAL, "?")))
    return removed


def _remove(engine: Engine, name: str) -> None:
    try:
        engine.ask(engine.client.api.remove_container, name, force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409:  # its removal is under way
            raise RunnerUnavailable(f"Docker cannot remove the container {name}: {engine_message(error)}") from error
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            engine.ask(engine.client.api.inspect_container, name)
        except NotFound:
            return
        time.sleep(0.05)
    raise RunnerUnavailable(f"Docker has not removed the container {name} for 30 s")
