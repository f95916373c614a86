"""A small part of `python -m benchmarks.search`, with fixed seeds: the search does what it is for."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from benchmarks.search.families import FAMILIES, draw
from benchmarks.search.runs import HEAD, Job, search, summarise
from benchmarks.search.searchers import SEARCHERS


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


def test_twenty_trials_suffice_on_services_never_seen() -> None:
    runs = [
        search(Job(family, seed, False, "ours", seed, 20))
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
