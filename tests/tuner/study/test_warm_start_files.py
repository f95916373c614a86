"""Results of other tools: the whole SLO, this model's rows, requests and not inferences, and what was left out."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tuner.errors import UsageError
from tuner.spec.reading import LoadedSpec, load_spec
from tuner.study.warm_start import WarmStart, read_warm_start

HEAD = (
    "Model,Batch,Concurrency,Model Config Path,Instance Group,Max Batch Size,Throughput (infer/sec),p99 Latency (ms)\n"
)
SPEC = """\
version: 1
service: {name: addsub}
slo: SLO
request: {stream: openai, json: {prompt: hi}}
space: {parameters: {batch_size: [1, 2, 4, 8], instances: [1, 2, 4]}}
current: {batch_size: 1, instances: 1}
objective: {maximize: capacity_qps}
runner: {type: replay, table: table.csv}
"""
GUIDELLM: dict[str, Any] = {"metrics": {
    "request_totals": {"successful": 990, "errored": 0, "incomplete": 10, "total": 1000},
    "requests_per_second": {"successful": {"mean": 5.0}},
    "request_latency": {"successful": {"percentiles": {"p50": 1.0, "p95": 1.4, "p99": 1.5}}},
    "time_to_first_token_ms": {"successful": {"percentiles": {"p50": 40.0, "p99": 90.0}}},
}}  # fmt: skip
AIPERF: dict[str, Any] = {
    "request_throughput": {"avg": 5.69}, "request_latency": {"unit": "ms", "p50": 572.6, "p99": 625.6},
    "time_to_first_token": {"unit": "ms", "p99": 96.9}, "request_count": {"avg": 336.0},
}  # fmt: skip


def spec(folder: Path, slo: str = "{p99: 20ms}") -> LoadedSpec:
    (folder / "table.csv").write_text("batch_size,instances,capacity_qps\n1,1,10\n", encoding="utf-8")
    (folder / "spec.yaml").write_text(SPEC.replace("SLO", slo), encoding="utf-8")
    return load_spec(folder / "spec.yaml")


def analyzed(folder: Path, *rows: str, head: str = HEAD, slo: str = "{p99: 20ms}") -> WarmStart:
    (folder / "m.csv").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    return read_warm_start(folder / "m.csv", spec(folder, slo))


def capacities(found: WarmStart) -> dict[tuple[Any, ...], float | None]:
    return {
        tuple(one.configuration.values()): one.capacity_qps.value if one.capacity_qps else None for one in found.records
    }


def test_another_models_rows_are_left_out(tmp_path: Path) -> None:
    found = analyzed(tmp_path, "addsub,1,2,c,1:CPU,2,110.0,5.6", "tinyother,1,16,c,1:CPU,2,9100.0,1.6")
    assert capacities(found) == {(2, 1): 110.0}
    assert "read 2 trials, left out 1: 1 because they are of the model tinyother, and not of addsub" in found.note


def test_inferences_are_counted_as_the_requests_that_carried_them(tmp_path: Path) -> None:
    found = analyzed(tmp_path, "addsub,1000,2,c,4:GPU,8,22000.0,18.3", "addsub,1,8,c,4:GPU,8,310.0,17.1")
    assert capacities(found) == {(8, 4): 310.0}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("addsub,1,4,c,1:CPU,2,,", "Throughput (infer/sec) is empty"),
        ("addsub,1,4,c,1:CPU,2,100,", "p99 Latency (ms) is empty"),
        ("addsub,1,4,c,1:CPU,2,nan,5", "Throughput (infer/sec) is nan, which nothing has"),
        ("addsub,1,4,c,1:CPU,2,many,5", "Throughput (infer/sec) is no number"),
        ("addsub,1,4,c,1:CPU,0,100,5", "their configuration is not in the space"),
        ("addsub,1,4,c,8:GPU,2,100,5", "their configuration is not in the space"),
        ("addsub,1,4,c,1:CPU,2,100,50", "they broke p99 <= 20 ms"),
        (
            '"addsub,b","1,1","4,4","c,d","2:GPU,1:GPU","1,2","421.0, [1,2]","20.7, [2,1]"',
            "several models were measured",
        ),
        ("addsub,1", "the line has not as many cells as the heading"),
    ],
)
def test_a_row_that_proves_nothing_is_skipped_with_its_reason(tmp_path: Path, row: str, reason: str) -> None:
    found = analyzed(tmp_path, "addsub,1,2,c,1:CPU,2,110.0,5.6", row)
    assert capacities(found) == {(2, 1): 110.0}
    assert reason in found.note


def test_a_limit_that_the_file_does_not_speak_of_is_not_held(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="they do not say whether p99 to the first token <= 1000 ms held"):
        analyzed(tmp_path, "addsub,1,2,c,1:CPU,2,110.0,5.6", slo="{p99: 20ms, ttft: {p99: 1s}}")
    # The p99 within a limit on the p95 proves it.
    assert analyzed(tmp_path, "addsub,1,2,c,1:CPU,2,110.0,5.6", slo="{p95: 20ms}").records


def test_an_older_table_names_the_sizes_that_its_batcher_preferred(tmp_path: Path) -> None:
    head = HEAD.replace("Max Batch Size", "Preferred Batch Sizes")
    assert capacities(analyzed(tmp_path, "addsub,1,2,c,1/GPU,[4],195.0,11.0", head=head)) == {(4, 1): 195.0}


def result(folder: Path, content: Any, slo: str) -> WarmStart:
    (folder / "r.json").write_text(json.dumps(content), encoding="utf-8")
    return read_warm_start(folder / "r.json", spec(folder, slo))


@pytest.mark.parametrize(
    ("errors", "slo", "held"),
    [
        (0, "{p99: 3s}", True),
        (5, "{p99: 3s}", True),
        (20, "{p99: 3s}", False),  # a failed request is late
        (20, "{p50: 3s}", True),
        (20, "{p50: 3s, error_rate: 1%}", False),
        (0, "{p99: 1s}", False),
        (0, "{p99: 3s, ttft: {p99: 80ms}}", False),
        (0, "{p99: 3s, ttft: {p99: 100ms}}", True),
        (0, "{p99: 3s, itl: {p99: 100ms}}", False),
    ],
)
def test_the_whole_slo_is_asked_of_guidellm_and_aiperf(tmp_path: Path, errors: int, slo: str, held: bool) -> None:
    one = copy.deepcopy(GUIDELLM)
    one["metrics"]["request_totals"]["errored"] = errors
    if held:
        assert capacities(result(tmp_path, {"benchmarks": [one]}, slo)) == {(1, 1): 5.0}
    else:
        with pytest.raises(UsageError, match="read 1 trial, left out 1"):
            result(tmp_path, {"benchmarks": [one]}, slo)


@pytest.mark.parametrize(
    ("changed", "held"),
    [
        ({}, True),
        ({"request_error_rate": {"unit": "%", "avg": 50.0}}, False),
        ({"error_request_count": {"avg": 336.0}}, False),
        ({"error_request_count": {"avg": 1.0}}, True),
        ({"was_cancelled": True}, False),
        ({"request_latency": {"unit": "s", "p99": 4.0}}, False),
        ({"request_throughput": {"avg": "x"}}, False),
        ({"request_throughput": {"avg": 0}}, False),
    ],
)
def test_aiperfs_failed_and_cancelled_runs_prove_nothing(tmp_path: Path, changed: dict[str, Any], held: bool) -> None:
    content = AIPERF | changed
    if held:
        assert capacities(result(tmp_path, content, "{p99: 3s, error_rate: 1%}")) == {(1, 1): 5.69}
    else:
        with pytest.raises(UsageError, match="left out 1"):
            result(tmp_path, content, "{p99: 3s, error_rate: 1%}")


def test_where_nothing_succeeded_the_configuration_is_infeasible(tmp_path: Path) -> None:
    one = copy.deepcopy(GUIDELLM)
    one["metrics"]["request_totals"] = {"successful": 0, "errored": 300}
    [record] = result(tmp_path, {"benchmarks": [one]}, "{p99: 3s}").records
    assert (record.state, record.configuration) == ("infeasible", {"batch_size": 1, "instances": 1})
