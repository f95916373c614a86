"""What others do on the server's cores is seen, and never blamed on the server."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from benchmarks.truth.queues import capacity_qps
from benchmarks.truth.sequential import SimulatedProber
from loadtest import Interval, Measurement, Neighbours, Probe, ServerProcesses, Slowness
from loadtest.generator.quiet import Quiet, QuietProber, RetryBudget, marked
from loadtest.judge.capacity import CapacityResult, CapacitySearch, Probed
from loadtest.judge.verdict import Failures
from loadtest.judge.widening import despite_neighbours, gain_of, taken_in, taken_share, widened
from loadtest.neighbours.calibration import MachineClock
from loadtest.neighbours.core_times import highest_clock_khz, read_core_times
from loadtest.neighbours.pressure import QuotaPeriods, memory_stalled_s, quota_periods
from loadtest.neighbours.process_times import CgroupTimes, ProcessTimes
from loadtest.neighbours.watch import CounterSample, NeighbourWatch, why_disturbed

CORE = min(os.sched_getaffinity(0))
BURN = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
print(os.getpid(), flush=True)
while time.process_time() < float(sys.argv[2]):
    pass
print("done", flush=True)
sys.stdin.read()
"""
SERVICE_S, LIMIT_S = 0.004, 0.050


@contextlib.contextmanager
def burning(seconds: float, *, code: str = BURN) -> Iterator[Burning]:
    """A process that uses so much CPU time on the first core and then lives on. It is no child of ours, whose time
    would be the generator's.
    """
    command = ["setsid", "--fork", sys.executable, "-c", code, str(CORE), str(seconds)]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdin is not None
    assert started.stdout is not None
    process = Burning(int(started.stdout.readline()), started.stdin, started.stdout)
    try:
        yield process
    finally:
        os.kill(process.pid, signal.SIGKILL)
        started.communicate()


@dataclass(frozen=True)
class Burning:
    pid: int
    stdin: IO[str]
    stdout: IO[str]


def ended(process: Burning) -> None:
    assert process.stdout.readline() == "done\n"


@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_the_time_of_a_process_is_counted_to_the_millisecond() -> None:
    with burning(0.4) as process:
        times = ProcessTimes([process.pid])
        before = times.cpu_s()
        ended(process)
        after = times.cpu_s()
    assert before is not None
    assert after is not None
    assert after == pytest.approx(0.4, abs=0.02)
    assert before < after


@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_children_count_whether_they_live_or_have_ended() -> None:
    parent = """
import os, subprocess, sys, time
burn = "import sys, time\\nwhile time.process_time() < 0.2: pass\\nprint('.', flush=True)\\nsys.stdin.read()"
print(os.getpid(), flush=True)
one = subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
two = subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
one.stdout.read(1), two.stdout.read(1)
print("done", flush=True)
sys.stdin.readline()
one.stdin.close(); one.wait()
print("done", flush=True)
sys.stdin.read()
"""
    with burning(0.0, code=parent) as process:
        times = ProcessTimes([process.pid])
        times.cpu_s()
        ended(process)
        alive = times.cpu_s()
        process.stdin.write("\n")
        process.stdin.flush()
        ended(process)
        half = times.cpu_s()
    assert alive is not None
    assert half is not None
    assert 0.4 <= alive < 0.9  # the start of two interpreters is in it
    assert alive - 0.001 <= half < alive + 0.1


@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_a_process_that_left_the_tree_is_known_by_its_environment() -> None:
    code = "import time; print('ready')\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True); input()"
    with burning(0.0) as root:
        marked = subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | {"MARK_A": "7", "MARK_B": "x y"}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            assert marked.stdout is not None
            with_marks = ProcessTimes([root.pid], {"MARK_A": "7", "MARK_B": "x y"})
            other_marks = ProcessTimes([root.pid], {"MARK_A": "8", "MARK_B": "x y"})
            assert marked.stdout.readline() == "ready\n"
            assert marked.stdout.readline() == "done\n"
            seen, unseen = with_marks.cpu_s(), other_marks.cpu_s()
        finally:
            marked.kill()
            marked.communicate()
    assert seen is not None
    assert unseen is not None
    assert seen - unseen > 0.19


