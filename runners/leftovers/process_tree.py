"""Every process that a server consists of, and how to end all of them.

A server's children may outlive it, leave its session or fork twice, so a process belongs to the tree when it was seen
below one that does, is in the leader's session, or carries the launch's marks in its environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable, Mapping

from runners.host.process_table import Entry, read, read_all
from runners.leftovers.ownership import marks_of
from runners.protocol import RunnerUnavailable

_POLL_S = 0.01
_MAX_FREEZES = 100
_UNKILLABLE_S = 30.0


class ProcessTree:
    """The processes of one launched server. Safe to use from several threads."""

    def __init__(self, marks: Mapping[str, str]) -> None:
        self._marks = dict(marks)
        self._leader: tuple[int, int] | None = None
        self._known: dict[tuple[int, int], Entry] = {}
        self._lock = threading.Lock()

    def led_by(self, pid: int) -> None:
        """Name the process that leads the session. Without one, the marks alone tell what belongs here."""
        with self._lock:
            entry = read(pid)
            if entry is not None:
                self._leader = entry.identity
                self._known[entry.identity] = entry

    def look(self) -> list[Entry]:
        """The known processes with those that they have started since, as of now; ended but unreaped ones too."""
        with self._lock:
            return self._refresh(read_all())

    def glance(self) -> list[Entry]:
        """The processes that the last look found, as of now: the rest of the machine's table is not read."""
        with self._lock:
            known = self._known
        found = [(identity, read(identity[0])) for identity in known]
        return [entry for identity, entry in found if entry is not None and entry.identity == identity]

    def living(self) -> list[Entry]:
        """As `look`, without the ended ones: a zombie holds nothing, and its parent reaps it or dies."""
        return [entry for entry in self.look() if not entry.ended]

    def search(self) -> list[Entry]:
        """As `living`, and by marks among all processes of the machine: slower, and misses nothing."""
        with self._lock:
            table = read_all()
            for entry in table.values():
                unknown = entry.identity not in self._known and entry.pid != os.getpid()
                if unknown and not entry.ended and marks_of(entry.pid) == self._marks:
                    self._known[entry.identity] = entry
            return [entry for entry in self._refresh(table) if not entry.ended]

    def stop(self, grace_s: float) -> None:
        """SIGTERM to all, then SIGKILL to what is left after `grace_s`, until a search finds none. Blocks.

        Raises RunnerUnavailable when a process does not even end on SIGKILL (the kernel holds it).
        """
        end = time.monotonic() + grace_s
        signalled: set[tuple[int, int]] = set()
        while time.monotonic() < end:
            running = self.living()
            _signal([entry for entry in running if entry.identity not in signalled], signal.SIGTERM)
            signalled |= {entry.identity for entry in running}
            if not running and not self.search():
                return
            time.sleep(_POLL_S)
        self._freeze()
        end = time.monotonic() + _UNKILLABLE_S
        while running := self.search():
            _signal(running, signal.SIGKILL)
            if time.monotonic() > end:
                pids = ", ".join(str(entry.pid) for entry in running)
                raise RunnerUnavailable(f"cannot end process {pids}: SIGKILL had no effect in {_UNKILLABLE_S:g} s")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """SIGKILL to every known process at once; `stop` sees to the rest."""
        _signal(self.living(), signal.SIGKILL)

    def _freeze(self) -> None:
        """Stop processes that fork faster than they can be killed one by one: once all stand still, none is new."""
        frozen: set[tuple[int, int]] = set()
        for _ in range(_MAX_FREEZES):
            fresh = [entry for entry in self.search() if entry.identity not in frozen]
            if not fresh:
                return
            _signal(fresh, signal.SIGSTOP)
            frozen |= {entry.identity for entry in fresh}

    def _refresh(self, table: Mapping[int, Entry]) -> list[Entry]:
        children: dict[int, list[Entry]] = {}
        for entry in table.values():
            children.setdefault(entry.parent, []).append(entry)
        found = {i: table[i[0]] for i in self._known if i[0] in table and table[i[0]].identity == i}
        # The session's number is the leader's id: the leader's alone while that, though it may have ended, is unreaped.
        if self._leader in found:
            leader = found[self._leader].pid
            found |= {entry.identity: entry for entry in table.values() if entry.session == leader}
        waiting = list(found.values())
        while waiting:
            for child in children.get(waiting.pop().pid, []):
                if child.identity not in found:
                    found[child.identity] = child
                    waiting.append(child)
        self._known = found
        return list(found.values())


def _signal(entries: Iterable[Entry], number: signal.Signals) -> None:
    """Start times are compared first, so that a process that has since been given the id is spared."""
    for entry in entries:
        now = read(entry.pid)
        if now is not None and now.identity == entry.identity and entry.pid != os.getpid():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(entry.pid, number)
