"""Servers that commands start, find and end: whatever happens, `down` is run."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from runners import Container, Infeasible, Placement, RunnerUnavailable, SampleRequest, ServerFailed
from runners.command import CommandRunner, Commands, CommandTimes, remove_commands
from runners.testing import RunnerCase, RunnerContract
from tests.runners.support import container, listens, lost_run

pytestmark = pytest.mark.usefixtures("needs_machine")
SCHEDULER = Path(__file__).parent.parent.parent / "servers" / "scheduler.py"


TIMES = CommandTimes(20.0, 10.0)


def runner(
    up: tuple[str, ...] = (), url: str | tuple[str, ...] = (), down: tuple[str, ...] = (),
    times: CommandTimes = TIMES,
) -> CommandRunner:  # fmt: skip
    """The tiny scheduler; the words are added to its commands, a text of a URL is taken as it is."""

    def render(launched: Container, launch_id: str) -> Commands:
        def words(verb: str, more: tuple[str, ...]) -> tuple[str, ...]:
            return (sys.executable, str(SCHEDULER), verb, launch_id, "--folder", str(launched.folder), *more)

        port, mode = str(launched.placement.port), str(launched.parameters["mode"])
        return Commands(
            words("up", ("--port", port, "--mode", mode, *up)),
            f"http://127.0.0.1:{port}{url}" if isinstance(url, str) else words("url", url),
            words("down", down),
        )

    return CommandRunner(render, times)


def cannot(placement: Placement, folder: Path) -> Container:
    """It runs, and says when it is told so that it cannot."""

    def prepare(_url: str, _container: Container) -> SampleRequest | None:
        raise Infeasible("out of memory, it answered")

    return replace(container(placement, folder), prepare=prepare)


class TestCommandRunnerContract(RunnerContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> RunnerCase:
        return RunnerCase(
            runner(),
            good=container,
            failing=lambda placement, folder: container(placement, folder, "exit", timeout_s=1.0),
            impossible=cannot,
            reachable=listens,
            folder=tmp_path,
            lost_run=partial(lost_run, "tests.runners.command.lost"),
        )


def launch_fails(folder: Path, made: CommandRunner, **options: float) -> tuple[str, str]:
    """The reason, and the log."""
    placement = made.place(folder)
    with pytest.raises(ServerFailed) as caught, made.launch(container(placement, folder, **options)):  # type: ignore[arg-type]
        pass
    assert not listens(placement)
    assert not list((folder / "state" / "tune" / "commands").glob("*"))
    return caught.value.reason, (folder / "server.log").read_text(encoding="utf-8")


def test_a_job_that_waits_in_a_queue_is_asked_for_until_it_has_an_address(tmp_path: Path) -> None:
    made = runner(url=("--wait", "1.5"))
    with made.launch(container(made.place(tmp_path), tmp_path)) as endpoint:
        assert endpoint.cold_start_s > 1.5
        assert "was not checked" in endpoint.notes[0]
    log = (tmp_path / "server.log").read_text(encoding="utf-8")
    assert log.index("# up: ") < log.index("up of tests-7-") < log.index("# url: ") < log.index("# down: ")


def test_an_address_that_never_comes_ends_with_the_time_for_up(tmp_path: Path) -> None:
    reason, _ = launch_fails(tmp_path, runner(url=("--wait", "60"), times=CommandTimes(1.0, 10.0)))
    assert reason == "url printed nothing until the time for up was over"


def test_an_up_that_fails_is_a_failure_with_its_code_and_output_and_is_taken_down(tmp_path: Path) -> None:
    reason, log = launch_fails(tmp_path, runner(up=("--code", "3")))
    assert reason == "up ended with code 3"
    assert "# down: " in log


def test_an_up_that_takes_too_long_is_ended_and_taken_down(tmp_path: Path) -> None:
    begun = time.monotonic()
    reason, _ = launch_fails(tmp_path, runner(up=("--slow-s", "60"), times=CommandTimes(1.0, 10.0)))
    assert reason == "up did not end within 1 s"
    assert time.monotonic() - begun < 10


def test_an_address_with_a_path_is_refused(tmp_path: Path) -> None:
    assert "write that in request.path" in launch_fails(tmp_path, runner(url="/v1"))[0]


def test_a_down_that_fails_stops_everything_and_is_kept_for_clean(tmp_path: Path) -> None:
    made = runner(down=("--code", "1"))
    placement = made.place(tmp_path)
    with pytest.raises(RunnerUnavailable, match=r"down ended with code 1.*may still run"):  # noqa: SIM117
        with made.launch(container(placement, tmp_path)):
            pass
    [kept] = (tmp_path / "state" / "tune" / "commands").iterdir()
    kept.unlink()
    assert (tmp_path / "server.log").read_text(encoding="utf-8").count("# down: ") == 2


def test_an_interrupt_while_down_runs_does_not_keep_it_from_its_end(tmp_path: Path) -> None:
    made = runner(down=("--slow-s", "0.5"))
    placement = made.place(tmp_path)
    with pytest.raises(KeyboardInterrupt), made.launch(container(placement, tmp_path)):
        signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        signal.setitimer(signal.ITIMER_REAL, 0.3)
    assert not listens(placement)
    assert not list((tmp_path / "state" / "tune" / "commands").glob("*"))


@pytest.fixture
def launched_elsewhere(tmp_path: Path) -> Iterator[Placement]:
    """A run was killed while its server ran."""
    with lost_run("tests.runners.command.lost", tmp_path) as lost:
        lost.send_signal(signal.SIGKILL)
        lost.wait()
        port = int((tmp_path / "port").read_text(encoding="ascii"))
        yield Placement("127.0.0.1", port, "")


def test_what_a_killed_run_left_is_taken_down_by_the_next_one(tmp_path: Path, launched_elsewhere: Placement) -> None:
    assert listens(launched_elsewhere)
    removed, stuck = remove_commands()
    assert [str(one) for one in removed] == ["what the command down ended of trial 7 of tests"]
    assert stuck == []
    assert not listens(launched_elsewhere)
    assert remove_commands() == ([], [])


def test_a_living_runs_server_is_left_alone(tmp_path: Path) -> None:
    made = runner()
    placement = made.place(tmp_path)
    with made.launch(container(placement, tmp_path)):
        assert made.remove_leftovers() == []
        assert listens(placement)
    assert not list((tmp_path / "state" / "tune" / "commands").iterdir())