def test_nobody_knows_the_time_of_a_process_that_is_not_there() -> None:
    assert ProcessTimes([2**22 + 1]).cpu_s() is None
    assert NeighbourWatch.of([ServerProcesses(cores=(CORE,), pids=(2**22 + 1,))]) is None
    assert NeighbourWatch.of([None]) is None


@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_what_a_neighbour_burns_on_the_servers_core_is_seen_and_what_the_server_burns_is_not() -> None:
    with burning(0.3) as server, burning(0.6) as neighbour:
        watch = NeighbourWatch.of([ServerProcesses(cores=(CORE,), pids=(server.pid,))])
        assert watch is not None
        before = watch.look()
        begun_server, begun_neighbour = times_of(server), times_of(neighbour)
        ended(server)
        ended(neighbour)
        seen = watch.since(before)
        burnt_server, burnt_neighbour = times_of(server) - begun_server, times_of(neighbour) - begun_neighbour
    assert seen is not None
    assert seen.server_used_cores * seen.duration_s == pytest.approx(burnt_server, abs=0.03)
    # Whoever else uses this machine comes on top; the kernel tells idle time in hundredths of a second.
    assert seen.others_cores * seen.duration_s > burnt_neighbour - 0.05
    assert seen.others_cores + seen.server_used_cores + seen.generator_cores < 1.02
    assert seen.disturbed
    assert "of the server's core" in seen.reason
    assert 0 < (seen.slowness.memory_speed or 0) <= 1
    assert 0 <= seen.elsewhere_cores < (os.cpu_count() or 1)
    assert 0 < seen.taken <= 1


@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_what_the_generator_uses_of_the_servers_cores_is_not_the_neighbours() -> None:
    """This process is the generator here: half of its cores are the server's, or all of them."""
    own = tuple(sorted(os.sched_getaffinity(0)))
    with burning(0.0) as server:
        for cores in (own, own[: max(1, len(own) // 2)]):
            watch = NeighbourWatch.of([ServerProcesses(cores=cores, pids=(server.pid,))])
            assert watch is not None
            before, begun = watch.look(), time.process_time()
            while time.process_time() - begun < 0.3:
                pass
            burnt = time.process_time() - begun  # before the memory's speed is measured, which is not in what is seen
            seen = watch.since(before)
            assert seen is not None
            share = len(cores) / len(own)
            assert seen.generator_cores * seen.duration_s == pytest.approx(burnt * share, abs=0.05)
            assert seen.server_cores == len(cores)


@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_what_the_tuner_uses_of_the_servers_core_is_not_the_neighbours() -> None:
    with burning(0.0) as server, burning(2.0) as tuner:  # part of it while the watch starts
        watch = NeighbourWatch([ServerProcesses(cores=(CORE,), pids=(server.pid,))], tuner=tuner.pid)
        before, begun = watch.look(), times_of(tuner)
        ended(tuner)
        seen, burnt = watch.since(before), times_of(tuner) - begun
    assert seen is not None
    assert burnt > 0.5
    assert seen.generator_cores * seen.duration_s > burnt - 0.05
    assert seen.others_cores + seen.generator_cores < 1.02, "it is not counted twice"


def times_of(process: Burning) -> float:
    seconds = ProcessTimes([process.pid]).cpu_s()
    assert seconds is not None
    return seconds


@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_a_quiet_moment_is_awaited_and_not_for_ever() -> None:
    with burning(60.0) as neighbour:
        watch = NeighbourWatch([ServerProcesses(cores=(CORE,), pids=(os.getpid(),))])
        begun = time.perf_counter()
        assert not watch.await_quiet(0.7)
        assert not watch.await_quiet(0.01), "too short to see anything"
        assert time.perf_counter() - begun < 2
        os.kill(neighbour.pid, 0)  # it lives


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ""),
        ({"others_cores": 0.03}, ""),
        ({"others_cores": 0.06}, "others used 0.06 of the server's core"),
        ({"others_cores": 0.06, "server_cores": 4}, ""),
        ({"others_cores": 0.9, "server_cores": 4}, "others used 0.9 of the server's 4 cores"),
        ({"stolen_cores": 0.2}, "a hypervisor gave 0.2 of the server's core to others"),
        ({"memory_stalled": 0.1}, "tasks waited for memory 10% of the time"),
        ({"quota_throttled": 0.25}, "the CPU quota that the server shares was used up in 25% of the periods"),
        ({"memory_speed": 0.8}, ""),
        ({"memory_speed": 0.5}, "the memory was at most 50% as fast as it had been"),
        ({"frequency": 0.7}, "the clock of the server's core was at most 70% of what it had been"),
    ],
)
def test_what_disturbs_is_said_in_words(fields: dict[str, float], words: str) -> None:
    assert why_disturbed(neighbours(**fields)) == words


