"""The main job on recorded tables: the same loop, sampler, store and outputs as a real run, in seconds."""

from __future__ import annotations

import csv
import itertools
import json
import os
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Tune, call_tune, recommendation
from tuner.outcome.folder import held

SPEC = """\
version: 1
service: {name: recorded}
space:
  parameters:
    cpu_cores: {choices: [1, 2, 4, 8, 16], role: cpu_cores}
    batch_size: {choices: [1, 2, 4, 8, 16, 32, 64], role: batch_size}
    threads: {choices: [1, 2, 4, 8], role: threads}
    workers: {choices: [1, 2, 3, 4, 5], role: workers}
prices: {cpu_core_hour: 0.04}
runner: {type: replay, table: table.csv}
"""
COLUMNS = ("cpu_cores", "batch_size", "threads", "workers")


@pytest.fixture
def tune(tune_in_process: Tune) -> Tune:
    """No server is launched: nothing here needs a process."""
    return tune_in_process


def capacity(cores: int, batch: int, threads: int, workers: int) -> float:
    """A made-up server: batching helps up to a point, too many threads fight over the cores, long batches are late."""
    if batch / (cores * workers) > 16:
        return 0.0
    busy: float = min(cores, threads * workers)
    fighting = max(1.0, threads * workers / cores) ** 0.3
    return float(40.0 * busy**0.9 * (batch / (batch + 6.0)) / fighting)


def write_table(folder: Path) -> dict[tuple[int, ...], float]:
    """700 configurations; returns the cost per million requests of those that serve."""
    costs: dict[tuple[int, ...], float] = {}
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "capacity_qps", "p99_ms", "status", "trial_s"])
        for row in itertools.product((1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32, 64), (1, 2, 4, 8), (1, 2, 3, 4, 5)):
            found = capacity(*row)
            writer.writerow([*row, f"{found:.4f}" if found else "", 40, "ok", 30])
            if found:
                costs[row] = 0.04 * row[0] / found / 3600 * 1e6
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    return costs


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[int, ...], float]]:
    """The folder of a finished run of 20 trials, and what each configuration of its table costs."""
    folder = tmp_path_factory.mktemp("searched")
    costs = write_table(folder)
    begun = time.process_time()
    done = call_tune(
        folder, "--service", "spec.yaml", "--budget", 20, "--seed", 3
    )  # prunes, and finds what cannot serve
    took = time.process_time() - begun
    assert done.returncode == 0, done.stderr
    assert took < 60  # the goal of 15 s is measured in benchmarks/startup.py; this only catches a runaway
    return folder / "tuning" / "recorded", costs


