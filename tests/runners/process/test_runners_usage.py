"""What a server used, and what its cgroups allow it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from runners import ProcessRunner, Resources
from runners.host.cgroup import Cgroups
from runners.host.cpu_meter import CpuMeter
from runners.host.process_table import Entry, read_all
from runners.leftovers.process_tree import ProcessTree
from runners.process.usage import _MachineMemory
from tests.runners.support import container


def entry(pid: int, parent: int, cpu_s: float, reaped_cpu_s: float = 0.0) -> Entry:
    return Entry(pid, parent, 10, 1, ended=False, cpu_s=cpu_s, reaped_cpu_s=reaped_cpu_s, memory_bytes=0)


@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_cpu_time_of_children_that_are_never_seen_is_counted(tmp_path: Path) -> None:
    runner = ProcessRunner()
    working = container(runner.place(tmp_path), tmp_path, "children-at-work", resources=Resources(cpu_cores=1))
    with runner.launch(working) as endpoint:
        begun = time.monotonic()
        time.sleep(2.0)
        used = endpoint.usage(begun, time.monotonic()).cpu_cores_mean
    assert used is not None
    assert 0.3 < used < 1.15


def test_a_child_that_was_waited_for_is_not_counted_twice() -> None:
    meter = CpuMeter()
    assert meter.read([entry(10, 1, 1.0), entry(11, 10, 2.0)]) == 3.0
    assert meter.read([entry(10, 1, 1.0, reaped_cpu_s=2.5)]) == 3.5


def test_a_child_that_nobody_waited_for_is_not_lost() -> None:
    meter = CpuMeter()
    meter.read([entry(10, 1, 1.0), entry(11, 10, 2.0), entry(12, 1, 4.0)])
    assert meter.read([entry(10, 1, 1.5)]) == 7.5


@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_a_short_stretch_between_two_samples_is_measured(tmp_path: Path) -> None:
    runner = ProcessRunner()
    with runner.launch(container(runner.place(tmp_path), tmp_path)) as endpoint:
        begun = time.monotonic()
        while (usage := endpoint.usage(begun + 0.25, begun + 0.3)).cpu_cores_mean is None:
            assert time.monotonic() < begun + 20  # samples are further apart where a look at all processes takes long
            time.sleep(0.05)
        assert usage.memory_peak_bytes is not None
        assert endpoint.usage(begun + 1e6, begun + 2e6).cpu_cores_mean is None


@pytest.mark.usefixtures("needs_machine")
def test_a_glance_is_at_known_processes_alone_and_leaves_out_those_that_are_gone() -> None:
    tree = ProcessTree({})
    program = "import subprocess, sys; sys.stdin.readline(); subprocess.run(['sleep', '60'])"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        tree.led_by(process.pid)
        assert [one.pid for one in tree.look()] == [process.pid]
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        end = time.monotonic() + 20
        while len(children_of(process.pid)) == 0 and time.monotonic() < end:
            time.sleep(0.01)
        assert [one.pid for one in tree.glance()] == [process.pid]
        both = {one.pid for one in tree.look()}
        assert len(both) == 2
        assert {one.pid for one in tree.glance()} == both
        tree.kill()
        process.wait()
        assert process.pid not in {one.pid for one in tree.glance()}


def children_of(pid: int) -> list[int]:
    return [entry.pid for entry in read_all().values() if entry.parent == pid]


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="ascii")


def test_limits_of_version_2_hold_from_the_own_group_up(tmp_path: Path) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "membership"
    membership.write_text("0::/slice/unit\n", encoding="ascii")
    write(root / "slice", cpu__max="150000 100000\n", memory__max="1000000\n", memory__current="600000\n",
          memory__stat="inactive_file 100000\n")  # fmt: skip
    write(root / "slice" / "unit", cpu__max="max 100000\n", memory__max="max\n", memory__events="low 0\noom_kill 3\n")
    cgroups = Cgroups(root, membership, tmp_path / "none")
    assert cgroups.cpu_quota() == 1.5
    assert cgroups.memory_limit_bytes() == 1_000_000
    assert cgroups.memory_free_bytes() == 500_000
    assert cgroups.oom_kills() == 3


@pytest.mark.parametrize("place", ["/docker/abc", "/not/below/this/mount"])
def test_limits_of_version_1_are_read_with_and_without_the_path_that_proc_names(tmp_path: Path, place: str) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "membership"
    membership.write_text(f"4:memory:{place}\n1:cpu,cpuacct:{place}\n0::/\n", encoding="ascii")
    own = "docker/abc" if "docker" in place else ""
    write(root / "cpu" / own, cpu__cfs_quota_us="50000\n", cpu__cfs_period_us="100000\n")
    write(root / "memory" / own, memory__limit_in_bytes="2000\n", memory__usage_in_bytes="500\n",
          memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")  # fmt: skip
    (root / "unified").mkdir()
    cgroups = Cgroups(root, membership, tmp_path / "none")
    assert cgroups.cpu_quota() == 0.5
    assert cgroups.memory_limit_bytes() == 2000
    assert cgroups.memory_free_bytes() == 1500
    assert cgroups.oom_kills() == 1


def test_no_limit_is_none_and_kills_of_the_whole_machine_are_counted_instead(tmp_path: Path) -> None:
    write(tmp_path / "memory", memory__limit_in_bytes="9223372036854771712\n")
    write(tmp_path / "cpu", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    (tmp_path / "vmstat").write_text("pgfault 5\noom_kill 2\n", encoding="ascii")
    cgroups = Cgroups(tmp_path, tmp_path / "none", tmp_path / "vmstat")
    assert (cgroups.cpu_quota(), cgroups.memory_limit_bytes(), cgroups.memory_free_bytes()) == (None, None, None)
    assert cgroups.oom_kills() == 2


def test_what_is_kept_free_is_a_share_of_what_a_container_may_have(tmp_path: Path) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "membership"
    root.mkdir()
    membership.write_text("0::/\n", encoding="utf-8")
    (root / "memory.max").write_text(f"{1 << 30}\n", encoding="utf-8")
    (root / "memory.current").write_text(f"{1 << 29}\n", encoding="utf-8")
    memory = _MachineMemory(Cgroups(root, membership, tmp_path / "vmstat"))
    assert memory.floor_bytes == 256 * 2**20, "of a machine with 512 GiB 3% are more than all that there is"
    assert memory.free_bytes() <= 1 << 29
