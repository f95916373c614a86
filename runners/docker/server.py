"""A container that runs: whether it lives, where it is reached, what it uses and what it printed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from docker.errors import APIError, NotFound

from runners.docker.engine import Engine
from runners.host.cores import Allotment
from runners.host.gpu import Nvml
from runners.host.ports import elsewhere_inside, tables_of
from runners.host.samples import Sample, Samples
from runners.host.server_log import bounded, end_of
from runners.protocol import (
    MIB,
    Container,
    InClusterLoad,
    Infeasible,
    LocalProcesses,
    Recorded,
    ServerFailed,
    Usage,
)
from runners.readiness import exited, with_last_words
from runners.starting import CONTAINER_PORT, opened_private

_LOG_TAIL_LINES = 30
_KILLED = 137


@dataclass
class Server:
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
        """See `runners.protocol.Endpoint`; none where its machine is another one."""
        return self.cores.client if self.here else ()

    @property
    def shares_cores(self) -> bool:
        """Whether others may run on its cores, or its engine gives it none of its own."""
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
        """Raises ServerFailed once it has ended or somebody has removed it, Infeasible where memory ran out."""
        state = self._inspect()["State"]
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
        with contextlib.suppress(ServerFailed):
            if (found := self.processes) is not None:
                return elsewhere_inside(tables_of(found.pids[0]), CONTAINER_PORT)
        return ""

    def usage(self, start: float, end: float) -> Usage:
        """What it used between two moments of `time.monotonic()`."""
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
        """Raises ServerFailed where there is none any more: others may remove it at any moment."""
        try:
            found: dict[str, Any] = self.engine.ask(self.engine.client.api.inspect_container, self.name)
        except NotFound as error:
            raise ServerFailed("somebody removed the container") from error
        return found

    def _oom_events(self) -> bool:
        """Whether the kernel has killed a process in it: a worker that dies so leaves its parent running."""
        wanted = {"container": self.name, "event": "oom"}
        events = self.engine.ask(
            self.engine.client.api.events, since=self.since, until=int(time.time()), filters=wanted, decode=True
        )
        with contextlib.closing(events):
            return next(iter(events), None) is not None


def _is_of_container(pid: int, container_id: str) -> bool:
    """Whether the process that has this id here is in that container: its cgroup is named after it."""
    try:
        return container_id in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return False


def write_log(engine: Engine, name: str, path: Path) -> None:
    """Keep what the container printed, bounded, where its owner alone can read it."""
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
