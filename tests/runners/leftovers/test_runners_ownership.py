"""What belongs to whom: a clean-up removes what dead runs left, and nothing else, whatever it finds."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from runners import ProcessRunner, RunnerUnavailable, ownership_environment, remove_leftovers
from runners.leftovers.ownership import LAUNCH, OWNER, STATE, lease, leases, state_folder, this_owner, this_place
from tests.runners.support import container, listens

DEAD = "4194304-1"  # beyond the greatest process id that Linux gives


@contextlib.contextmanager
def sleeper(marks: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], env=os.environ | marks, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("needs_machine")
def test_a_process_of_a_dead_owner_is_removed_and_named(tmp_path: Path) -> None:
    with sleeper(ownership_environment("lost", 3) | {OWNER: DEAD}) as left:
        assert [str(one) for one in remove_leftovers()] == [f"process {left.pid} of trial 3 of lost"]
        assert left.wait(timeout=5) == -signal.SIGTERM


@pytest.mark.usefixtures("needs_machine")
@pytest.mark.parametrize(
    "different",
    [
        {STATE: "/somewhere/else/tune"},
        {OWNER: "4194304-1732145521.25"},
        {OWNER: "of another kind"},
        {OWNER: this_owner()},
    ],
    ids=["another state folder", "an older form of owner", "an unknown form of owner", "a living owner"],
)
def test_what_is_not_surely_ours_and_dead_is_spared(different: dict[str, str]) -> None:
    with sleeper(ownership_environment("spared", 1) | {OWNER: DEAD, STATE: str(state_folder())} | different) as other:
        assert remove_leftovers() == []
        assert other.poll() is None


@pytest.mark.usefixtures("needs_machine")
@pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace of one's own needs root")
def test_a_run_in_another_pid_namespace_is_spared(tmp_path: Path) -> None:
    script = (
        "import os, subprocess; from runners import ownership_environment\n"
        "child = subprocess.Popen(['sleep', '30'], env=os.environ | ownership_environment('inside', 1))\n"
        "print('up', flush=True); child.wait()"
    )
    inside = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", script],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert inside.stdout is not None
        assert inside.stdout.readline() == "up\n"
        sleepers = [one for one in psutil.Process(inside.pid).children(recursive=True) if one.name() == "sleep"]
        assert remove_leftovers() == []
        assert [one.is_running() for one in sleepers] == [True]
    finally:
        inside.kill()
        inside.communicate()


def test_a_lease_that_cannot_be_read_yet_is_left_to_its_owner_for_a_day(tmp_path: Path) -> None:
    folder = state_folder() / "leases"
    folder.mkdir(parents=True)
    young, old = folder / "young.json", folder / "old.json"
    young.write_text("", encoding="utf-8")
    old.write_text("{", encoding="utf-8")
    os.utime(old, (time.time() - 100_000,) * 2)
    assert remove_leftovers() == []
    assert young.exists()
    assert not old.exists()
    young.unlink()


def test_nobody_waits_for_what_is_no_lease(tmp_path: Path) -> None:
    folder = state_folder() / "leases"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "pipe.json")
    (folder / "device.json").symlink_to("/dev/zero")
    (folder / "folder.json").mkdir()
    (folder / "nested.json").write_text("[" * 100_000, encoding="utf-8")
    (folder / "huge.json").write_bytes(b"")
    os.truncate(folder / "huge.json", 1 << 33)
    begun = time.monotonic()
    assert remove_leftovers() == []
    assert time.monotonic() - begun < 8  # a pipe that is read takes ten seconds
    shutil.rmtree(folder)


def test_leases_of_another_machine_stay_and_those_from_before_the_last_boot_go(tmp_path: Path) -> None:
    node, _, space = this_place().split("/", 2)
    with lease("tests", 1, tmp_path / "tune-none") as held:
        text = held.path.read_text(encoding="utf-8").replace(held.lease.owner, DEAD)
        foreign, stale = held.path.with_name("foreign.json"), held.path.with_name("stale.json")
        foreign.write_text(text.replace(this_place(), f"elsewhere/boot/{space}"), encoding="utf-8")
        stale.write_text(text.replace(this_place(), f"{node}/earlier-boot/{space}"), encoding="utf-8")
        remove_leftovers()
        assert {one.path for one in leases()} == {held.path, foreign}
        foreign.unlink()


def test_a_lease_whose_writer_was_killed_meanwhile_goes_with_its_folder(tmp_path: Path) -> None:
    temporary = tmp_path / "tune-0123"
    with lease("tests", 1, temporary) as held:
        temporary.mkdir()
        partial = held.path.with_suffix(".partial")
        partial.write_text(held.path.read_text(encoding="utf-8").replace(held.lease.owner, DEAD), encoding="utf-8")
        held.path.unlink()
        assert remove_leftovers() == []
        assert not partial.exists()
        assert not temporary.exists()


@pytest.mark.usefixtures("needs_machine")
def test_a_server_that_hides_its_marks_is_found_by_its_lease(tmp_path: Path) -> None:
    with sleeper({}) as left, lease("hidden", 2, tmp_path / "tune-none") as held:
        held.name_session(left.pid)
        content = held.path.read_text(encoding="utf-8")
        held.path.write_text(content.replace(held.lease.owner, DEAD), encoding="utf-8")
        assert [one.what for one in remove_leftovers()] == [f"process {left.pid}"]
        assert leases() == []


@pytest.mark.usefixtures("needs_machine")
def test_a_session_number_given_to_another_process_is_spared(tmp_path: Path) -> None:
    with sleeper({}) as other, lease("reused", 2, tmp_path / "tune-none") as held:
        held.name_session(other.pid)
        content = leases()[0].lease.model_copy(update={"owner": DEAD, "session_started": 1})
        held.path.write_text(content.model_dump_json(), encoding="utf-8")
        assert remove_leftovers() == []
        assert other.poll() is None


def test_without_a_place_for_leases_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    runner = ProcessRunner()
    placement = runner.place(tmp_path)
    with pytest.raises(RunnerUnavailable, match="set XDG_STATE_HOME"), runner.launch(container(placement, tmp_path)):
        pass
    assert not listens(placement)


def test_every_launch_has_its_own_mark() -> None:
    assert ownership_environment("a", 1)[LAUNCH] != ownership_environment("a", 1)[LAUNCH]
