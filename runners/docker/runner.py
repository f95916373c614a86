"""Servers as containers of Docker's engine, or Podman's: limits, GPUs, statistics and causes of death are its own."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import DeviceRequest, LogConfig, Mount

from runners.docker.devices import NamedDevices
from runners.docker.engine import Engine, engine_message
from runners.docker.images import Images
from runners.docker.secret_file import give_secrets, with_secrets
from runners.docker.server import Server, write_log
from runners.host.cores import Allotment, Cores
from runners.host.gpu import nvml
from runners.host.samples import sampling
from runners.leftovers.ownership import LAUNCH, OWNER, PLACE, STATE, STUDY, TRIAL, is_abandoned, ownership_labels
from runners.protocol import (
    GIB,
    Container,
    Endpoint,
    Infeasible,
    Leftover,
    Placement,
    Resources,
    RunnerUnavailable,
    ServerFailed,
)
from runners.readiness import await_server
from runners.starting import CONTAINER_FILES, CONTAINER_PORT, write_files

_INTERVAL_S = 0.5
_LOG_LIMITS = {"max-size": "20m", "max-file": "2"}  # a server that prints for ever must not fill the disk
_LEAST_SHARES = 2  # of the processor, where others have 1024 each
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
    ) -> Iterator[Server]:
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
            stack.callback(write_log, self._engine, name, container.folder / "server.log")
            server = Server(
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
        try:
            command = with_secrets(self._engine, image, container.command) if by_file else list(container.command)
            self._engine.ask_whole(
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
        except ImageNotFound as error:  # every trial would lack it
            raise RunnerUnavailable(
                f"somebody removed the image {container.image or self._options.image} while the study ran\n"
                "Pull it or build it again: that very image was measured."
            ) from error
        except APIError as error:
            if error.status_code != 409:  # it answered an earlier try of this call, whose answer was lost
                raise ServerFailed(f"Docker cannot create the container: {engine_message(error)}") from error
        if by_file:
            give_secrets(self._engine, name, by_file)

    def _start(self, name: str, container: Container) -> None:
        try:
            self._engine.ask_whole(self._engine.client.api.start, name)
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


def _let_read(folder: Path) -> None:
    """Whoever the image runs as may read its rendered files, whatever our umask is; nobody else gets into the folder
    of the trial that they lie in.
    """
    for path in (folder, *folder.rglob("*")) if folder.is_dir() else ():
        path.chmod(0o755 if path.is_dir() else 0o644)


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
