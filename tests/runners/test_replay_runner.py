"""Recorded tables: what a row becomes, and what a wrong table gets."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from runners import Container, Infeasible, Placement, ReplayRunner, ServerFailed, TableError
from runners.replay import same_numbers
from runners.testing import RunnerCase, RunnerContract
from tests.runners.support import container

TABLE = """\
cores,engine,capacity_qps,p99_ms,status,price_per_hour,trial_s
1,fast,100,20,ok,0.5,90
2,fast,180.5,,ok,1.0,
4,fast,,,oom,2.0,5
8,fast,0,,ok,4.0,5
1,slow,,,failed,0.5,5
2,true,50,10,,1.0,90
"""


def write(folder: Path, text: str = TABLE) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def runner(folder: Path, text: str = TABLE) -> ReplayRunner:
    return ReplayRunner(write(folder, text), ("cores", "engine"))


def with_values(placement: Placement, folder: Path, cores: float | str, engine: str | bool) -> Container:
    return replace(container(placement, folder), parameters={"cores": cores, "engine": engine})


class TestReplayRunnerContract(RunnerContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> RunnerCase:
        return RunnerCase(
            runner(tmp_path),
            good=lambda placement, folder: with_values(placement, folder, 1, "fast"),
            failing=lambda placement, folder: with_values(placement, folder, 1, "slow"),
            impossible=lambda placement, folder: with_values(placement, folder, 16, "fast"),
            reachable=lambda _: False,
            folder=tmp_path,
        )


@pytest.mark.parametrize(("cores", "engine"), [(2, "fast"), (2.0, "fast"), ("2", "fast"), ("2.0", "fast")])
def test_a_value_matches_however_it_is_written(tmp_path: Path, cores: float | str, engine: str) -> None:
    replayed = runner(tmp_path)
    with replayed.launch(with_values(replayed.place(tmp_path), tmp_path, cores, engine)) as endpoint:
        assert endpoint.recorded is not None
        assert endpoint.recorded.capacity_qps == 180.5
        assert endpoint.recorded.p99_ms is None


@pytest.mark.parametrize(("cell", "saturated"), [("150", 150), ("", 100)])
def test_the_throughput_at_full_load_is_at_least_the_capacity(tmp_path: Path, cell: str, saturated: float) -> None:
    replayed = runner(tmp_path, f"cores,engine,capacity_qps,saturated_qps\n1,fast,100,{cell}\n")
    with replayed.launch(with_values(replayed.place(tmp_path), tmp_path, 1, "fast")) as endpoint:
        assert endpoint.recorded is not None
        assert endpoint.recorded.saturated_qps == saturated


def test_true_is_written_in_lower_case(tmp_path: Path) -> None:
    replayed = runner(tmp_path)
    with replayed.launch(with_values(replayed.place(tmp_path), tmp_path, 2, True)) as endpoint:
        assert endpoint.recorded is not None


@pytest.mark.parametrize(
    ("cores", "engine", "kind", "reason"),
    [
        (4, "fast", Infeasible, "out of memory"),
        (8, "fast", Infeasible, "cannot serve within the SLO"),
        (3, "fast", Infeasible, "not in the table"),
        (1, "slow", ServerFailed, "failure"),
    ],
)
def test_what_did_not_work_is_replayed_as_such(
    tmp_path: Path, cores: int, engine: str, kind: type[Exception], reason: str
) -> None:
    replayed = runner(tmp_path)
    with (
        pytest.raises(kind, match=reason),
        replayed.launch(with_values(replayed.place(tmp_path), tmp_path, cores, engine)),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column cores"),
        ("cores,engine,capacity_qps\n", "has no rows"),
        ("cores,capacity_qps\n1,2\n", "table.csv:1 has no column engine; there are cores, capacity_qps"),
        ("cores,engine,p99_ms\n1,a,2\n", "has no column capacity_qps"),
        ("cores,engine,capacity_qps\n1,a,fast\n", "table.csv:2 capacity_qps: 'fast' is not a number"),
        ("cores,engine,capacity_qps\n1,a,-5\n", "at least 0"),
        ("cores,engine,capacity_qps\n1,a,nan\n", "leave the cell empty where there is none"),
        ("cores,cores,engine,capacity_qps\n1,2,a,3\n", "table.csv:1 has the column cores more than once"),
        ("cores,engine,capacity_qps\n1,a,1e31\n", "table.csv:2 capacity_qps is 1e+31, which nothing has"),
        ("cores,engine,capacity_qps\n1,a\n", "table.csv:2 does not have as many cells as the first line, but 2; write"),
        ("cores,engine,capacity_qps\n1,a,1,400\n", "table.csv:2 does not have as many cells as the first line, but 4"),
        ('cores,engine,capacity_qps\n1,a,"1,400"\n', "'1,400' is not a number; write it as in 1400 or 0.5, and leave"),
        ("cores,engine,max_rps\n1,a,2\n", "there are cores, engine, max_rps; is it max_rps? rename that"),
        ("cores,engine,Requests/s\n1,a,2\n", "is it Requests/s? rename that"),
        ("cores,engine,capacity_qps,status\n1,a,5,great\n", "'great' is none of ok, oom, failed"),
        (
            "cores,engine,capacity_qps\n1,a,5\n1.0,a,6\n",
            "table.csv:3 gives the configuration of line 2 a second time, with other values; keep one row of each",
        ),
        ("cores,engine,capacity_qps\n1,a,1e-300\n", "table.csv:2 capacity_qps is 1e-300, which nothing has"),
        ("cores,engine,capacity_qps,price_per_hour\n1,a,5,1e9\n", "table.csv:2 price_per_hour is 1e+09, which nothing"),
        ("# ours\n\nCores,engine,capacity_qps\n1,a,5\n", "table.csv:3 has no column cores; there are Cores, engine"),
        ("# ours\ncores,engine,capacity_qps\n# then\n1,a,N/A\n", "table.csv:4 capacity_qps: 'N/A' is not a number"),
    ],
)
def test_a_wrong_table_is_named_with_line_and_column(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TableError) as caught:
        runner(tmp_path, text)
    assert said in str(caught.value)


def test_the_line_can_be_had_apart_from_the_message(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        runner(tmp_path, "cores,engine,capacity_qps\n1,a,5\n2,a,fast\n")
    assert caught.value.line == 3


def test_fifty_thousand_rows_are_read_in_a_moment(tmp_path: Path) -> None:
    rows = "".join(f"{number},a,{number + 1}\n" for number in range(50_000))
    path = write(tmp_path, "cores,engine,capacity_qps\n" + rows)
    begun = time.process_time()
    ReplayRunner(path, ("cores", "engine"))
    assert time.process_time() - begun < 3


def test_comments_empty_lines_and_empty_cells_at_the_end_are_passed_over(tmp_path: Path) -> None:
    text = "# measured in May\n\ncores,engine,capacity_qps,status,,\n1,a,5,OK,,\n# then\n,,,,,\n2,a,6,ok,,,\n"
    replayed = runner(tmp_path, text)
    assert all(replayed.has({"cores": cores, "engine": "a"}) for cores in (1, 2))


def test_a_price_of_nothing_is_none(tmp_path: Path) -> None:
    replayed = runner(tmp_path, "cores,engine,capacity_qps,price_per_hour\n1,a,5,0\n2,a,6,0.5\n")
    assert replayed.price_per_hour({"cores": 1, "engine": "a"}) is None
    assert (replayed.has_prices(), replayed.unpriced) == (False, 1)


def test_what_table_and_space_write_otherwise_is_told(tmp_path: Path) -> None:
    replayed = runner(tmp_path, "cores,engine,capacity_qps,p99_s,note\n1,Fast,5,0.1,x\n2,Slow,6,0.1,x\n")
    assert replayed.compared("engine", ["fast", "slow"]) == (["fast", "slow"], ["Fast", "Slow"])
    assert replayed.compared("cores", [2, 4]) == ([4], ["1"])
    assert replayed.unread == ("p99_s",)


def test_texts_that_are_the_same_number_are_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path, "cores,engine,capacity_qps\n1,1.1,5\n1.0,1.10,6\n")
    assert same_numbers(["1.1", "1.10"])
    assert not same_numbers([1, 2, "fast"])
    replayed = ReplayRunner(path, ("cores", "engine"), texts=["engine"])
    assert replayed.compared("engine", ["1.1", "1.10", "1.100"]) == (["1.100"], [])
    with replayed.launch(with_values(replayed.place(tmp_path), tmp_path, 1, "1.10")) as endpoint:
        assert endpoint.recorded is not None
        assert endpoint.recorded.capacity_qps == 6


def test_rows_of_no_configuration_are_counted_with_their_lines(tmp_path: Path) -> None:
    replayed = runner(tmp_path, "cores,engine,capacity_qps\n1,a,5\n,a,6\n2,a,7\n")
    assert replayed.beyond([{"cores": 1, "engine": "a"}, {"cores": 4, "engine": "a"}]) == [3, 4]
    assert replayed.size == 3


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot read"):
        ReplayRunner(tmp_path / "none.csv", ("cores",))


def test_the_longest_trial_is_that_of_a_row_that_is_run(tmp_path: Path) -> None:
    rows = "1,fast,100,20,ok,,90\n2,slow,100,20,ok,,70\n3,fast,,,failed,,600\n4,fast,0,,ok,,600\n5,fast,,,oom,,600\n"
    replayed = runner(tmp_path, TABLE.splitlines()[0] + "\n" + rows)
    assert replayed.longest_trial_s((range(1, 6), ("fast", "slow"))) == 90
    assert replayed.longest_trial_s((range(2, 10**9), ("fast", "slow"))) == 70
    assert replayed.longest_trial_s(((1.0, 2.5, "2"), ("slow",))) == 70
    assert replayed.longest_trial_s(((7,), ("fast",))) == 0