def neighbours(**fields: float) -> Neighbours:
    slowness = {name: fields.pop(name) for name in Slowness.model_fields if name in fields}
    given = {"duration_s": 4.0, "server_cores": 1, "server_used_cores": 0.5, "others_cores": 0.0, **fields}
    return Neighbours.model_validate(given | {"slowness": slowness})


@pytest.mark.parametrize(
    ("used", "others", "waited", "taken"),
    [
        (0.7, 0.3, 0.3, 0.3),  # the CPU is its limit, and others had it for a third of the time
        (0.2, 0.8, 0.02, 1 / 11),  # it hardly wanted the core that others used
        (0.2, 0.8, None, 0.8),  # nobody knows whether it waited
        (2.8, 1.2, 1.2, 0.3),  # four cores
        (0.9, 0.0, 5.0, 0.0),  # its own threads waited for each other
    ],
)
def test_a_server_lost_what_it_waited_while_others_ran(
    used: float, others: float, waited: float | None, taken: float
) -> None:
    seen = Neighbours(
        duration_s=4.0, server_cores=4, server_used_cores=used, others_cores=others, server_waited_cores=waited
    )
    assert seen.taken == pytest.approx(taken)


@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_a_thread_that_waits_for_a_core_is_seen_and_stands_for_those_that_ended() -> None:
    with burning(0.5) as server, burning(0.5) as neighbour:
        tree = ProcessTimes([server.pid])
        tree.cpu_s()
        before = tree.threads()
        ended(server)
        ended(neighbour)
        used_s = tree.cpu_s()
        after = tree.threads()
    assert used_s is not None
    waited_s = after.waited_since(before, after.ran_s - before.ran_s)
    assert waited_s is not None
    assert waited_s > 0.1  # the two took turns
    assert after.waited_since(before, 2 * (after.ran_s - before.ran_s)) == pytest.approx(2 * waited_s)
    assert after.waited_since(before, 10.0) is None


def test_a_short_stretch_is_not_called_disturbed_for_the_kernels_rounding() -> None:
    assert not why_disturbed(neighbours(duration_s=0.3, others_cores=0.07))
    assert why_disturbed(neighbours(duration_s=0.3, others_cores=0.12))


def test_core_times_add_up(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 50 1000 20 5 5 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\n")
    before = read_core_times([0], stat)
    stat.write_text("cpu0 150 0 60 1100 30 7 8 15 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\n")
    after = read_core_times([0], stat)
    assert before is not None
    assert after is not None
    assert after.stolen_s - before.stolen_s == pytest.approx(0.15)
    passed_s = after.at - before.at
    assert after.busy_since(before) == max(0.0, passed_s - 1.1 - 0.05 - 0.15)
    assert read_core_times([7], stat) is None
    assert read_core_times([0], tmp_path / "none") is None


def test_clocks_pressure_and_quotas_are_read_where_the_kernel_says_them(tmp_path: Path) -> None:
    folder = tmp_path / "cpu3" / "cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_cur_freq").write_text("2400000\n")
    assert highest_clock_khz([2, 3], tmp_path) == 2400000
    assert highest_clock_khz([2], tmp_path) is None
    pressure = tmp_path / "memory"
    pressure.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 total=7\n")
    assert memory_stalled_s(pressure) == 2.5
    assert memory_stalled_s(tmp_path / "none") is None
    group = tmp_path / "cgroup" / "box"
    group.mkdir(parents=True)
    (group / "cpu.stat").write_text("usage_usec 4000\nnr_periods 40\nnr_throttled 10\nthrottled_usec 99\n")
    membership = tmp_path / "membership"
    membership.write_text("0::/box/inner\n")
    assert quota_periods(tmp_path / "cgroup", membership) == QuotaPeriods(40, 10)
    assert QuotaPeriods(60, 15).share_since(QuotaPeriods(40, 10)) == 0.25
    assert QuotaPeriods(40, 10).share_since(QuotaPeriods(40, 10)) == 0.0


