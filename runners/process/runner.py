"""Servers as plain processes: cores by affinity, memory by watching, a session and a log of their own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from runners.host.cgroup import Cgroups
from runners.host.cores import Allotment, Cores
from runners.host.devices import Devices, gpus_text
from runners.host.gpu import gpu_names, is_of_type, usable_gpus
from runners.host.machine import has_gpu, usable_cores, usable_memory_bytes
from runners.host.mps import is_kept, mps_limits, mps_refusal
from runners.host.ports import Ports, elsewhere, listens
from runners.host.server_log import BoundedLog, bounded_log, end_of_file
from runners.leftovers.cleanup import remove_leftovers
from runners.leftovers.ownership import TEMPORARY_PREFIX, lease, ownership_environment
from runners.leftovers.process_tree import ProcessTree
from runners.process.usage import Watch
from runners.protocol import (
    GIB,
    Container,
    Endpoint,
    InClusterLoad,
    Infeasible,
    Leftover,
    LocalProcesses,
    Placement,
    Recorded,
    Resources,
    ServerFailed,
    Usage,
)
from runners.readiness import await_server, exited, with_last_words
from runners.starting import environment, start, take_leftovers, write_files, yield_cores

_GRACE_S = 0.3  # a measured server has nothing to save, and the wait is part of every trial
_MORE_PORTS = 2  # beside the one that is loaded: management or gRPC, and metrics


class ProcessRunner:
    """Servers at the same time get different cores while there are any; a load generator is offered those left over."""

    def __init__(self, *, mps: bool = False) -> None:
        """`mps`: CUDA's MPS, which runs here, keeps servers to their slices of a GPU's memory and compute."""
        self._ports, self._cores, self._gpus = Ports(), Cores(), Devices(_fitting, _memory_bytes)
        self._mps = mps

    def refuses(self, resources: Resources) -> str | None:
        """More cores or memory than there are, part of a core, or a GPU that is not here."""
        cores, asked = len(usable_cores()), resources.cpu_cores
        if asked is not None and asked > cores:
            return f"asks for {asked:g} CPU cores, and there are {cores} here"
        if asked is not None and (asked <= 0 or asked != int(asked)):
            return f"asks for {asked:g} CPU cores, and the process runner gives whole cores only"
        memory = usable_memory_bytes()
        if resources.memory_bytes is not None and resources.memory_bytes > memory:
            return f"asks for {resources.memory_bytes / GIB:.3g} GiB of memory, and there are {memory / GIB:.3g} here"
        if self._mps and (refusal := mps_refusal(resources, _memory_bytes())):
            return refusal
        return _gpu_refusal(resources) if resources.gpu_count else None

    @property
    def near(self) -> bool:
        """True: the servers run on this machine."""
        return True

    def close(self) -> None:
        """Nothing is held beside what runs."""

    def remove_leftovers(self) -> list[Leftover]:
        """Processes."""
        return remove_leftovers()

    def place(self, folder: Path) -> Placement:
        """Free ports of 127.0.0.1, outside the range that outgoing connections use."""
        more = tuple(self._ports.take() for _ in range(_MORE_PORTS))
        folder = folder.resolve()
        return Placement("127.0.0.1", self._ports.take(), str(folder / "files"), more, str(folder / "scratch"))

    @contextlib.contextmanager
    def launch(self, container: Container) -> Iterator[Endpoint]:
        """See `runners.protocol.Runner.launch`."""
        asked = container.resources.cpu_cores
        count = None if asked is None else int(asked)
        try:
            if refusal := self.refuses(container.resources):
                raise Infeasible(refusal)
            with (
                self._cores.take(count, container.go_on, leftovers=container.best_effort) as cores,
                self._gpus.take(container.resources, container.go_on, container.group) as gpus,
                _running(self._with_gpus(container, gpus), cores, gpus) as server,
            ):
                yield server
        finally:
            for port in (container.placement.port, *container.placement.more):
                self._ports.give_back(port)
            shutil.rmtree(container.folder / "scratch", ignore_errors=True)

    def _with_gpus(self, container: Container, gpus: tuple[str, ...]) -> Container:
        """The container, which is told its GPUs and the limits that MPS keeps it to."""
        limits = mps_limits(container.resources, len(gpus), _memory_bytes()) if self._mps else {}
        return replace(container, env=_visible(gpus) | limits | container.priority_env | dict(container.env))


def _gpu_refusal(resources: Resources) -> str | None:
    if not has_gpu():
        return f"asks for {gpus_text(resources)}, and there is none here"
    asked_type, names = resources.gpu_type, gpu_names()
    if asked_type is not None and names and not any(is_of_type(name, asked_type) for name in names):
        return f"asks for {gpus_text(resources)}, and here is {', '.join(sorted(set(names)))}"
    if names and resources.gpu_count > max(1, len(_fitting(resources))):
        return f"asks for {gpus_text(resources)}, and there are {len(_fitting(resources))} here"
    return None


def _fitting(resources: Resources) -> tuple[str, ...]:
    """The GPUs of that type, by index. None where a driver does not tell, or where all are in slices (MIG): then the
    server sees what we see.
    """
    asked = resources.gpu_type
    return tuple(one.index for one in usable_gpus() if asked is None or is_of_type(one.name, asked))


def _memory_bytes() -> int | None:
    """The memory of the smallest GPU here, in bytes."""
    return min((one.memory_bytes for one in usable_gpus() if one.memory_bytes), default=None)


def _visible(gpus: tuple[str, ...]) -> dict[str, str]:
    """NVML numbers devices by their place on the bus, CUDA by their speed unless it is told otherwise."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}


