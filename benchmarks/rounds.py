"""Do launches in turns tell configurations apart on a machine whose speed drifts? `python -m benchmarks.rounds`

Four configurations, of which the second is better than the first (today's) by `--gap` (in logs), the others lie between
or below. Each is launched once, at a moment of its own, and then in rounds. A launch's logarithm is off by what the
machine is at that moment (`drift`), by an error of the launch, by one of the measurement, and one in twenty is halved.
The product's beliefs are asked twice: told the rounds, and not told.

- covered: how often the 95% interval of the difference to today's holds the true one; width: its median, in logs;
- sure: how often the second is said to be surely better than today's (with no gap: how often wrongly);
- best: how often the second has the lowest expected cost, and the probability that is said.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tuner.search.beliefs import believe
from tuner.search.launches import Contender, LaunchFigure

HALVED, CONFIDENCE = 0.05, 0.95
# Standard deviations in logs: of the machine's drift, of a launch, of a measurement.
ERRORS = (
    (0.0, 0.05, 0.04),
    (0.0, 0.1, 0.04),
    (0.1, 0.05, 0.04),
    (0.2, 0.05, 0.04),
    (0.2, 0.02, 0.02),
    (0.1, 0.1, 0.08),
)


@dataclass(frozen=True)
class Case:
    """`rounds` of launches, with errors as in `ERRORS`."""

    drift: float
    launch: float
    measurement: float
    rounds: int
    gap: float


@dataclass(frozen=True)
class Said:
    """What is said of the second configuration beside the first."""

    covered: bool
    width: float
    sure: bool
    best: bool
    probability_best: float


def run(case: Case, seed: int) -> tuple[Said, Said]:
    """Not told the rounds, and told."""
    random = np.random.default_rng(seed)
    true = math.log(100) + np.array([0.0, case.gap, case.gap - 0.1, case.gap - 0.15])

    def launch(number: int, machine: float) -> float:
        halved = math.log(0.5) if random.random() < HALVED else 0.0
        return float(true[number] + machine + halved + random.normal(0, math.hypot(case.launch, case.measurement)))

    first = [launch(number, random.normal(0, case.drift)) for number in range(len(true))]
    again = [
        [launch(number, machine) for number in range(len(true))]
        for machine in random.normal(0, case.drift, case.rounds)
    ]

    def said(*, told: bool) -> Said:
        contenders = [
            Contender(number, tuple(
                LaunchFigure(shown, case.measurement, round=place if told and place else None)
                for place, shown in enumerate([first[number], *(one[number] for one in again)])
            ))
            for number in range(len(true))
        ]  # fmt: skip
        beliefs = believe(contenders, lambda figures: -figures)
        saving = beliefs.saving(1, 0)
        low, high = -math.log1p(-saving.low), -math.log1p(-saving.high)
        return Said(
            low <= case.gap <= high, high - low, beliefs.surely_better(1, 0, CONFIDENCE), beliefs.best() == 1,
            beliefs.probability_best(1),
        )  # fmt: skip

    return said(told=False), said(told=True)


def row(case: Case, said: Sequence[Said]) -> list[str]:
    """Of one table."""
    shares = [np.mean([getattr(one, name) for one in said]) for name in ("covered", "sure", "best", "probability_best")]
    width = np.median([one.width for one in said])
    return [
        f"{case.drift:.0%}", f"{case.launch:.0%}", f"{case.measurement:.0%}", str(case.rounds), f"{case.gap:.0%}",
        f"{shares[0]:.0%}", f"{width:.2f}", *(f"{share:.0%}" for share in shares[1:]),
    ]  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--gap", type=float, default=0.2)
    asked = parser.parse_args()
    head = ["drift", "launch", "measurement", "rounds", "gap", "told", "covered", "width", "sure", "best", "said best"]
    print(f"| {' | '.join(head)} |\n|" + " --- |" * len(head))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for errors in ERRORS:
            for rounds, gap in ((2, asked.gap), (4, asked.gap), (2, 0.0)):
                case = Case(*errors, rounds, gap)
                found = pool.map(partial(run, case), range(asked.runs))
                for name, said in zip(("no", "yes"), zip(*found, strict=True), strict=True):
                    cells = row(case, said)
                    print(f"| {' | '.join([*cells[:5], name, *cells[5:]])} |", flush=True)


if __name__ == "__main__":
    main()