def test_a_cgroup_of_its_own_says_what_a_server_used_in_both_versions(tmp_path: Path) -> None:
    for number, ours, theirs, file, text in (
        (1, "0::/user", "0::/docker/abc", "docker/abc/cpu.stat", "usage_usec 1500000\nuser_usec 1\n"),
        (
            2,
            "3:cpuacct,cpu:/user\n0::/",
            "3:cpuacct,cpu:/docker/abc\n0::/",
            "cpuacct/docker/abc/cpuacct.usage",
            "1500000000\n",
        ),
    ):
        proc, root = tmp_path / f"proc{number}", tmp_path / f"cgroup{number}"
        for name, membership in (("self", ours), ("77", theirs), ("78", ours)):
            (proc / name).mkdir(parents=True)
            (proc / name / "cgroup").write_text(membership + "\n")
        (root / file).parent.mkdir(parents=True)
        (root / file).write_text(text)
        found = CgroupTimes.own_of(77, proc, root)
        assert found is not None
        assert found.cpu_s() == 1.5
        assert CgroupTimes.own_of(78, proc, root) is None
        assert CgroupTimes.own_of(79, proc, root) is None


QUOTA = """
import sys, time
from loadtest.neighbours.pressure import quota_periods
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
before, begun = quota_periods(), time.process_time()
while time.process_time() - begun < 0.1:
    pass
after = quota_periods()
print(after.share_since(before) if before else after.throttled / after.periods)
"""


@pytest.mark.skipif(not os.access("/sys/fs/cgroup/cpu", os.W_OK), reason="no cgroup of version 1 can be made here")
@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_a_real_quota_that_is_used_up_is_seen() -> None:
    with cgroup("cpu") as group:
        (group / "cpu.cfs_quota_us").write_text("5000")
        ran = subprocess.run([sys.executable, "-c", QUOTA, str(group)], capture_output=True, text=True, check=True)
    assert float(ran.stdout) > 0.5


@contextlib.contextmanager
def cgroup(controller: str) -> Iterator[Path]:
    group = Path("/sys/fs/cgroup") / controller / f"tune-test-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        for _ in range(100):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.02)


@pytest.mark.skipif(not os.access("/sys/fs/cgroup/cpuacct", os.W_OK), reason="no cgroup can be made here")
@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_a_real_cgroup_of_a_process_is_told_from_ours() -> None:
    with cgroup("cpuacct") as group, burning(0.3) as process:
        (group / "cgroup.procs").write_text(str(process.pid))
        found = CgroupTimes.own_of(process.pid)
        assert found is not None
        ended(process)
        seconds = found.cpu_s()
        assert seconds is not None
        assert 0.1 < seconds < 0.4


def test_the_machines_speed_is_the_same_twice_and_this_thread_stays_where_it_was() -> None:
    own, begun = os.sched_getaffinity(0), time.process_time()
    first, second = MachineClock([CORE], 0.002), MachineClock([CORE], 0.002)
    for _ in range(5):
        second.look()
    assert first.speed.work_error is None, "one moment does not tell"
    assert second.speed.work_error is not None
    assert 0 < second.speed.work_error < 1
    assert 1 / 3 < second.speed.work_ms / first.speed.work_ms < 3  # whoever else runs shares the caches
    assert os.sched_getaffinity(0) == own
    assert time.process_time() - begun < 1.5
    assert second.speed.copy_ms == 2
    assert MachineClock.of([4096], 0.002) is None


