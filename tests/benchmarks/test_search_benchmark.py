"""A small part of `python -m benchmarks.search`, with fixed seeds: the search does what it is for."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.search.families import FAMILIES, draw
from benchmarks.search.runs import HEAD, Job, search, summarise
from benchmarks.search.searchers import SEARCHERS, trial
from benchmarks.search.tables import read_table, sources
from tests.conftest import Tune


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("large", [False, True])
def test_a_family_is_drawn_the_same_from_a_seed(family: str, large: bool) -> None:
    first, again = (draw(family, 3, large=large) for _ in range(2))
    assert (first.capacity_qps == again.capacity_qps).all()
    assert len(first.configurations) == first.space.size.count
    assert (4900 <= len(first.configurations) <= 5200) if large else (700 <= len(first.configurations) <= 760)


@pytest.mark.parametrize("searcher", list(SEARCHERS))
def test_every_search_asks_nothing_twice_and_reports(searcher: str) -> None:
    run = search(Job("usl", 1, False, searcher, 1, 6))
    assert len(summarise([run])[0]) == len(HEAD)
    surface = draw("usl", 1)
    asked = SEARCHERS[searcher](surface, 1)
    assert 0 <= asked.ask() < len(surface.configurations)


@pytest.mark.timeout(900)
def test_twenty_trials_suffice_on_services_never_seen() -> None:
    # Each ends where it is within 5%: what it would try after that is not asked about here.
    runs = [
        search(Job(family, seed, False, "ours", seed, 20, min_trials=1))
        for family in FAMILIES
        if family != "adversarial"
        for seed in range(3)
    ]
    chance = [search(Job(family, seed, False, "random", seed, 20)) for family in FAMILIES for seed in range(3)]
    assert statistics.fmean(run.within_5 <= 20 for run in runs) >= 0.75
    assert statistics.fmean(run.within_5 <= 20 for run in chance) < 0.6


def test_a_table_is_read_as_a_spec_would(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "batch_size,slice,capacity_qps,status,price_per_hour\n1,0.5,10,ok,1\n2,0.5,0,oom,1\n1,1,15,ok,2\n2,1,30,ok,2\n"
    )
    run = search(Job("measured", path, False, "ours", 0, 4))
    assert run.within_5 <= 4


def test_a_source_is_searched_with_roles_given_missing_and_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "tables" / "cores"
    folder.mkdir(parents=True)
    rows = [f"{gpu},{cores},{10 * cores},{40 / cores},ok,{cores},90" for gpu in ("T4", "L4") for cores in (1, 2, 4)]
    head = "gpu_type,cores,capacity_qps,p99_ms,status,price_per_hour,trial_s"
    (folder / "made-30ms.csv").write_text("\n".join([head, *rows[1:]]))
    (folder / "meta.json").write_text('{"roles": {"cores": "cpu_cores"}, "constraints": {"made-30ms": ["cores <= 2"]}}')
    ((name, paths),) = sources(tmp_path / "tables").items()
    assert name == "cores"
    given, missing, wrong = (read_table(paths[0], roles) for roles in ("given", "missing", "wrong"))
    assert [one.role for one in given.space.parameters] == ["gpu_type", "cpu_cores"]
    assert [one.role for one in missing.space.parameters] == [None, None]
    assert [one.name for one in missing.space.parameters] == ["p0", "p1"]
    assert "cpu_cores" not in [one.role for one in wrong.space.parameters[1:]]
    assert len(given.configurations) == 4  # of which the table lacks one: it cannot serve, and has no price
    assert (given.capacity_qps > 0).sum() == 3
    assert np.isnan(given.price).sum() == 1
    run = search(Job(name, paths[0], False, "ours", 0, 4, roles="wrong"))
    assert run.within_5 <= 4
    assert run.family == "cores, roles wrong"


def test_what_is_compared_is_what_the_product_does(tmp_path: Path, tune_in_process: Tune) -> None:
    """`tune` on a table asks, prunes and refuses what the benchmark's own loop does on it."""
    names = ["gpu_slice", "batch_size", "processes"]
    with (tmp_path / "model-100ms.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "capacity_qps", "p99_ms", "status", "price_per_hour", "trial_s"])
        for slice_ in (1, 2, 3, 4, 7):
            for batch in (1, 2, 4, 8, 16, 32, 64):
                for processes in (1, 2, 3):
                    alone = 4 + batch * 6 / slice_
                    rate = min(processes * batch / alone, batch / (batch * 5 / slice_ + 1)) * 1e3
                    late, full = 2e3 * processes * batch / rate, batch * processes > 40 * slice_
                    status = "oom" if full else "ok"
                    row = ["" if full or late > 100 else f"{rate:.3f}", "" if full else f"{late:.2f}", status]
                    writer.writerow([slice_, batch, processes, *row, slice_ * 0.7, 60])
    (tmp_path / "spec.yaml").write_text(
        "version: 1\nservice: {name: x}\nslo: {p99: 100ms}\nspace:\n  parameters:\n"
        "    gpu_slice: {choices: [1, 2, 3, 4, 7]}\n    batch_size: {choices: [1, 2, 4, 8, 16, 32, 64]}\n"
        "    processes: {choices: [1, 2, 3]}\nrunner: {type: replay, table: model-100ms.csv}\n"
    )
    done = tune_in_process("--service", "spec.yaml", "--budget", 12, "--seed", 3)
    assert done.returncode == 0, done.stderr
    shown = pd.read_csv(tmp_path / "tuning" / "x" / "trials.csv")

    surface = read_table(tmp_path / "model-100ms.csv")
    searcher, best = SEARCHERS["ours"](surface, 3), None
    for number in range(12):
        asked = searcher.ask()
        record = trial(surface, asked, number, best, np.random.default_rng(0), prune=True)
        searcher.tell(record, asked)
        best = min(filter(None, (best, record.cost_per_million_requests)), default=None)
        assert surface.configurations[asked] == shown.loc[number, names].to_dict()
        assert record.state == shown.loc[number, "state"]
