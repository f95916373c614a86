"""The gate's own measurements: which of them count."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from loadtest import LoadGenerator
from results import Estimate, MachineEffect, MachineRecord, Observations, Rates
from results.gate import GateMeasurement, Setting
from results.machine import TimedWork
from tests.tuner.study.test_final import write
from tuner import load_spec
from tuner.display import Observer
from tuner.launch.runner import make_runner
from tuner.study.opening import request_sources, trial_setup
from tuner.study.remeasure import GateRun
from tuner.trial.findings import Findings
from tuner.trial.setup import TrialJob


@dataclass(frozen=True)
class Limited:
    """Measures capacities one after the other; the load generator is the limit of each. Fixed work takes `work_ms`."""

    capacities: Iterator[float]
    work_ms: float
    launches: bool = False

    def ready(self, *, near: bool) -> AbstractContextManager[LoadGenerator | None]:
        return nullcontext()

    def measure(self, job: TrialJob, generator: LoadGenerator | None) -> Findings:
        machine = MachineRecord(server_cores=1, others_cores=0.0, work_ms=self.work_ms, work_error=0.001)
        capacity = next(self.capacities)
        return Findings(
            "complete",
            rates=Rates(capacity_qps=Estimate(value=capacity, low=0.99 * capacity, high=1.01 * capacity)),
            observations=Observations(bottleneck="client", machine=machine),
        )


class Noticed(Observer):
    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize(
    ("work_ms", "first", "again"),
    [
        (3.0, 80, 1),  # as fast a machine: fewer requests/s may be the generator's doing
        (3.75, 82, 0),  # a machine of four fifths of the speed: the server does as well as it did
        (2.4, 110, 1),  # and on one of five fourths, what looks like more is less
    ],
)
def test_what_the_generator_held_up_is_judged_at_the_baselines_speed_of_the_machine(
    tmp_path: Path, work_ms: float, first: float, again: int
) -> None:
    write(tmp_path, {"a": 100})
    loaded = load_spec(tmp_path / "spec.yaml")
    at_speed = 100 * 3.0 / work_ms
    measurer = Limited(iter([first, *[1.01 * at_speed] * 5]), work_ms)
    setup = trial_setup(loaded, request_sources(loaded), make_runner(loaded), tmp_path, 0)
    baseline = GateMeasurement(
        Estimate(value=100, low=99, high=101), None, 1.0, work=TimedWork(math.log(3.0), 0.0),
        machine=MachineEffect(work_ms=3.0, sensitivity=1.0, doubt=0.0),
    )  # fmt: skip
    display = Noticed()
    GateRun(replace(setup, measurer=measurer), {"name": "a"}, baseline, Setting(), display).measure_and_decide()
    assert len([one for one in display.said if "the load generator was the limit" in one]) == again