def test_the_machines_speed_is_not_known_beside_a_server_that_keeps_itself_busy() -> None:
    clock = MachineClock([CORE], 0.002)
    for _ in range(4):
        clock.look()
    clock.beside(server_s=0.001, took_s=0.1)
    assert clock.speed.work_error is not None
    clock.beside(server_s=0.09, took_s=0.1)
    assert clock.speed.work_error is None


@dataclass
class SimulatedNeighbour:
    """Takes a share of the server's core all the time, or never; nobody has to wait for it."""

    share: float
    looks: int = 0

    def look(self) -> CounterSample | None:
        return None

    def since(self, before: CounterSample | None) -> Neighbours | None:
        self.looks += 1
        seen = neighbours(others_cores=self.share, server_used_cores=1 - self.share)
        return seen.model_copy(update={"reason": why_disturbed(seen)})

    def await_quiet(self, at_most_s: float) -> bool:
        return False


def search_beside(
    share: float, seed: int, *, first: float | None = None
) -> tuple[CapacityResult, Measurement, SimulatedNeighbour]:
    """An M/D/1 queue that is served more slowly by what the neighbour takes."""
    prober = SimulatedProber("M/D/1", SERVICE_S / (1 - share), LIMIT_S, 40.0, seed)
    neighbour = SimulatedNeighbour(share)
    quiet = Quiet(neighbour, RetryBudget(40.0), prober.remaining_s)
    attentive = QuietProber(prober.probe, prober.remaining_s, quiet, lambda: None)
    found = CapacitySearch(attentive, 0.95 * (1 - share) / SERVICE_S, 0.03, first).run()
    return found, quiet.said(answer(found)), neighbour


def answer(found: CapacityResult, **more: Any) -> Measurement:
    fields = {"outcome": found.outcome, "capacity_qps": found.capacity, "probes": found.probes} | more
    return Measurement(warmup_s=1.0, load_s=30.0, load_started_s=1.0, **fields)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_a_server_beside_a_neighbour_has_an_interval_that_reaches_its_quiet_capacity(share: float) -> None:
    truth = capacity_qps("M/D/1", SERVICE_S, LIMIT_S)
    for seed in range(6):
        found, measurement, _ = search_beside(share, seed)
        assert found.outcome == "measured"
        assert measurement.capacity_qps is not None
        assert measurement.capacity_qps.value < truth
        assert measurement.capacity_qps.low < truth < measurement.capacity_qps.high
        assert "others used" in measurement.notes[-1]
        assert all(probe.verdict != "missed" for probe in found.probes)
        assert any(probe.neighbours and probe.neighbours.disturbed for probe in found.probes)


def test_without_neighbours_nothing_is_repeated_or_widened() -> None:
    for seed in range(4):
        plain = CapacitySearch(SimulatedProber("M/D/1", SERVICE_S, LIMIT_S, 40.0, seed), 0.95 / SERVICE_S, 0.03).run()
        _, found, neighbour = search_beside(0.0, seed)
        assert found.capacity_qps == plain.capacity
        assert not found.notes
        assert len(found.probes) == len(plain.probes) == neighbour.looks - 1  # the last look is over all of it


def test_a_configuration_is_not_pruned_for_what_a_neighbour_took() -> None:
    truth = capacity_qps("M/D/1", SERVICE_S, LIMIT_S)
    for seed in range(6):
        beside, _, _ = search_beside(0.4, seed, first=0.8 * truth)
        assert beside.outcome == "measured"
        alone, _, _ = search_beside(0.0, seed, first=1.3 * truth)
        assert alone.outcome == "pruned"


def test_repeating_ends_where_the_machine_never_is_quiet() -> None:
    found, _, neighbour = search_beside(0.3, 0)
    thrown_away = neighbour.looks - 1 - len(found.probes)
    assert 1 <= thrown_away <= 4
    assert any(probe.neighbours and probe.neighbours.repeats for probe in found.probes)