def test_a_table_of_700_configurations_is_searched_and_everything_is_written(
    searched: tuple[Path, dict[tuple[int, ...], float]],
) -> None:
    folder, costs = searched
    found = recommendation(folder)
    chosen = tuple(found["configuration"][name] for name in COLUMNS)
    assert found["schema"] == 1
    assert found["confirmed"]
    assert found["meets_slo"]
    assert found["cost_per_million_requests"] == pytest.approx(costs[chosen], rel=1e-3)
    assert found["cost_per_million_requests"] < sorted(costs.values())[len(costs) // 4]
    assert sum(found["trials"].values()) == 20
    assert found["reasons"]
    table = pd.read_csv(folder / "trials.csv")
    assert len(table) == 20
    assert not table.duplicated(subset=list(COLUMNS)).any()
    assert set(table["state"]) <= {"complete", "pruned", "infeasible", "failed"}
    assert len(pd.read_parquet(folder / "trials.parquet")) == 20
    for name in ("report.html", "report.md", "study.db", "trials"):
        assert (folder / name).exists()


def test_a_pruned_or_infeasible_trial_never_becomes_the_recommendation(
    searched: tuple[Path, dict[tuple[int, ...], float]],
) -> None:
    folder, _ = searched
    table = pd.read_csv(folder / "trials.csv").set_index("number")
    assert {"pruned", "infeasible"} <= set(table["state"])
    found = recommendation(folder)
    assert table.loc[found["trial"], "state"] == "complete"
    for alternative in found["alternatives"]:
        assert table.loc[alternative["trial"], "state"] == "complete"
    best = table[table["state"] == "complete"]["cost_per_million_requests"].min()
    assert found["cost_per_million_requests"] == pytest.approx(best)


def test_a_seed_repeats_the_search(tmp_path: Path, tune: Tune) -> None:
    write_table(tmp_path)
    for output in ("a", "b"):
        assert tune("--service", "spec.yaml", "--budget", 8, "--seed", 7, "--output", output).returncode == 0
    first, second = (pd.read_csv(tmp_path / output / "trials.csv")[list(COLUMNS)] for output in ("a", "b"))
    assert first.equals(second)


def test_resume_goes_on_to_the_budget_and_asks_what_one_run_would_have_asked(tmp_path: Path, tune: Tune) -> None:
    write_table(tmp_path)
    assert tune("--service", "spec.yaml", "--budget", 8, "--output", "whole").returncode == 0
    assert tune("--service", "spec.yaml", "--budget", 4, "--output", "parts").returncode == 0
    done = tune("--service", "spec.yaml", "--budget", 8, "--output", "parts", "--resume")
    assert done.returncode == 0, done.stderr
    whole, parts = (pd.read_csv(tmp_path / name / "trials.csv")[list(COLUMNS)] for name in ("whole", "parts"))
    assert whole.equals(parts)


def test_resume_refuses_a_spec_that_has_changed(tmp_path: Path, tune: Tune) -> None:
    write_table(tmp_path)
    assert tune("--service", "spec.yaml", "--budget", 2).returncode == 0
    (tmp_path / "spec.yaml").write_text(SPEC.replace("0.04", "0.05"), encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 4, "--resume")
    assert done.returncode == 2
    assert "prices" in done.stderr


def test_resume_refuses_a_table_that_has_changed(tmp_path: Path, tune: Tune) -> None:
    write_table(tmp_path)
    assert tune("--service", "spec.yaml", "--budget", 2).returncode == 0
    before = (tmp_path / "table.csv").read_text(encoding="utf-8")
    (tmp_path / "table.csv").write_text(before.replace("ok", "failed", 1), encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 4, "--resume")
    assert done.returncode == 2
    assert "runner.table: table.csv is not the table that this study began with, or was edited since" in done.stderr
    assert "undo the change, or start anew without --resume" in done.stderr
    (tmp_path / "table.csv").write_text(before, encoding="utf-8")
    assert tune("--service", "spec.yaml", "--budget", 4, "--resume").returncode == 0


@pytest.mark.parametrize("made_before", [False, True])
def test_what_may_hold_logs_or_prompts_is_its_users_own(tmp_path: Path, tune: Tune, made_before: bool) -> None:
    """In a folder of the run's own, and in one that everybody may read."""
    write_table(tmp_path)
    output = tmp_path / "out"
    if made_before:
        output.mkdir(mode=0o755)
    before = os.umask(0o022)
    try:
        assert tune("--service", "spec.yaml", "--budget", "2", "--output", "out").returncode in (0, 3)
        assert tune("report", "out").returncode == 0
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (output, *output.iterdir())}
    assert modes["out"] == (0o755 if made_before else 0o700)
    assert modes["trials"] == 0o700
    assert {modes[name] for name in ("study.db", "report.html", "report.md")} == {0o600}


def test_a_new_run_keeps_an_earlier_one(tmp_path: Path, tune: Tune) -> None:
    write_table(tmp_path)
    assert tune("--service", "spec.yaml", "--budget", 2).returncode == 0
    assert tune("plan", "tuning/recorded", "--qps", 100).returncode == 0
    assert tune("--service", "spec.yaml", "--budget", 2).returncode == 0
    left = {path.name for path in (tmp_path / "tuning" / "recorded" / "earlier").glob("*/*")}
    assert {"plan.json", "trials", "study.db"} <= left
    assert not (tmp_path / "tuning" / "recorded" / "plan.json").exists()
    assert len(list((tmp_path / "tuning" / "recorded" / "earlier").glob("*/recommendation.json"))) == 1


