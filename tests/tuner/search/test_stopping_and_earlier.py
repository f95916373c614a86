"""When the search stops by itself, and what it can learn from before it starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results import (
    Estimate,
    Timing,
    TrialRecord,
)
from tuner.errors import UsageError
from tuner.search.objective import Objective
from tuner.search.stopping import MIN_TRIALS, why_stop
from tuner.spec.reading import LoadedSpec, load_spec
from tuner.study.warm_start import read_warm_start

COST = Objective(("cost_per_million_requests",))


def trial(number: int, price: float | None = 0.1) -> TrialRecord:
    return TrialRecord(
        number=number, state="complete", configuration={}, timing=Timing(wall_s=60.0), cost_per_hour=price,
        cost_per_million_requests=None if price is None else 1.0, capacity_qps=Estimate(value=10, low=9, high=11),
    )  # fmt: skip


def test_it_stops_when_a_trial_costs_more_than_it_saves() -> None:
    records = [trial(number) for number in range(MIN_TRIALS)]
    # 0.05 an hour is 36 a month, of which 0.6% is 0.219; a minute of waiting at 20 an hour is 0.33.
    cheap = [trial(number, price=0.05) for number in range(MIN_TRIALS)]
    reason = why_stop(0.006, COST, cheap[0], cheap, "USD")
    assert reason is not None
    assert "0.60%" in reason
    assert "$0.219 a month; it would cost $0.334" in reason
    assert why_stop(0.006, COST, records[0], records, "USD") is None


def test_it_does_not_stop_before_it_has_seen_anything() -> None:
    records = [trial(number) for number in range(MIN_TRIALS - 1)]
    assert why_stop(0.0, COST, records[0], records, "USD") is None


def test_a_dear_service_is_worth_more_trials() -> None:
    records = [trial(number, price=30.0) for number in range(MIN_TRIALS)]
    assert why_stop(0.006, COST, records[0], records, "USD") is None
    reason = why_stop(0.004, COST, records[0], records, "USD")
    assert reason is not None
    assert "less than 0.5%" in reason


def test_without_prices_the_share_decides() -> None:
    records = [trial(number, price=None) for number in range(MIN_TRIALS)]
    objective = Objective(("capacity_qps",))
    assert why_stop(0.004, objective, records[0], records, "USD") is not None
    assert why_stop(0.006, objective, records[0], records, "USD") is None


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedSpec:
    (tmp_path / "table.csv").write_text("batch_size,workers,capacity_qps\n1,1,10\n")
    (tmp_path / "spec.yaml").write_text(
        "version: 1\nservice: {name: x}\nslo: {p99: 100ms}\n"
        "space: {parameters: {batch_size: {choices: [1, 8]}, workers: {choices: [1, 2]}}}\n"
        "current: {batch_size: 8, workers: 1}\nprices: {cpu_core_hour: 0.04}\n"
        "runner: {type: replay, table: table.csv}\n"
    )
    return load_spec(tmp_path / "spec.yaml")


def test_model_analyzers_table_gives_a_capacity_per_configuration(tmp_path: Path, loaded: LoadedSpec) -> None:
    path = tmp_path / "metrics-model-inference.csv"
    path.write_text(
        "Model,Batch,Concurrency,Model Config Path,Instance Group,Max Batch Size,Satisfies Constraints,"
        "Throughput (infer/sec),p99 Latency (ms)\n"
        "add_sub,1,1,add_sub_config_2,2:GPU,8,Yes,500.0,20.0\n"
        "add_sub,1,8,add_sub_config_2,2:GPU,8,Yes,900.0,90.0\n"
        "add_sub,1,64,add_sub_config_2,2:GPU,8,No,1500.0,250.0\n"
    )
    (found,) = read_warm_start(path, loaded).records
    assert found.configuration == {"batch_size": 8, "workers": 2}
    assert found.capacity_qps is not None
    assert found.capacity_qps.value == 900.0


def test_guidellms_result_is_that_of_the_current_configuration(tmp_path: Path, loaded: LoadedSpec) -> None:
    def benchmark(rate: float, p99_s: float) -> dict[str, object]:
        return {"metrics": {
            "requests_per_second": {"successful": {"mean": rate}},
            "request_latency": {"successful": {"percentiles": {"p99": p99_s}}},
        }}  # fmt: skip

    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps({"benchmarks": [benchmark(5, 0.05), benchmark(9, 0.09), benchmark(12, 0.3)]}))
    (found,) = read_warm_start(path, loaded).records
    assert found.configuration == {"batch_size": 8, "workers": 1}
    assert found.capacity_qps is not None
    assert found.capacity_qps.value == 9.0


def test_aiperfs_result_too(tmp_path: Path, loaded: LoadedSpec) -> None:
    path = tmp_path / "profile_export_aiperf.json"
    path.write_text(json.dumps({
        "request_throughput": {"unit": "requests/sec", "avg": 2.5},
        "request_latency": {"unit": "ms", "avg": 40.0, "p99": 80.0},
    }))  # fmt: skip
    (found,) = read_warm_start(path, loaded).records
    assert found.latency.p99_ms is not None
    assert found.latency.p99_ms.value == 80.0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty", None),
        ("a.json", "[]"),
        ("b.json", "{}"),
        ("c.csv", "x,y\n1,2\n"),
        ("d.json", "no json"),
        ("missing.csv", None),
    ],
)
def test_what_is_neither_is_refused_with_a_reason(
    tmp_path: Path, loaded: LoadedSpec, name: str, content: str | None
) -> None:
    path = tmp_path / name
    if name == "empty":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match="`warm_start`"):
        read_warm_start(path, loaded)