def probe(verdict: str, taken: float, duration_s: float, *, rate_qps: float = 10, misses: int = 0) -> Probe:
    """One in which others used `taken` of the core and the server half of it."""
    seen = neighbours(others_cores=taken)
    seen = seen.model_copy(update={"reason": why_disturbed(seen)})
    return Probe.model_validate(
        {"rate_qps": rate_qps, "verdict": verdict, "started_s": 0, "duration_s": duration_s, "requests": 100,
         "completed": 100, "misses": misses, "errors": 0, "achieved_qps": rate_qps, "p50_ms": 5.0, "p95_ms": 6.0,
         "p99_ms": None, "late_p99_ms": 0, "generator_cpu": 0, "histogram": "", "neighbours": seen}
    )  # fmt: skip


def test_a_server_that_is_far_too_slow_is_infeasible_whatever_its_neighbours_took() -> None:
    """8 ms of service where 6 ms are allowed: a tenth more speed would not help."""
    prober = SimulatedProber("M/D/1", 0.008, 0.006, 40.0, 1)
    quiet = Quiet(SimulatedNeighbour(0.1), RetryBudget(40.0), prober.remaining_s)
    attentive = QuietProber(prober.probe, prober.remaining_s, quiet, lambda: None)
    assert CapacitySearch(attentive, 120.0, 0.03).run().outcome == "infeasible"


def test_what_was_taken_at_the_edge_widens_an_interval_however_long_it_was_quiet_below() -> None:
    # Beside half a core that it used it lost half of its speed.
    probes = (probe("met", 0.0, 30.0), probe("undecided", 0.5, 2.0), probe("missed", 0.01, 2.0))
    assert taken_share(probes) == pytest.approx(0.25)
    found = CapacityResult("measured", capacity=Interval(value=10, low=9, high=12), probes=probes)
    wide = widened(answer(found)).capacity_qps
    assert wide is not None
    assert wide.low == 9
    assert wide.high == pytest.approx(12 / 0.75**2)
    alone = answer(CapacityResult("measured", capacity=Interval(value=10, low=9, high=12), probes=probes[:1]))
    assert widened(alone) == alone


def test_what_was_taken_while_a_rate_held_widens_an_interval_since_latencies_were_longer_for_it() -> None:
    probes = (probe("met", 0.5, 10.0), probe("met", 0.0, 10.0), probe("undecided", 0.0, 5.0))
    assert taken_share(probes) == pytest.approx(0.25)
    invalid = probe("invalid", 0.9, 30.0)
    assert taken_share((*probes, invalid)) == pytest.approx(0.25)


def test_no_interval_reaches_beyond_what_the_servers_cores_can_do() -> None:
    """Half a core for 10 requests a second: a whole one does 20, and with larger batches half as many again."""
    probes = (probe("met", 0.9, 10.0), probe("undecided", 0.9, 10.0))
    narrow = answer(
        CapacityResult("measured", capacity=Interval(value=10, low=9, high=11), probes=probes), certainty="sure"
    )
    wide = widened(narrow)
    assert wide.capacity_qps == Interval(value=10, low=9, high=30)
    assert (wide.certainty, wide.at_most_qps) == ("uncertain", 30)


def test_a_server_that_hardly_waited_for_a_core_lost_hardly_anything_however_little_it_used() -> None:
    """As one that waits for a GPU: 100 ms a request, ten a second, so that it is busy for 1 - 1/e of the time."""
    held = probe("met", 0.9, 10.0).model_copy(update={"p50_ms": 100.0})
    waited = neighbours(server_used_cores=0.02, others_cores=0.9, server_waited_cores=0.06, duration_s=10.0)
    seen = waited.model_copy(update={"reason": why_disturbed(waited)})
    assert seen.taken == pytest.approx(0.75)  # by its CPU time alone
    assert taken_in(held, seen) == pytest.approx(0.06 / (1 - math.exp(-1)))
    assert taken_in(held.model_copy(update={"p50_ms": 1.0}), seen) == pytest.approx(0.75)  # idle for most of the time
    assert taken_in(held, waited) == 0.0  # nothing was said to disturb it