def _slice_notes(container: Container) -> tuple[str, ...]:
    """Notes on who keeps a process to its slice of a GPU: by itself a process can use all of it."""
    slice_, resources = container.resources.gpu_memory, container.resources
    if is_kept(container.env):
        return (f"CUDA's MPS kept the server to {gpus_text(resources)}.",)
    compute = f"{resources.compute_percent}% of the compute" if resources.shares_compute else None
    whole = slice_ is None or slice_ in (1, "100%")
    if (whole and compute is None) or container.group is not None:
        return ()
    kept = " and ".join(str(one) for one in (None if whole else slice_, compute) if one is not None)
    return (f"The server kept to {kept} of its GPU by itself, as runner.process.gpu_slices says; nothing checked it.",)


def _core_notes(container: Container, cores: Allotment) -> tuple[str, ...]:
    """Notes on the cores of a server that asked for none, and on who had priority on cores that it shared."""
    server, client = (", ".join(map(str, one)) for one in (cores.server, cores.client))
    if container.best_effort:
        return (f"A best-effort server had what the others left of CPU cores {server}.",)
    if cores.shared:
        return (f"The server had CPU cores {server} and the load generator {client}; where they met, it came first.",)
    if container.resources.cpu_cores is None:
        return (f"Without cpu_cores, the server had CPU cores {server}; {client} was left to the load generator.",)
    return ()


@dataclass
class _Server:
    """A launched server; an Endpoint once it is ready."""

    container: Container
    tree: ProcessTree
    watch: Watch
    cores: Allotment
    pid: int
    oom_kills_before: int
    marks: dict[str, str]
    cold_start_s: float = 0.0
    image: str | None = None
    recorded: Recorded | None = None
    reused_from: int | None = None
    beside: InClusterLoad | None = None
    notes: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        placement = self.container.placement
        return f"{self.container.readiness.scheme}://{placement.host}:{placement.port}"

    @property
    def client_cores(self) -> tuple[int, ...]:
        return self.cores.client

    @property
    def shares_cores(self) -> bool:
        return self.cores.shared

    @property
    def processes(self) -> LocalProcesses:
        return LocalProcesses(self.cores.server, (self.pid,), self.marks)

    def check(self) -> None:
        if self.watch.out_of_memory is not None:
            raise Infeasible(self.watch.out_of_memory)
        code = _exit_code(self.pid)
        # A launcher that leaves its server running (a daemon) has done its work; one that leaves nothing has failed.
        if code is None or (code == 0 and (self.tree.living() or self.tree.search())):
            return
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL) and Cgroups().oom_kills() > self.oom_kills_before:
            raise Infeasible("out of memory: the kernel ended the server")
        raise with_last_words(_how_it_ended(code), self.log_tail())

    def elsewhere(self) -> str:
        """The end of a message that says where the server listens, if not where it should."""
        return elsewhere(self.tree.search(), self.container.placement.port)

    def usage(self, start: float, end: float) -> Usage:
        return self.watch.samples.usage(start, end)

    def log_tail(self) -> str:
        """The end of what the server printed."""
        return end_of_file(self.container.folder / "server.log")


