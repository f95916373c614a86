"""Do launches in turns tell configurations apart on a machine whose speed drifts? `python -m benchmarks.rounds`

Four configurations, of which the second is better than the first (today's) by `--gap` (in logs), the others lie between
or below. Each is launched once, and then in rounds. A launch's logarithm is off by what the machine is at that moment
(`drift`, of which the server feels so much: `felt`; it stays from one launch to the next with a correlation of 0.6), by
an error of the launch, by one of the measurement, and one in twenty is halved. The product's beliefs are asked three
times: told nothing of that; told the rounds; and told the machine's speed as well, which is timed with an error of 4%.

- covered: how often the 95% interval of the difference to today's holds the true one; width: its median, in logs;
- sure: how often the second is said to be surely better than today's (with no gap: how often wrongly);
- best: how often the second has the lowest expected cost, and the probability that is said.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from tuner.search.beliefs import believe
from tuner.search.launches import Contender, LaunchFigure
from tuner.search.machine_speed import contenders_at_mean_speed

HALVED, CONFIDENCE = 0.05, 0.95
KEPT, TIMING = 0.6, 0.04
TOLD = ("nothing", "rounds", "speed")
# Standard deviations in logs: of the machine's drift, of a launch, of a measurement; how much of the drift is felt.
ERRORS = (
    (0.0, 0.05, 0.04, 1.0),
    (0.0, 0.1, 0.04, 1.0),
    (0.1, 0.05, 0.04, 1.0),
    (0.2, 0.05, 0.04, 1.0),
    (0.2, 0.02, 0.02, 1.0),
    (0.1, 0.1, 0.08, 1.0),
    (0.2, 0.05, 0.04, 0.0),
)


@dataclass(frozen=True)
class Case:
    """`rounds` of launches, with errors as in `ERRORS`."""

    drift: float
    launch: float
    measurement: float
    felt: float
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


def run(case: Case, seed: int) -> tuple[Said, ...]:
    """In the order of `TOLD`."""
    random = np.random.default_rng(seed)
    true = math.log(100) + np.array([0.0, case.gap, case.gap - 0.1, case.gap - 0.15])
    machine = random.normal(0, case.drift)
    shown: list[list[LaunchFigure]] = [[] for _ in true]
    for place in range(1 + case.rounds):
        for number, figure in enumerate(true):
            machine = KEPT * machine + math.sqrt(1 - KEPT**2) * random.normal(0, case.drift)
            halved = math.log(0.5) if random.random() < HALVED else 0.0
            error = random.normal(0, math.hypot(case.launch, case.measurement))
            work = random.normal(0, TIMING) - machine
            figure_shown = float(figure + case.felt * machine + halved + error)
            shown[number].append(
                LaunchFigure(figure_shown, case.measurement, round=place or None, work=work, work_error=TIMING)
            )
    untimed = [[replace(one, work=math.nan) for one in launches] for launches in shown]
    untold = [[replace(one, round=None) for one in launches] for launches in untimed]
    return tuple(said(launches, case.gap) for launches in (untold, untimed, shown))


def said(shown: Sequence[Sequence[LaunchFigure]], gap: float) -> Said:
    """Of the second configuration beside the first, by the launches of each."""
    contenders = [Contender(number, tuple(launches)) for number, launches in enumerate(shown)]
    beliefs = believe(contenders_at_mean_speed(contenders)[0], lambda figures: -figures)
    saving = beliefs.saving(1, 0)
    low, high = -math.log1p(-saving.low), -math.log1p(-saving.high)
    return Said(
        low <= gap <= high, high - low, beliefs.surely_better(1, 0, CONFIDENCE), beliefs.best() == 1,
        beliefs.probability_best(1),
    )  # fmt: skip


def row(case: Case, said: Sequence[Said]) -> list[str]:
    """Of one table."""
    shares = [np.mean([getattr(one, name) for one in said]) for name in ("covered", "sure", "best", "probability_best")]
    width = np.median([one.width for one in said])
    errors = [f"{one:.0%}" for one in (case.drift, case.launch, case.measurement, case.felt)]
    return [
        *errors, str(case.rounds), f"{case.gap:.0%}",
        f"{shares[0]:.0%}", f"{width:.2f}", *(f"{share:.0%}" for share in shares[1:]),
    ]  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--gap", type=float, default=0.2)
    asked = parser.parse_args()
    head = [
        "drift",
        "launch",
        "measurement",
        "felt",
        "rounds",
        "gap",
        "told",
        "covered",
        "width",
        "sure",
        "best",
        "said best",
    ]
    print(f"| {' | '.join(head)} |\n|" + " --- |" * len(head))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for errors in ERRORS:
            for rounds, gap in ((2, asked.gap), (4, asked.gap), (2, 0.0)):
                case = Case(*errors, rounds, gap)
                found = pool.map(partial(run, case), range(asked.runs))
                for name, all_said in zip(TOLD, zip(*found, strict=True), strict=True):
                    cells = row(case, all_said)
                    print(f"| {' | '.join([*cells[:6], name, *cells[6:]])} |", flush=True)


if __name__ == "__main__":
    main()
