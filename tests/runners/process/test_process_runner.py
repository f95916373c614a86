"""The process runner against real processes that do wrong what real servers do wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from runners import Endpoint, Infeasible, Placement, ProcessRunner, Resources, RunsHere, ServerFailed, remove_leftovers
from runners.readiness import last_words
from runners.testing import RunnerCase, RunnerContract
from tests.runners.support import container, listens, lost_run, marked

pytestmark = pytest.mark.usefixtures("needs_machine")


class TestProcessRunnerContract(RunnerContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> RunnerCase:
        return RunnerCase(
            ProcessRunner(),
            good=container,
            failing=lambda placement, folder: container(placement, folder, "exit"),
            impossible=lambda placement, folder: container(placement, folder, resources=Resources(cpu_cores=4096)),
            reachable=listens,
            folder=tmp_path,
            lost_run=partial(lost_run, "tests.runners.process.test_process_runner"),
        )


@contextlib.contextmanager
def launched(folder: Path) -> Iterator[Endpoint]:
    runner = ProcessRunner()
    with runner.launch(container(runner.place(folder), folder)) as endpoint:
        yield endpoint


def launch_fails(folder: Path, mode: str, **options: object) -> ServerFailed:
    runner = ProcessRunner()
    placement = runner.place(folder)
    with pytest.raises(ServerFailed) as caught, runner.launch(container(placement, folder, mode, **options)):  # type: ignore[arg-type]
        pass
    assert not listens(placement)
    assert not marked()
    return caught.value


def test_a_server_that_exits_at_start_fails_at_once_with_its_last_words(tmp_path: Path) -> None:
    begun = time.monotonic()
    failed = launch_fails(tmp_path, "exit")
    assert time.monotonic() - begun < 5
    assert "exited with code 3" in failed.reason
    assert "no model here" in failed.log_tail


def test_a_launcher_that_passes_on_a_signal_is_told_with_its_name(tmp_path: Path) -> None:
    failed = launch_fails(tmp_path, "ok", command=("sh", "-c", "echo 'error: bad kernel'; exit 139"))
    assert failed.reason == "the server exited with code 139 (SIGSEGV): error: bad kernel"


def test_a_server_that_ends_as_if_it_were_done_is_told_to_keep_running(tmp_path: Path) -> None:
    failed = launch_fails(tmp_path, "ok", command=(sys.executable, "-c", "print('loaded')"))
    assert failed.reason.startswith("the server exited with code 0, as if it had finished; its command has to run")


def test_a_client_that_left_is_not_why_a_server_ended(tmp_path: Path) -> None:
    printed = "OSError: no weights\nTraceback (most recent call last):\nBrokenPipeError: [Errno 32] Broken pipe"
    command = (sys.executable, "-c", f"import sys; sys.exit({printed!r})")
    assert launch_fails(tmp_path, "ok", command=command).reason == "the server exited with code 1: OSError: no weights"


GUNICORN = """\
KeyError: 'FRAUD_API_KEY'
[2026-11-29 00:35:43 +0000] [13688] [INFO] Worker exiting (pid: 13688)
[2026-11-29 00:35:43 +0000] [13687] [ERROR] Worker (pid:13688) exited with code 3.
[2026-11-29 00:35:43 +0000] [13687] [ERROR] Shutting down: Master
[2026-11-29 00:35:43 +0000] [13687] [ERROR] Reason: Worker failed to boot."""
UVICORN = "FileNotFoundError: no model.joblib\n\nERROR:    Application startup failed. Exiting."

MEMORY = "[ERROR] Worker (pid:12) was sent SIGKILL! Perhaps out of memory?"
BOOT = "ERROR: Application startup failed. Exiting."
TRACEBACK = "Traceback (most recent call last):\n  File 'a.py', line 1\nKeyError: 'port'\n"


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        (GUNICORN, "KeyError: 'FRAUD_API_KEY'"),
        (UVICORN, "FileNotFoundError: no model.joblib"),
        ("Worker failed to boot.", "Worker failed to boot."),
        (f"ValueError: retried\n{MEMORY}", MEMORY),
        (f"WARNING ignoring an invalid cache entry\n{BOOT}", BOOT),
        ("Error: retried\n" + "loading\n" * 9 + BOOT, BOOT),
        (TRACEBACK + "  detail\n" * 9 + BOOT, "KeyError: 'port'"),
    ],
)
def test_why_a_launchers_worker_failed_is_said_and_not_that_it_did(tmp_path: Path, printed: str, why: str) -> None:
    command = (sys.executable, "-c", f"import sys; print({printed!r}); sys.exit(3)")
    assert launch_fails(tmp_path, "ok", command=command).reason == f"the server exited with code 3: {why}"


def test_a_long_line_that_says_at_its_end_that_it_is_an_error_is_told() -> None:
    said = last_words(f'{{"message": "no weights in {"x" * 150}", "level": "error"}}')
    assert said.startswith('{"message": "no weights in xxx')
    assert len(said) == 160


def test_a_server_that_never_becomes_ready_fails_with_what_was_seen(tmp_path: Path) -> None:
    failed = launch_fails(tmp_path, "never-ready", timeout_s=1.0)
    assert "not ready within 1 s (service.ready.timeout): /healthz: answered 503 (loading)" in failed.reason


def test_a_server_that_reports_ready_but_cannot_answer_is_not_waited_for_until_the_end(tmp_path: Path) -> None:
    begun = time.monotonic()
    failed = launch_fails(tmp_path, "ready-but-500", timeout_s=60.0)
    assert time.monotonic() - begun < 20
    assert "answered 500" in failed.reason


def test_a_server_that_hangs_fails_when_the_time_is_over(tmp_path: Path) -> None:
    assert "no answer within" in launch_fails(tmp_path, "hang", timeout_s=1.5).reason


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert "no-such-program" in launch_fails(tmp_path, "ok", command=("no-such-program",)).reason


def test_a_file_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x", encoding="utf-8")
    assert "Permission denied" in launch_fails(tmp_path, "ok", command=("./data",)).reason


def test_a_server_that_does_not_listen_where_another_answers_is_found_out(tmp_path: Path) -> None:
    runner = ProcessRunner()
    (tmp_path / "first").mkdir()
    placement = runner.place(tmp_path / "first")
    idle = (sys.executable, "-c", "import time; time.sleep(60)")
    with (
        runner.launch(container(placement, tmp_path / "first")),
        pytest.raises(ServerFailed, match="another process"),
        runner.launch(container(placement, tmp_path, command=idle)),
    ):
        pass
    assert not marked()


def test_where_a_server_listens_instead_is_named(tmp_path: Path) -> None:
    code = "import socket, time; s = socket.create_server(('127.0.0.2', 0)); time.sleep(60)"
    failed = launch_fails(tmp_path, "ok", command=(sys.executable, "-c", code), timeout_s=1.5)
    assert "it listens on 127.0.0.2:" in failed.reason
    assert "if it still loads, lengthen service.ready.timeout; if it serves there, pass it {host}" in failed.reason
    runner = ProcessRunner()
    placement = runner.place(tmp_path)
    own = (sys.executable, "-c", code.replace("', 0)", f"', {placement.port})"))
    said = rf"it listens on 127\.0\.0\.2:{placement.port}, and not on [0-9.:]+: pass it \{{host\}} and \{{port\}}$"
    with (
        pytest.raises(ServerFailed, match=said),
        runner.launch(container(placement, tmp_path, command=own, timeout_s=1.5)),
    ):
        pass


@pytest.mark.parametrize("mode", ["ignore-sigterm", "orphan-child", "daemon"])
def test_whatever_a_server_does_with_sigterm_nothing_of_it_stays(tmp_path: Path, mode: str) -> None:
    runner = ProcessRunner()
    placement = runner.place(tmp_path)
    with runner.launch(container(placement, tmp_path, mode)) as endpoint:
        endpoint.check()
        assert marked()
    assert not marked()
    assert not listens(placement)


def test_a_well_behaved_server_is_stopped_at_once(tmp_path: Path) -> None:
    runner = ProcessRunner()
    with runner.launch(container(runner.place(tmp_path), tmp_path)):
        pass
    begun = time.monotonic()
    with runner.launch(container(runner.place(tmp_path), tmp_path)):
        begun = time.monotonic()
    assert time.monotonic() - begun < 0.28  # below the grace period: it was not killed


def test_a_server_that_dies_later_is_noticed_with_the_signal(tmp_path: Path) -> None:
    runner = ProcessRunner()
    with runner.launch(container(runner.place(tmp_path), tmp_path)) as endpoint:
        (leader,) = [process for process in marked() if "misbehaving" in " ".join(process.cmdline())]
        leader.send_signal(signal.SIGKILL)
        while leader.is_running() and leader.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        with pytest.raises(ServerFailed, match="was ended by SIGKILL"):
            endpoint.check()


def _eat_until_noticed(endpoint: Endpoint) -> None:
    for _ in range(200):
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"{endpoint.url}/predict", content=b"{}", trust_env=False)
        endpoint.check()


def test_memory_beyond_the_limit_is_infeasible_and_ended(tmp_path: Path) -> None:
    runner = ProcessRunner()
    limited = Resources(memory_bytes=100 * 2**20)
    placement = runner.place(tmp_path)
    hungry = container(placement, tmp_path, "eat-memory", resources=limited)
    with runner.launch(hungry) as endpoint, pytest.raises(Infeasible, match=r"out of memory: used .* of 100 MiB"):
        _eat_until_noticed(endpoint)
    assert not marked()


def test_the_server_runs_on_its_cores_and_the_client_is_offered_the_others(tmp_path: Path) -> None:
    runner = ProcessRunner()
    here = os.sched_getaffinity(0)
    one = container(runner.place(tmp_path), tmp_path, resources=Resources(cpu_cores=1))
    with runner.launch(one) as endpoint:
        (leader,) = marked()
        cores = set(leader.cpu_affinity())
        assert len(cores) == 1
        assert set(endpoint.client_cores) == (here - cores or here)
        assert endpoint.shares_cores == (len(here) == 1)
        assert isinstance(endpoint, RunsHere)
        assert endpoint.processes is not None
        assert set(endpoint.processes.cores) == cores
        assert endpoint.processes.pids == (leader.pid,)
        assert endpoint.processes.environ.items() <= leader.environ().items()
    assert os.sched_getaffinity(0) == here


@pytest.mark.parametrize(
    ("resources", "why"),
    [
        (Resources(cpu_cores=4096), "asks for 4096 CPU cores, and there are"),
        (Resources(cpu_cores=0.5), "whole cores only"),
        (Resources(memory_bytes=2**60), "of memory, and there are"),
    ],
)
def test_what_this_machine_cannot_give_is_refused_before_launch(resources: Resources, why: str) -> None:
    assert why in str(ProcessRunner().refuses(resources))


def test_rendered_files_lie_in_the_trial_folder_and_nowhere_else(tmp_path: Path) -> None:
    runner = ProcessRunner()
    placement = runner.place(tmp_path)
    with runner.launch(container(placement, tmp_path, files={"conf/a.ini": "x=1"})):
        assert (Path(placement.files) / "conf" / "a.ini").read_text(encoding="utf-8") == "x=1"
    for name in ("../outside", "/tmp/outside"):
        assert "outside the trial's folder" in launch_fails(tmp_path, "ok", files={name: "x"}).reason


def test_temporary_files_of_a_killed_server_are_removed(tmp_path: Path) -> None:
    runner = ProcessRunner()
    with runner.launch(container(runner.place(tmp_path), tmp_path, "ignore-sigterm")):
        (leader,) = marked()
        temporary = Path(leader.environ()["TMPDIR"])
        (temporary / "left").write_text("x", encoding="utf-8")
    assert not temporary.exists()


def test_log_and_usage_are_kept(tmp_path: Path) -> None:
    runner = ProcessRunner()
    with runner.launch(container(runner.place(tmp_path), tmp_path)) as endpoint:
        begun = time.monotonic()
        time.sleep(1.0)
        usage = endpoint.usage(begun, time.monotonic())
        assert usage.memory_peak_bytes is not None
        assert usage.memory_peak_bytes > 2**20
        assert usage.cpu_cores_mean is not None
        assert usage.cpu_cores_mean < 0.5
    assert "listening on" in (tmp_path / "server.log").read_text(encoding="utf-8")
    assert len((tmp_path / "usage.csv").read_text(encoding="utf-8").splitlines()) > 3


def test_ports_of_containers_placed_at_the_same_time_differ(tmp_path: Path) -> None:
    runner = ProcessRunner()
    assert len({runner.place(tmp_path).port for _ in range(50)}) == 50


OWNER_SCRIPT = """
import sys
from pathlib import Path
from runners import ProcessRunner
from tests.runners.support import container, listens, marked
folder, runner = Path(sys.argv[1]), ProcessRunner()
placement = runner.place(folder)
with runner.launch(container(placement, folder, sys.argv[2])):
    print(placement.port, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("mode", ["ok", "ignore-sigterm", "daemon"])
def test_what_a_killed_run_left_is_removed_and_a_living_one_is_spared(tmp_path: Path, mode: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    owners = [
        subprocess.Popen(
            [sys.executable, "-c", OWNER_SCRIPT, str(tmp_path / name), mode],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in ("a", "b")
    ]
    try:
        placements = [Placement("127.0.0.1", int(owner.stdout.readline()), "") for owner in owners if owner.stdout]
        owners[0].kill()
        owners[0].wait()
        assert listens(placements[0])
        removed = remove_leftovers()
        assert removed
        assert {leftover.study for leftover in removed} == {"tests"}
        assert not listens(placements[0])
        assert listens(placements[1])
        assert remove_leftovers() == []
    finally:
        for owner in owners:
            owner.communicate()
    assert not listens(placements[1])
    assert not list((tmp_path / "state" / "tune" / "leases").iterdir())
