"""Servers as plain processes: cores by affinity, memory by watching, a session and a log of their own."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from runners.machine import has_gpu, usable_cores, usable_memory_bytes
from runners.ownership import TEMPORARY_PREFIX, ownership_environment, take_lease
from runners.process_tree import ProcessTree
from runners.protocol import (
    Container,
    Endpoint,
    Infeasible,
    Placement,
    Recorded,
    Resources,
    RunnerUnavailable,
    ServerFailed,
    Usage,
)
from runners.readiness import wait_until_ready
from runners.usage import Watch

_GRACE_S = 0.5  # a measured server has nothing to save, and the wait is part of every trial
_LOG_TAIL_BYTES = 2000
_PORTS = range(20_000, 32_000)
_GIB = 2**30


class ProcessRunner:
    """One server at a time gets the first cores that this process may use; a load generator is offered the others."""

    def __init__(self) -> None:
        self._placed: set[int] = set()
        self._lock = threading.Lock()

    def refuses(self, resources: Resources) -> str | None:
        """More cores or memory than there are, part of a core, or a GPU that is not here."""
        cores, asked = len(usable_cores()), resources.cpu_cores
        if asked is not None and asked > cores:
            return f"asks for {asked:g} CPU cores, and there are {cores} here"
        if asked is not None and asked != int(asked):
            return f"asks for {asked:g} CPU cores, and the process runner gives whole cores only"
        memory = usable_memory_bytes()
        if resources.memory_bytes is not None and resources.memory_bytes > memory:
            return f"asks for {resources.memory_bytes / _GIB:.3g} GiB of memory, and there are {memory / _GIB:.3g} here"
        if resources.gpu_type is not None and not has_gpu():
            return f"asks for a GPU ({resources.gpu_type}), and there is none here"
        return None

    def place(self, folder: Path) -> Placement:
        """A free port outside the range from which the kernel gives ports to outgoing connections, such as those of
        the load generator.
        """
        low, high = _ephemeral_ports()
        with self._lock:
            candidates = [port for port in _PORTS if not low <= port <= high and port not in self._placed]
            for port in random.sample(candidates, len(candidates)):
                if _is_free(port):
                    self._placed.add(port)
                    return Placement("127.0.0.1", port, str(folder.resolve() / "files"))
        raise RunnerUnavailable(f"no free port between {_PORTS[0]} and {_PORTS[-1]}")

    @contextlib.contextmanager
    def launch(self, container: Container) -> Iterator[Endpoint]:
        """See `runners.protocol.Runner.launch`."""
        if refusal := self.refuses(container.resources):
            raise Infeasible(refusal)
        try:
            with _running(container) as server:
                yield server
        finally:
            with self._lock:
                self._placed.discard(container.placement.port)


@dataclass
class _Server:
    """A launched server; an Endpoint once it is ready."""

    container: Container
    process: subprocess.Popen[bytes]
    tree: ProcessTree
    watch: Watch
    launched: float
    server_cores: tuple[int, ...]
    temporary: Path
    cold_start_s: float = 0.0
    recorded: Recorded | None = None

    @property
    def url(self) -> str:
        return f"http://{self.container.placement.host}:{self.container.placement.port}"

    @property
    def client_cores(self) -> tuple[int, ...]:
        others = tuple(core for core in usable_cores() if core not in self.server_cores)
        return others or usable_cores()

    @property
    def shares_cores(self) -> bool:
        return bool(set(self.client_cores) & set(self.server_cores))

    def check(self) -> None:
        if self.watch.out_of_memory is not None:
            raise Infeasible(self.watch.out_of_memory)
        code = self.process.poll()
        # A launcher that leaves its server running (a daemon) has done its work; one that leaves nothing has failed.
        if code is not None and not (code == 0 and self.tree.search()):
            raise ServerFailed(f"the server {_how_it_ended(code)}", self.log_tail())

    def usage(self, start: float, end: float) -> Usage:
        return self.watch.usage(start, end)

    def log_tail(self) -> str:
        """The end of what the server printed."""
        try:
            with (self.container.folder / "server.log").open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                return log.read().decode("utf-8", errors="replace")
        except OSError:
            return ""


@contextlib.contextmanager
def _running(container: Container) -> Iterator[_Server]:
    """Start, wait until ready, and leave nothing behind, however the block ends."""
    _write_files(container)
    server = _start(container)
    lease = take_lease(container.study, container.trial, psutil.Process(server.process.pid), server.temporary)
    try:
        server.watch.start()
        try:
            wait_until_ready(server.url, container.readiness, server.check)
        except ServerFailed as error:
            raise ServerFailed(error.reason, error.log_tail or server.log_tail()) from error
        _refuse_a_stranger(server)
        server.cold_start_s = time.monotonic() - server.launched
        yield server
    finally:
        if server.watch.is_alive():
            server.watch.stop()
        server.tree.stop(_GRACE_S)
        server.process.wait()
        lease.release()
        server.watch.write(container.folder / "usage.csv")


def _write_files(container: Container) -> None:
    folder = Path(container.placement.files)
    for name, text in container.files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ServerFailed(f"the file {name} would lie outside the trial's folder; use a relative path")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _start(container: Container) -> _Server:
    marks = ownership_environment(container.study, container.trial)
    environment = os.environ | dict(container.env) | marks
    # So that `python` can be had where this product's own environment is all there is.
    environment["PATH"] = os.pathsep.join((environment.get("PATH", os.defpath), str(Path(sys.executable).parent)))
    program = _program(container, environment["PATH"])
    # A killed server cannot remove its temporary files, so they lie where they can be removed for it. The path is short
    # because servers put sockets there, whose paths may have 107 characters.
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
    environment["TMPDIR"] = container.env.get("TMPDIR", str(temporary))
    cores = usable_cores()
    if container.resources.cpu_cores is not None:
        cores = cores[: int(container.resources.cpu_cores)]
    launched = time.monotonic()
    with (container.folder / "server.log").open("wb") as log, _affinity(cores):
        try:
            process = subprocess.Popen(
                [program, *container.command[1:]],
                cwd=container.workdir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            temporary.rmdir()
            raise ServerFailed(f"cannot run {container.command[0]!r}: {why}") from error
    with contextlib.suppress(OSError):
        # When memory runs out the kernel should take the server, not the tuner.
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("800", encoding="ascii")
    tree = ProcessTree(psutil.Process(process.pid), marks)
    return _Server(container, process, tree, Watch(tree, container.resources.memory_bytes), launched, cores, temporary)


def _program(container: Container, path: str) -> str:
    if not container.command:
        raise ServerFailed("there is no command to run")
    program = container.command[0]
    if os.sep in program:
        return str(container.workdir / program)
    found = shutil.which(program, path=path)
    if found is None:
        raise ServerFailed(f"there is no program {program!r} on the PATH")
    return found


@contextlib.contextmanager
def _affinity(cores: tuple[int, ...]) -> Iterator[None]:
    """A child inherits its affinity from the thread that starts it, so it never runs a moment on other cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _refuse_a_stranger(server: _Server) -> None:
    """Somebody else's server may have taken the port first and answered in ours' place."""
    port = server.container.placement.port
    owners = set()
    for process in server.tree.search():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            owners |= {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    if port not in owners:
        raise ServerFailed(
            f"the server does not listen on port {port}, which another process answers on", server.log_tail()
        )


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _ephemeral_ports() -> tuple[int, int]:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
        return int(low), int(high)
    except (OSError, ValueError):
        return 32_768, 60_999


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free to a server
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