def test_a_table_has_prices_row_by_row_and_else_those_of_the_spec(tmp_path: Path, tune: Tune) -> None:
    lines = "cores,capacity_qps,status,price_per_hour\n1,100,ok,0.5\n2,100,ok,0.4\n3,,oom,\n"
    (tmp_path / "t.csv").write_text(lines, encoding="utf-8")
    text = (
        "version: 1\nservice: {name: priced, server: triton}\nobjective: {minimize: cost_per_hour, target_qps: 100}\n"
    )
    text += "space: {parameters: {cores: {choices: [1, 2, 3], role: cpu_cores}}}\n"
    text += "quality: {reference: {cores: 1}, answer: $.y}\n"
    text += "request: {dataset: gone.jsonl}\nrunner: {type: replay, table: t.csv}\ncurrent: {cores: 1}\n"
    for prices in ("", "prices: {cpu_core_hour: 1}\n"):
        (tmp_path / "spec.yaml").write_text(text + prices, encoding="utf-8")
        done = tune("--service", "spec.yaml", "--budget", 3)
        assert done.returncode == 0, done.stderr
        assert recommendation(tmp_path / "tuning" / "priced")["configuration"] == {"cores": 2}
        assert recommendation(tmp_path / "tuning" / "priced")["cost_per_hour"] == 0.4


def test_a_table_without_prices_is_told_where_they_may_stand(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "t.csv").write_text("n,capacity_qps\n1,100\n2,50\n", encoding="utf-8")
    text = "version: 1\nservice: {name: bare}\nspace: {parameters: {n: [1, 2]}}\nrunner: {type: replay, table: t.csv}\n"
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 2)
    assert done.returncode == 2
    assert "nothing in the space has a price" in done.stderr
    assert "or give the table a price_per_hour" in done.stderr


def test_what_of_a_table_is_replayed_is_said_before_the_first_trial(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "table.csv").write_text(
        "cpu_cores,engine,capacity_qps\n1,'1.1',100\n1,1.1,100\n1,1.10,180\n2,,300\n4,1.1,300\n", encoding="utf-8"
    )
    (tmp_path / "spec.yaml").write_text(
        "version: 1\nservice: {name: recorded}\n"
        "space: {parameters: {cpu_cores: [1, 2], engine: {choices: ['1.1', '1.10'], role: engine}}}\n"
        "prices: {cpu_core_hour: 0.04}\nrunner: {type: replay, table: table.csv}\n"
        "current: {cpu_cores: 2, engine: '1.1'}\n",
        encoding="utf-8",
    )
    done = tune("--service", "spec.yaml", "--budget", 4)
    assert done.returncode == 0, done.stderr
    assert "runner.table: table.csv has rows for 2 of 4 configurations; the others count as infeasible" in done.stderr
    assert "runner.table: lines 2, 5, 6 of table.csv are no configurations of the space, and not read" in done.stderr
    assert "current, cpu_cores=2 engine=1.1, has no row in table.csv, so nothing is compared with it" in done.stderr
    assert "Recommended, though uncertain: cpu_cores=1 engine=1.10" in done.stdout
    assert "Nothing is known of the current configuration (cpu_cores=2 engine=1.1)" in done.stdout
    assert "Nothing is known of the current configuration (cpu_cores=2 engine=1.1): this configuration" in done.stdout


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ("64,fast,100\n32,fast,50\n", "cpu_cores is 64, 32 there, and 1, 2 in the space"),
        ("1,Fast,100\n", "engine is Fast there, and fast, slow in the space"),
        ("8,fast,100\n1,quick,100\n", "cpu_cores is 8 there, and 1, 2 in the space; engine is quick there, and fast"),
        ("2,slow,100\n", "each of them breaks space.constraints"),
    ],
)
@pytest.mark.parametrize("words", [("validate",), ("--budget", "2", "--service")])
def test_a_table_of_another_space_is_refused_and_says_what_differs(
    tmp_path: Path, tune: Tune, rows: str, why: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "table.csv").write_text(f"cpu_cores,engine,capacity_qps\n{rows}", encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(
        "version: 1\nservice: {name: recorded}\n"
        "space: {parameters: {cpu_cores: [1, 2], engine: [fast, slow]}, "
        "constraints: [cpu_cores == 1 or engine == 'fast']}\n"
        "prices: {cpu_core_hour: 0.04}\nrunner: {type: replay, table: table.csv}\n",
        encoding="utf-8",
    )
    done = tune(*words, "spec.yaml")
    assert done.returncode == 2, done.stdout
    said = f"runner.table: no row of table.csv is a configuration of the space, so nothing can be replayed: {why}"
    assert said in done.stderr
    assert "spec.yaml:5)" in done.stderr
    assert not (tmp_path / "tuning").exists()


def test_a_table_of_another_space_is_refused_however_large_the_space_is(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "table.csv").write_text("cpu_cores,cache,capacity_qps\n1,0,100\n1,x,50\n", encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(
        "version: 1\nservice: {name: recorded}\n"
        "space: {parameters: {cpu_cores: [1, 2], cache: {low: 1, high: 1000000}}}\n"
        "prices: {cpu_core_hour: 0.04}\nrunner: {type: replay, table: table.csv}\n",
        encoding="utf-8",
    )
    done = tune("validate", "spec.yaml")
    assert done.returncode == 2, done.stdout
    assert "replayed: cache is 0, x there, and 1, 2, 3 and others in the space (" in done.stderr


def test_an_objective_that_a_table_has_no_figures_for_is_refused(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "t.csv").write_text("n,capacity_qps\n1,100\n2,50\n", encoding="utf-8")
    text = "version: 1\nservice: {name: bare}\nobjective: {pareto: [capacity_qps, p99_ms]}\n"
    text += "space: {parameters: {n: [1, 2]}}\nrunner: {type: replay, table: t.csv}\n"
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 2)
    assert done.returncode == 2
    assert "t.csv has no p99_ms, which the objective asks for" in done.stderr


def test_failures_in_a_table_do_not_end_the_search(tmp_path: Path, tune: Tune) -> None:
    rows = [f"{number},,failed" for number in range(1, 12)] + ["12,100,ok"]
    (tmp_path / "t.csv").write_text("\n".join(["n,capacity_qps,status", *rows]) + "\n", encoding="utf-8")
    text = "version: 1\nservice: {name: bad}\nobjective: {maximize: capacity_qps}\n"
    text += f"space: {{parameters: {{n: {list(range(1, 13))}}}}}\nrunner: {{type: replay, table: t.csv}}\n"
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 12, "--output", "runs/#1 %41")
    assert done.returncode == 0, done.stderr
    assert recommendation(tmp_path / "runs" / "#1 %41")["configuration"] == {"n": 12}


