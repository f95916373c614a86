"""Does another model's study help a search? `python -m benchmarks.search.warm_start TABLES --weights WEIGHTS`.

Each table of each source is searched with weights that were not trained on that source: without a warm start, with the
20 trials of a search of another model's table of the same source, and with 64 random ones of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.search.families import Surface
from benchmarks.search.searchers import OurSearch, trial
from benchmarks.search.tables import read_table, sources
from results import TrialRecord

_TRIALS, _NEAR = 20, 1.05
_WITHIN = (1, 2, 5, 10, 20)
_KINDS = {"none": 0, "searched": 20, "random": 64}  # trials of the other model's study

_read = cache(read_table)


@dataclass(frozen=True)
class Job:
    """A table to search, with so many trials of the other's study."""

    source: str
    table: Path
    other: Path
    weights: Path
    kind: str
    seed: int


def pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    """Source, table, and one of another model with the same parameters, the same in every run."""
    found = []
    for source, paths in sources(folder).items():
        for table in paths:
            names, model = _read(table).space.names, _model(table)
            others = [one for one in paths if _model(one) != model and _read(one).space.names == names]
            if others:
                found.append((source, table, others[zlib.crc32(table.stem.encode()) % len(others)]))
    return found


def trials_until_near(job: Job) -> float:
    """Trials until within 5% of the best, infinite beyond `_TRIALS`."""
    surface = _read(job.table)
    return search(surface, OurSearch(surface, job.seed, job.weights, _before(job)), job.seed, _TRIALS)[1]


def search(surface: Surface, searcher: OurSearch, seed: int, max_trials: int) -> tuple[list[TrialRecord], float]:
    """All trials, and how many there were until within 5% of the best."""
    costs = np.where(surface.capacity_qps > 0, surface.price / np.maximum(surface.capacity_qps, 1e-12), np.inf)
    g, records, near = np.random.default_rng([seed, 7]), list[TrialRecord](), np.inf
    cheapest: float | None = None
    for count in range(min(max_trials, len(costs))):
        number = searcher.ask()
        records.append(trial(surface, number, count, cheapest, g, prune=True))
        searcher.tell(records[-1], number)
        if (cost := records[-1].cost_per_million_requests) is not None:
            cheapest = cost if cheapest is None else min(cost, cheapest)
            if costs[number] <= _NEAR * costs.min():
                near = min(near, count + 1)
    return records, near


def _before(job: Job) -> Sequence[TrialRecord]:
    if job.kind == "none":
        return ()
    other, count = _read(job.other), _KINDS[job.kind]
    if job.kind == "searched":
        return search(other, OurSearch(other, job.seed + 1, job.weights), job.seed + 1, count)[0]
    g = np.random.default_rng(job.seed)
    numbers = g.permutation(len(other.configurations))[:count]
    return [trial(other, int(number), place, None, g, prune=False) for place, number in enumerate(numbers)]


def _model(table: Path) -> str:
    return table.stem.split("-")[0]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="a folder of weights-without-SOURCE.safetensors")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="one table of so many")
    parser.add_argument("--skip", type=int, default=0)
    asked = parser.parse_args()
    chosen = pairs(asked.tables)[asked.skip :: asked.every]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for kind, count in _KINDS.items():
            jobs = [
                Job(source, table, other, asked.weights / f"weights-without-{source}.safetensors", kind, seed)
                for source, table, other in chosen
                for seed in range(asked.seeds)
            ]
            found = np.array(pool.map(trials_until_near, jobs, chunksize=1))
            low, median, high = np.quantile(found, (0.25, 0.5, 0.75), method="lower")
            shares = ", ".join(f"within {most} {(found <= most).mean():.0%}" for most in _WITHIN)
            print(f"{count} earlier ({kind}): {len(found)} searches, median {median:g} ({low:g} to {high:g}), {shares}")


if __name__ == "__main__":
    main()