@contextlib.contextmanager
def _running(container: Container, cores: Allotment, gpus: tuple[str, ...]) -> Iterator[_Server]:
    """Start, wait until ready, and leave nothing behind, however the block ends."""
    write_files(container.files, Path(container.placement.files))
    marks = ownership_environment(container.study, container.trial)
    tree, oom_kills = ProcessTree(marks), Cgroups().oom_kills()
    with contextlib.ExitStack() as stack:  # each end is named before its beginning, lest an interrupt falls between
        temporary = _temporary_path()
        held = stack.enter_context(lease(container.study, container.trial, temporary))
        temporary.mkdir(mode=0o700)  # the lease removes it, also where we are killed
        launched = time.monotonic()
        log = stack.enter_context(bounded_log(container.folder / "server.log"))
        process = stack.enter_context(_ended(tree, container, environment(container, marks, temporary), cores))
        tree.led_by(process.pid)
        held.name_session(process.pid)
        watch = stack.enter_context(_watched(container, tree, process.pid, gpus, log))
        server = _Server(container, tree, watch, cores, process.pid, oom_kills, marks)
        doubts = await_server(server.url, container, server.check, server.log_tail, server.elsewhere)
        server.cold_start_s = time.monotonic() - launched
        server.notes = (*_slice_notes(container), *_core_notes(container, cores), *doubts)
        _refuse_a_stranger(server)
        yield server


@contextlib.contextmanager
def _ended(
    tree: ProcessTree, container: Container, environ: dict[str, str], cores: Allotment
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the process; when the block ends, end its whole tree. A second interrupt only cuts the grace, whether it
    comes meanwhile or came while samples were written.
    """
    process = None
    try:
        process = start(container, environ, cores.server)
        if container.best_effort:
            take_leftovers(process)
        elif cores.shared:
            yield_cores(process)
        yield process
    finally:
        try:
            tree.stop(0.0 if _interrupted_twice() else _GRACE_S)
        except KeyboardInterrupt:
            tree.stop(0.0)
            raise
        finally:
            if process is not None:
                process.wait()


def _interrupted_twice() -> bool:
    """Whether the interrupt that ends the block came on top of another one."""
    error, count = sys.exc_info()[1], 0
    while error is not None:
        count += isinstance(error, KeyboardInterrupt)
        error = error.__context__
    return count > 1


@contextlib.contextmanager
def _watched(
    container: Container, tree: ProcessTree, pid: int, gpus: tuple[str, ...], log: BoundedLog
) -> Iterator[Watch]:
    """Samples are taken for as long as the block runs, and written down after it."""
    watch = Watch(tree, container.resources.memory_bytes, lambda: bool(_exit_code(pid)), gpus, log.trim)
    try:
        watch.start()
        yield watch
    finally:
        watch.stop()
        watch.samples.write(container.folder / "usage.csv")


def _temporary_path() -> Path:
    """A killed server cannot remove its temporary files, so they lie where they can be removed for it. The path is
    short because servers put sockets there, whose paths may have 107 characters.
    """
    return Path(tempfile.gettempdir(), f"{TEMPORARY_PREFIX}{secrets.token_hex(5)}")


def _refuse_a_stranger(server: _Server) -> None:
    """Raises ServerFailed if somebody else's server took the port first, and answered in place of ours."""
    port = server.container.placement.port
    if not listens(server.tree.search(), port):
        raise ServerFailed(
            f"the server does not listen on port {port}, which another process answers on", server.log_tail()
        )


def _exit_code(pid: int) -> int | None:
    """As `Popen.poll`, but leaves the ended process unreaped: its id stays the session's until all of it is gone."""
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return exited(code)
    with contextlib.suppress(ValueError):
        return f"the server was ended by {signal.Signals(-code).name}"
    return f"the server was ended by signal {-code}"