def test_json_puts_the_recommendation_alone_on_standard_output(tmp_path: Path, tune: Tune) -> None:
    write_table(tmp_path)
    done = tune("--service", "spec.yaml", "--budget", 3, "--json")
    assert json.loads(done.stdout) == recommendation(tmp_path / "tuning" / "recorded")
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events.count("trial") == 3


def test_nothing_within_the_slo_is_exit_code_3_and_still_reported(tmp_path: Path, tune: Tune) -> None:
    write_table(tmp_path)
    lines = (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()
    empty = [",".join([*line.split(",")[:4], "", "", "oom", ""]) for line in lines[1:]]
    (tmp_path / "table.csv").write_text("\n".join([lines[0], *empty]), encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 4)
    assert done.returncode == 3
    found = recommendation(tmp_path / "tuning" / "recorded")
    assert found["configuration"] is None
    assert not found["meets_slo"]
    assert found["trials"]["infeasible"] == 4
    assert "out of memory" in " ".join(found["reasons"])


def test_a_budget_beyond_the_space_ends_when_all_is_tried(tmp_path: Path, tune: Tune) -> None:
    write_table(tmp_path)
    small = (
        SPEC.replace("[1, 2, 4, 8, 16, 32, 64]", "[8]").replace("[1, 2, 3, 4, 5]", "[1]").replace("[1, 2, 4, 8]", "[1]")
    )
    (tmp_path / "spec.yaml").write_text(small, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 20)
    assert done.returncode == 0
    assert len(pd.read_csv(tmp_path / "tuning" / "recorded" / "trials.csv")) == 5
    assert "all 5 configurations" in done.stderr


def test_the_current_configuration_is_measured_first_and_compared_with(tmp_path: Path, tune: Tune) -> None:
    write_table(tmp_path)
    current = "current: {cpu_cores: 16, batch_size: 1, threads: 1, workers: 1}\n"
    (tmp_path / "spec.yaml").write_text(SPEC + current, encoding="utf-8")
    assert tune("--service", "spec.yaml", "--budget", 6).returncode == 0
    first = pd.read_csv(tmp_path / "tuning" / "recorded" / "trials.csv").iloc[0]
    assert (first["cpu_cores"], first["batch_size"], first["threads"], first["workers"]) == (16, 1, 1, 1)
    reasons = recommendation(tmp_path / "tuning" / "recorded")["reasons"]
    assert any("cheaper than the current configuration (cpu_cores=16" in reason for reason in reasons)


@pytest.mark.parametrize(
    "objective",
    [
        "{maximize: capacity_qps}",
        "{minimize: cost_per_hour, target_qps: 300}",
        "{pareto: [cost_per_million_requests, capacity_qps]}",
    ],
)
def test_every_objective_ends_with_a_recommendation(tmp_path: Path, tune: Tune, objective: str) -> None:
    write_table(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC + f"objective: {objective}\n", encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 8)
    assert done.returncode == 0, done.stderr
    assert recommendation(tmp_path / "tuning" / "recorded")["confirmed"]


def test_prices_in_the_table_are_used_and_none_are_needed_in_the_spec(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "table.csv").write_text(
        "x,capacity_qps,price_per_hour\n1,100,1\n2,150,1.2\n3,160,4\n", encoding="utf-8"
    )
    (tmp_path / "spec.yaml").write_text(
        "version: 1\nservice: {name: priced}\nspace: {parameters: {x: [1, 2, 3, 4]}}\n"
        "runner: {type: replay, table: table.csv}\n",
        encoding="utf-8",
    )
    done = tune("--service", "spec.yaml", "--budget", 4)
    assert done.returncode == 0, done.stderr
    found = recommendation(tmp_path / "tuning" / "priced")
    assert found["configuration"] == {"x": 2}
    assert found["cost_per_hour"] == 1.2
    table = pd.read_csv(tmp_path / "tuning" / "priced" / "trials.csv").set_index("x")
    assert table.loc[4, "state"] == "infeasible"
    assert "not in the table" in str(table.loc[4, "reason"])


def test_a_report_can_be_written_again(tmp_path: Path, tune: Tune) -> None:
    write_table(tmp_path)
    assert tune("--service", "spec.yaml", "--budget", 4).returncode == 0
    folder = tmp_path / "tuning" / "recorded"
    before = (folder / "recommendation.json").read_text(encoding="utf-8")
    for name in ("recommendation.json", "report.html", "trials.csv"):
        (folder / name).unlink()
    done = tune("report", folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "recommendation.json").read_text(encoding="utf-8") == before
    assert (folder / "report.html").is_file()


def test_an_earlier_run_says_where_to_begin(
    tmp_path: Path, tune: Tune, searched: tuple[Path, dict[tuple[int, ...], float]]
) -> None:
    earlier, costs = searched
    write_table(tmp_path)
    (tmp_path / "next.yaml").write_text(SPEC.replace("recorded", "another"), encoding="utf-8")
    done = tune("--service", "next.yaml", "--budget", 3, "--seed", 5, "--warm-start", earlier)
    assert done.returncode == 0, done.stderr
    first = pd.read_csv(tmp_path / "tuning" / "another" / "trials.csv").iloc[0]
    assert costs[tuple(first[list(COLUMNS)])] <= sorted(costs.values())[len(costs) // 20]


def test_an_earlier_run_that_is_none_is_refused(tmp_path: Path, tune: Tune) -> None:
    write_table(tmp_path)
    done = tune("--service", "spec.yaml", "--budget", 3, "--warm-start", "nowhere")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3


def test_a_folder_in_which_a_run_works_is_no_others(tmp_path: Path, tune_in_process: Tune) -> None:
    write_table(tmp_path)
    assert tune_in_process("--service", "spec.yaml", "--budget", 2, "--output", "out").returncode == 0
    before = (tmp_path / "out" / "trials.csv").read_bytes()
    with held(tmp_path / "out"):
        for more in ([], ["--resume"]):
            refused = tune_in_process("--service", "spec.yaml", "--budget", 3, "--output", "out", *more)
            assert refused.returncode == 2
            assert "another run works in out now" in refused.stderr
    assert (tmp_path / "out" / "trials.csv").read_bytes() == before
    assert not (tmp_path / "out" / "earlier").exists()
    assert tune_in_process("--service", "spec.yaml", "--budget", 3, "--output", "out", "--resume").returncode == 0
