"""What the search takes a trial to have shown, and how sure of that it is."""

import math
from typing import Any

import numpy as np

from results import Estimate, TrialRecord
from search_spaces import Parameter, SearchSpace
from tuner.search.surrogate.features import Trials
from tuner.search.surrogate.space import trials_of

SPACE = SearchSpace((Parameter("cores", (1, 2, 4), "cpu_cores"),))
MEASURED = 0.02  # of a log capacity, by its own interval


def _record(place: int, qps: float, error: float = MEASURED, **known: object) -> TrialRecord:
    interval = Estimate(value=qps, low=qps * math.exp(-1.96 * error), high=qps * math.exp(1.96 * error))
    fields = {"number": 0, "state": "complete", "configuration": {"cores": (1, 2, 4)[place]}, "capacity_qps": interval}
    return TrialRecord.model_validate(fields | known)


def _trials(*records: TrialRecord) -> Trials:
    return trials_of(records, lambda one: (1, 2, 4).index(one.configuration["cores"]), SPACE, 50.0)


def test_repeated_launches_tell_how_far_launches_are_apart() -> None:
    alike = _trials(*[_record(0, 40)] * 4, _record(1, 70)).error
    apart = _trials(*(_record(0, qps) for qps in (36, 44) * 2), _record(1, 70)).error
    np.testing.assert_allclose(alike, MEASURED)
    np.testing.assert_allclose(apart, math.hypot(MEASURED, math.log(44 / 36) / math.sqrt(3)))


def test_what_is_exact_stays_exact() -> None:
    assert _trials(_record(0, 40, 0.0), _record(1, 70, 0.0)).error.tolist() == [0.0, 0.0]


def test_of_a_disturbed_launch_the_middle_of_its_interval_counts() -> None:
    machine = {"server_cores": 1, "others_cores": 0.5, "disturbed": "others used 0.5 cores"}
    wide: dict[str, Any] = {"capacity_qps": {"value": 40, "low": 36, "high": 100}}
    disturbed = _trials(_record(0, 40, **wide, machine=machine))
    assert disturbed.log_capacity[0] == math.log(36 * 100) / 2
    assert _trials(_record(0, 40, **wide)).log_capacity[0] == math.log(40)