def test_no_interval_reaches_beyond_what_it_answered_at_full_load_without_neighbours() -> None:
    probes = (probe("undecided", 0.5, 4.0),)  # they took half of its speed
    found = CapacityResult("measured", capacity=Interval(value=10, low=9, high=11), probes=probes)
    wide = widened(answer(found, saturated_qps=12.0)).capacity_qps
    assert wide is not None
    assert wide.high == pytest.approx(1.1 * 12 * 2)


def test_no_interval_of_a_closed_loop_reaches_beyond_what_its_users_can_ask_for() -> None:
    """As one that waits most of the time, so that its cores would do many times as much: four users at 50 ms a turn."""
    seen = neighbours(server_used_cores=0.01, others_cores=0.9, duration_s=10.0)
    seen = seen.model_copy(update={"reason": why_disturbed(seen)})
    probes = (probe("met", 0.9, 10.0).model_copy(update={"neighbours": seen}),)
    found = CapacityResult("measured", capacity=Interval(value=70, low=65, high=75), probes=probes)
    wide, asked = widened(answer(found)).capacity_qps, widened(answer(found), 4 / 0.05).capacity_qps
    assert wide is not None
    assert wide.high > 200
    assert asked == Interval(value=70, low=65, high=80)


def test_a_miss_by_more_than_neighbours_took_is_the_servers_own() -> None:
    """A core of which others took half for a second makes no request half a minute late."""
    seen = probe("missed", 0.5, 4.0).neighbours
    assert seen is not None
    assert seen.disturbed
    late = Probed(probe("missed", 0.5, 4.0), (), opinion="missed", late_by_s=1.9)
    assert marked(late, seen).verdict == "undecided"
    hung = dataclasses.replace(late, late_by_s=2.1)
    assert marked(hung, seen).verdict == "missed"
    assert marked(hung, seen).missed_below_qps == 10


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("http 404", "missed"),
        ("http 429", "undecided"),
        ("http 503", "undecided"),
        ("grpc invalid argument", "missed"),
        ("grpc resource exhausted", "undecided"),
        ("the stream ended without [DONE] or a finish_reason", "undecided"),
    ],
)
def test_no_neighbour_makes_a_server_refuse_requests_as_wrong(kind: str, verdict: str) -> None:
    busy = probe("missed", 0.5, 4.0).model_copy(update={"errors": 20, "error_kinds": {kind: 20}})
    assert busy.neighbours is not None
    found = Probed(busy, (), failures=Failures(100, 20, 0.01), opinion="missed")
    assert marked(found, busy.neighbours).verdict == verdict


def test_what_held_although_the_generator_was_held_up_is_a_lower_bound() -> None:
    probes = tuple(
        probe("invalid", 0.9, 3.0, rate_qps=rate, misses=misses) for rate, misses in ((100, 40), (60, 1), (40, 0))
    )
    found = despite_neighbours(answer(CapacityResult("invalid", "spoiled", probes=probes), saturated_qps=120.0), 0.01)
    assert found.outcome == "measured"
    assert found.client_limited
    assert found.p50_ms == 5.0
    assert (found.best_qps, found.best_requests) == (60, probes[1].requests)
    assert gain_of(0.9 / 1.4) * 120 > 300  # half a core answers 100/s: the whole one, in larger batches, 300 at most
    assert found.capacity_qps == Interval(value=60, low=40, high=300)
    for invalid in (probes[:1], ()):  # no rate held: what it answered in bursts is no capacity
        nothing = answer(CapacityResult("invalid", "spoiled", probes=invalid), saturated_qps=120.0)
        assert despite_neighbours(nothing, 0.01) == nothing
    hopeless = answer(CapacityResult("infeasible", "too slow", probes=probes), saturated_qps=120.0)
    assert despite_neighbours(hopeless, 0.01) == hopeless
