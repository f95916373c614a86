"""Looks at the machine before and after a stretch of load, and says what others did to the server meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.neighbours.calibration import Copy
from loadtest.neighbours.core_times import CoreTimes, highest_clock_khz, read_core_times
from loadtest.neighbours.documents import Neighbours, ServerProcesses, Slowness
from loadtest.neighbours.pressure import QuotaPeriods, memory_stalled_s, quota_periods
from loadtest.neighbours.process_times import CgroupTimes, ProcessTimes, ThreadTimes, own_cpu_s

_TAKEN = 0.03  # of the server's cores, by others or a hypervisor
_RESOLUTION_S = 0.02  # a core: the kernel says idle time and time in I/O in hundredths of a second each
_STALLED, _THROTTLED = 0.03, 0.03  # of the time, of the scheduler's periods
_SLOWED = 0.15  # below the highest clock seen under load
_SLOW_MEMORY = 0.35  # below the fastest copy; a busy cache alone makes one a fifth slower
_SAMPLE_S = 0.25
_QUIET_LOOK_S = 0.3


@dataclass(frozen=True)
class CounterSample:
    """The counters at one moment."""

    cores: CoreTimes
    elsewhere: CoreTimes | None
    server_s: float
    threads: ThreadTimes
    generator_s: float
    tuner_s: float
    memory_stalled_s: float | None
    quota: QuotaPeriods | None


class NeighbourWatch:
    """Watches the cores of servers that run on this machine, all of them together. One per load test.

    `tuner` is the process that asked for the load test, which started this one: what it does meanwhile (it watches
    the server's memory, and shows what runs) is no neighbour's doing, and counts as the generator's. `copy_s` is what
    the fastest of the first copies through the machine's memory took.
    """

    def __init__(self, servers: Sequence[ServerProcesses], tuner: int | None = None) -> None:
        self.cores = tuple(sorted({core for one in servers for core in one.cores}))
        self._trees = [ProcessTimes(one.pids, one.environ) for one in servers]
        self._servers = [
            times for one, tree in zip(servers, self._trees, strict=True) for times in _times_of(one, tree)
        ]
        self._generator, self._tuner = ProcessTimes([os.getpid()]), os.getppid() if tuner is None else tuner
        self._clocks = _Clocks(self.cores)
        self._copy = Copy()
        self._fastest_s = self.copy_s = self._copy.seconds()

    @classmethod
    def of(cls, servers: Sequence[ServerProcesses | None]) -> NeighbourWatch | None:
        """A watch over these servers' cores; None if a server's own use cannot be known from here, and so nothing
        about others.
        """
        known = [one for one in servers if one is not None]
        if not known or None in servers:
            return None
        watch = cls(known)
        return watch if watch.look() is not None else None

    def look(self) -> CounterSample | None:
        """The counters now; None where the server's processes are gone or may not be seen. Takes some milliseconds."""
        for tree in self._trees:
            tree.cpu_s()  # it finds the processes whose threads are asked
        threads = [tree.threads() for tree in self._trees]
        used = [times.cpu_s() for times in self._servers]
        elsewhere = read_core_times(set(range(os.cpu_count() or 1)) - set(self.cores))
        cores, generator_s = read_core_times(self.cores), self._generator.cpu_s()
        if cores is None or generator_s is None or any(seconds is None for seconds in used):
            return None
        server_s = sum(seconds for seconds in used if seconds is not None)
        stalls = [memory_stalled_s(), *(times.memory_stalled_s() for times in self._servers)]
        # What the servers waited for memory within limits of their own is not the neighbours' doing.
        known = [seconds for seconds in stalls if seconds is not None]
        stalled_s = known[0] - sum(known[1:]) if len(known) == len(stalls) else None
        waited = ThreadTimes(sum(one.ran_s for one in threads), sum(one.waited_s for one in threads))
        tuner_s = own_cpu_s(self._tuner) or 0.0
        return CounterSample(cores, elsewhere, server_s, waited, generator_s, tuner_s, stalled_s, quota_periods())

    def since(self, before: CounterSample | None) -> Neighbours | None:
        """What happened between a look and now."""
        now = self.look()
        if before is None or now is None:
            return None
        passed_s = max(1e-6, now.cores.at - before.cores.at)
        server_s = now.server_s - before.server_s
        waited_s = now.threads.waited_since(before.threads, server_s)
        generator_all_s, tuner_all_s = now.generator_s - before.generator_s, max(0.0, now.tuner_s - before.tuner_s)
        generator_s = generator_all_s * self._shared(os.getpid()) + tuner_all_s * self._shared(self._tuner)
        others_s = max(0.0, now.cores.busy_since(before.cores) - server_s - generator_s)
        seen = Neighbours(
            duration_s=passed_s,
            server_cores=now.cores.cores,
            server_used_cores=server_s / passed_s,
            server_waited_cores=None if waited_s is None else waited_s / passed_s,
            others_cores=others_s / passed_s,
            generator_cores=generator_s / passed_s,
            stolen_cores=max(0.0, now.cores.stolen_s - before.cores.stolen_s) / passed_s,
            elsewhere_cores=_elsewhere_s(before, now, generator_all_s + tuner_all_s - generator_s) / passed_s,
            slowness=self._slowness(before, now),
        )
        return seen.model_copy(update={"reason": why_disturbed(seen)})

    def _slowness(self, before: CounterSample, now: CounterSample) -> Slowness:
        passed_s = max(1e-6, now.cores.at - before.cores.at)
        stalled = None
        if now.memory_stalled_s is not None and before.memory_stalled_s is not None:
            stalled = min(1.0, max(0.0, (now.memory_stalled_s - before.memory_stalled_s) / passed_s))
        throttled = None if now.quota is None or before.quota is None else now.quota.share_since(before.quota)
        frequency = self._clocks.ratio_since(before.cores.at)
        memory_speed = self._memory_speed()
        beyond = [
            share
            for share, noise in (
                (stalled or 0.0, _STALLED),
                (throttled or 0.0, _THROTTLED),
                (1 - (1.0 if frequency is None else frequency), _SLOWED),
                (1 - memory_speed, _SLOW_MEMORY),
            )
            if share > noise
        ]
        return Slowness(
            memory_stalled=stalled, quota_throttled=throttled, frequency=frequency, memory_speed=memory_speed,
            lost=max(beyond, default=0.0),
        )  # fmt: skip

    def _memory_speed(self) -> float:
        """Of a copy at this moment, over the fastest until now."""
        copy_s = self._copy.seconds()
        self._fastest_s = min(self._fastest_s, copy_s)
        return self._fastest_s / copy_s

    def await_quiet(self, at_most_s: float) -> bool:
        """Blocks until others have left the server's cores alone for a moment; False where they did not in time."""
        end = time.perf_counter() + at_most_s
        while end - time.perf_counter() >= _QUIET_LOOK_S:  # in less the kernel's counters may not have moved
            before = self.look()
            time.sleep(_QUIET_LOOK_S)
            seen = self.since(before)
            if seen is None or not seen.disturbed:
                return True
        return False

    def _shared(self, pid: int) -> float:
        """The part of a process's time that falls on the server's cores: it uses all of its own alike."""
        try:
            own = os.sched_getaffinity(pid)
        except OSError:  # it has ended
            return 0.0
        return len(own & set(self.cores)) / len(own)


def _elsewhere_s(before: CounterSample, now: CounterSample, generator_s: float) -> float:
    if before.elsewhere is None or now.elsewhere is None:
        return 0.0
    return max(0.0, now.elsewhere.busy_since(before.elsewhere) - generator_s)


class _Clocks:
    """The clock of the server's cores over time, where the kernel says it: on an idle core it means nothing, so the
    highest of a stretch counts.
    """

    def __init__(self, cores: tuple[int, ...]) -> None:
        self._cores = cores
        self._seen: list[tuple[float, int]] = []
        if highest_clock_khz(cores) is not None:
            threading.Thread(target=self._sample, name="clocks", daemon=True).start()

    def ratio_since(self, moment: float) -> float | None:
        """The highest since then over the highest of all; None where it is not known."""
        lately = [khz for at, khz in self._seen if at >= moment]
        return max(lately) / max(khz for _, khz in self._seen) if lately else None

    def _sample(self) -> None:
        while (khz := highest_clock_khz(self._cores)) is not None:
            self._seen.append((time.perf_counter(), khz))
            time.sleep(_SAMPLE_S)


def why_disturbed(seen: Neighbours) -> str:
    """Why a stretch counts as disturbed, in words; empty if others did not matter."""
    allowance = _RESOLUTION_S / seen.duration_s
    limit = seen.server_cores * (_TAKEN + allowance)
    whose = "the server's core" if seen.server_cores == 1 else f"the server's {seen.server_cores} cores"
    if seen.others_cores > limit:
        return f"others used {seen.others_cores:.2g} of {whose}"
    if seen.stolen_cores > limit:
        return f"a hypervisor gave {seen.stolen_cores:.2g} of {whose} to others"
    slowness = seen.slowness
    if (slowness.quota_throttled or 0.0) > _THROTTLED:
        return f"the CPU quota that the server shares was used up in {slowness.quota_throttled:.0%} of the periods"
    if (slowness.memory_stalled or 0.0) > _STALLED:
        return f"tasks waited for memory {slowness.memory_stalled:.0%} of the time"
    if slowness.frequency is not None and slowness.frequency < 1 - _SLOWED:
        return f"the clock of {whose} was at most {slowness.frequency:.0%} of what it had been"
    if slowness.memory_speed is not None and slowness.memory_speed < 1 - _SLOW_MEMORY:
        return f"the memory was at most {slowness.memory_speed:.0%} as fast as it had been"
    return ""


def _times_of(server: ServerProcesses, tree: ProcessTimes) -> list[ProcessTimes | CgroupTimes]:
    """A server's cgroups where each of its processes has one of its own, else its tree of processes."""
    groups = [CgroupTimes.own_of(pid) for pid in server.pids]
    if None in groups:
        return [tree]
    return [group for group in dict.fromkeys(groups) if group is not None]
