"""The contract that every runner keeps, as tests. Ships with the package, for other people's runners too.

Inherit `RunnerContract` in a test module and fill in its one fixture:

    class TestMyRunner(RunnerContract):
        @pytest.fixture
        def case(self, tmp_path):
            return RunnerCase(MyRunner(), good=..., failing=..., impossible=...)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from runners.protocol import Container, Infeasible, Placement, Recorded, Resources, Runner, RunsHere, ServerFailed

MakeContainer = Callable[[Placement, Path], Container]


@dataclass(frozen=True)
class RunnerCase:
    """A runner, and containers to try it with: one that serves, one whose server fails, and one that cannot run.

    `reachable` says whether something of the container is still there: asked after a launch has ended. `folder` is
    empty and writable. `stays`: the server was there before and must be there afterwards, whatever happened.
    `lost_run` is another process that has launched such a container in that folder, and will be killed; None for a
    runner that starts nothing.
    """

    runner: Runner
    good: MakeContainer
    failing: MakeContainer
    impossible: MakeContainer
    reachable: Callable[[Placement], bool]
    folder: Path
    stays: bool = False
    lost_run: Callable[[Path], AbstractContextManager[Popen[str]]] | None = None


class RunnerContract:
    """What `runners.protocol` promises, held by whatever the fixture `case` gives."""

    @pytest.fixture
    def case(self) -> RunnerCase:
        """Fill this in."""
        raise NotImplementedError

    def test_a_launched_container_is_ready_and_gone_afterwards(self, case: RunnerCase) -> None:
        container = _make(case, case.good)
        with case.runner.launch(container) as endpoint:
            endpoint.check()
            assert endpoint.cold_start_s >= 0
            assert endpoint.image is None or "sha256:" in endpoint.image
            assert endpoint.recorded is not None or case.reachable(container.placement)
        assert case.reachable(container.placement) == case.stays

    def test_an_exception_inside_the_block_leaves_nothing_behind(self, case: RunnerCase) -> None:
        container = _make(case, case.good)
        with pytest.raises(KeyboardInterrupt), case.runner.launch(container):
            raise KeyboardInterrupt
        assert case.reachable(container.placement) == case.stays

    def test_a_launch_that_is_called_off_leaves_nothing_behind(self, case: RunnerCase) -> None:
        def enough() -> None:
            raise KeyboardInterrupt

        container = replace(_make(case, case.good), go_on=enough)
        with pytest.raises(KeyboardInterrupt), case.runner.launch(container) as endpoint:
            enough() if endpoint.recorded is not None else pytest.fail("it started a server without asking to go on")
        assert case.reachable(container.placement) == case.stays

    def test_what_a_dead_run_left_is_removed_and_nothing_else(self, case: RunnerCase) -> None:
        if case.lost_run is None:
            pytest.skip("the case has no other run")
        living = _make(case, case.good, "living")
        (case.folder / "lost").mkdir()
        with case.lost_run(case.folder / "lost") as lost, case.runner.launch(living) as endpoint:
            assert case.runner.remove_leftovers() == []
            lost.kill()
            lost.wait()
            removed = case.runner.remove_leftovers()
            assert [(one.study, one.trial) for one in removed] == [(living.study, str(living.trial))]
            assert case.runner.remove_leftovers() == []
            endpoint.check()

    def test_a_runner_launches_again_and_again(self, case: RunnerCase) -> None:
        for number in range(2):
            container = _make(case, case.good, f"again-{number}")
            with case.runner.launch(container) as endpoint:
                endpoint.check()

    def test_a_server_that_fails_is_said_to_and_leaves_nothing_behind(self, case: RunnerCase) -> None:
        container = _make(case, case.failing)
        with pytest.raises(ServerFailed) as caught, case.runner.launch(container):
            pass
        assert caught.value.reason
        assert case.reachable(container.placement) == case.stays

    def test_what_cannot_run_is_infeasible_with_a_reason(self, case: RunnerCase) -> None:
        container = _make(case, case.impossible)
        with pytest.raises(Infeasible) as caught, case.runner.launch(container):
            pass
        assert str(caught.value)
        assert case.reachable(container.placement) == case.stays

    def test_a_container_that_asks_for_nothing_is_never_refused(self, case: RunnerCase) -> None:
        assert case.runner.refuses(Resources()) is None

    def test_usage_of_an_empty_stretch_is_unknown_and_not_zero(self, case: RunnerCase) -> None:
        with case.runner.launch(_make(case, case.good)) as endpoint:
            now = time.monotonic()
            assert endpoint.usage(now, now).cpu_cores_mean is None

    def test_processes_that_an_endpoint_names_run_on_the_cores_that_it_names(self, case: RunnerCase) -> None:
        with case.runner.launch(_make(case, case.good)) as endpoint:
            named = endpoint.processes if isinstance(endpoint, RunsHere) else None
            if named is not None:
                assert set(named.cores) <= set(range(os.cpu_count() or 1))
                assert named.pids
                assert all(psutil.pid_exists(pid) for pid in named.pids)
        assert named is None or not any(psutil.pid_exists(pid) for pid in named.pids)

    def test_a_recorded_capacity_is_never_zero(self, case: RunnerCase) -> None:
        with case.runner.launch(_make(case, case.good)) as endpoint:
            recorded: Recorded | None = endpoint.recorded
            assert recorded is None or recorded.capacity_qps > 0


def _make(case: RunnerCase, make: MakeContainer, name: str = "trial") -> Container:
    folder = case.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    return make(case.runner.place(folder), folder)
