"""Rarer things that real servers do, and what an impatient user does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runners import Placement, ProcessRunner, Resources, ServerFailed
from runners.host.machine import usable_cores
from runners.host.ports import candidates
from runners.host.process_table import read
from tests.runners.support import container, listens, marked

pytestmark = pytest.mark.usefixtures("needs_machine")


def launch_fails(folder: Path, mode: str, **options: object) -> tuple[str, float]:
    runner = ProcessRunner()
    begun = time.monotonic()
    made = container(runner.place(folder), folder, mode, **options)  # type: ignore[arg-type]
    with pytest.raises(ServerFailed) as caught, runner.launch(made):
        pass
    assert not marked()
    return caught.value.reason, time.monotonic() - begun


def test_an_answer_that_trickles_in_does_not_outlast_the_timeout(tmp_path: Path) -> None:
    reason, seconds = launch_fails(tmp_path, "trickle", timeout_s=1.0)
    assert "no answer within" in reason
    assert seconds < 3


def test_a_server_whose_leader_dies_fails_though_its_children_hold_the_request(tmp_path: Path) -> None:
    reason, seconds = launch_fails(tmp_path, "lose-parent", timeout_s=60.0)
    assert "exited with code 5" in reason
    assert seconds < 10


def test_a_folder_that_is_not_there_is_not_taken_for_a_missing_program(tmp_path: Path) -> None:
    runner = ProcessRunner()
    made = container(runner.place(tmp_path), tmp_path)
    elsewhere = type(made)(**{**vars(made), "workdir": tmp_path / "none"})
    with pytest.raises(ServerFailed, match="there is no folder"), runner.launch(elsewhere):
        pass


def test_a_server_that_is_healthy_late_is_waited_for_and_its_cold_start_is_timed(tmp_path: Path) -> None:
    runner = ProcessRunner()
    with runner.launch(container(runner.place(tmp_path), tmp_path, "late-health")) as endpoint:
        assert 1.0 <= endpoint.cold_start_s < 5


def test_processes_that_keep_starting_others_are_all_ended(tmp_path: Path) -> None:
    runner = ProcessRunner()
    with runner.launch(container(runner.place(tmp_path), tmp_path, "fork-storm")):
        time.sleep(0.5)
        assert len(marked()) > 3
    assert not marked()
    time.sleep(0.3)
    assert not marked()


def test_servers_at_the_same_time_get_different_cores(tmp_path: Path) -> None:
    if len(usable_cores()) < 2:
        pytest.skip("one core can only be shared")
    runner, one_core = ProcessRunner(), Resources(cpu_cores=1)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    made = [container(runner.place(folder), folder, resources=one_core) for folder in folders]
    with runner.launch(made[0]), runner.launch(made[1]):
        first, second = (set(process.cpu_affinity()) for process in marked())
        assert not first & second


INTERRUPTED = """
import signal
import sys
from pathlib import Path
import runners.process.runner
from runners import ProcessRunner
from tests.runners.support import container
runners.process.runner._GRACE_S = 30.0
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell without job control starts its jobs without
folder, runner = Path(sys.argv[1]), ProcessRunner()
placement = runner.place(folder)
with runner.launch(container(placement, folder, "ignore-sigterm")):
    print(placement.port, flush=True)
    sys.stdin.read()
"""


def test_a_second_interrupt_while_stopping_cuts_the_grace_and_leaves_nothing(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert owner.stdout is not None
    placement = Placement("127.0.0.1", int(owner.stdout.readline()), "")
    time.sleep(0.3)  # it waits in its block then: an interrupt that hits a finaliser is lost in Python
    owner.send_signal(signal.SIGINT)
    until = time.monotonic() + 10
    while not (tmp_path / "usage.csv").exists() and time.monotonic() < until:  # it is written before the grace begins
        time.sleep(0.05)
    assert (tmp_path / "usage.csv").exists(), "the first interrupt ended the block"
    time.sleep(0.5)
    assert listens(placement)
    begun = time.monotonic()
    owner.send_signal(signal.SIGINT)
    owner.communicate(timeout=20)
    assert time.monotonic() - begun < 10
    assert not listens(placement)


def test_a_port_is_found_even_where_outgoing_connections_may_take_any() -> None:
    usual, outside, everything = candidates(32_768, 60_999)
    assert usual
    assert not set(usual) & set(range(32_768, 61_000))
    assert set(usual) <= set(outside) <= set(everything)
    assert candidates(1_024, 65_535)[:2] == [[], []]
    assert candidates(1_024, 65_535)[2]


def test_a_process_name_cannot_confuse_the_process_table(tmp_path: Path) -> None:
    strange = tmp_path / "a) R 1 (b"
    strange.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(strange), "30"])
    try:
        entry = read(process.pid)
        assert entry is not None
        assert not entry.ended
        process.kill()
        while not (entry := read(process.pid)) or not entry.ended:
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert read(process.pid) is None
