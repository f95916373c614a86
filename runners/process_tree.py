"""Every process that a server consists of, and how to end all of them.

A server's children may outlive it, leave its session or fork twice, so a process belongs to the tree when it was seen
below the leader, is in the leader's session, or carries the launch's marks in its environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable, Mapping

import psutil

from runners.ownership import owner_of

_POLL_S = 0.01


class ProcessTree:
    """The processes of one launched server. Safe to use from several threads."""

    def __init__(self, leader: psutil.Process, marks: Mapping[str, str]) -> None:
        self._leader, self._marks = leader, dict(marks)
        self._known: dict[int, psutil.Process] = {leader.pid: leader}
        self._lock = threading.Lock()

    def living(self) -> list[psutil.Process]:
        """The known processes that run, with those that they have started since the last look.

        A zombie counts as gone: it holds nothing, and its parent reaps it or dies.
        """
        with self._lock:
            for process in list(self._known.values()):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    for child in process.children(recursive=True):
                        self._known.setdefault(child.pid, child)
            self._known = {pid: process for pid, process in self._known.items() if _runs(process)}
            return list(self._known.values())

    def search(self) -> list[psutil.Process]:
        """As `living`, and by session and marks among all processes of the machine: slower, and misses nothing."""
        with self._lock:
            for process in psutil.process_iter():
                if process.pid not in self._known and process.pid != os.getpid() and self._is_ours(process):
                    self._known[process.pid] = process
        return self.living()

    def stop(self, grace_s: float) -> None:
        """SIGTERM to all, then SIGKILL to what is left after `grace_s`, until a search finds none. Blocks."""
        end = time.monotonic() + grace_s
        signalled: set[int] = set()
        while time.monotonic() < end:
            running = self.living()
            _signal([process for process in running if process.pid not in signalled], signal.SIGTERM)
            signalled |= {process.pid for process in running}
            if not running and not self.search():
                return
            time.sleep(_POLL_S)
        while running := self.search():
            _signal(running, signal.SIGKILL)
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """SIGKILL to every known process at once; `stop` sees to the rest."""
        _signal(self.living(), signal.SIGKILL)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            same_session = os.getsid(process.pid) == self._leader.pid
        except (ProcessLookupError, PermissionError):
            return False
        # A session keeps its number while any of its processes lives, so it cannot have been given to others.
        return same_session or owner_of(process) == self._marks


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(processes: Iterable[psutil.Process], number: int) -> None:
    """Psutil compares start times before it signals, so that a reused process id is spared."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.send_signal(number)
