"""How often the gate is wrong, by how noisy launches are: `python -m benchmarks.gate_noise [--runs 2000]`.

The gate's own decision (`results.gate.decision`) on simulated launches, in seconds; `benchmarks.gate_truth` gates real
servers, in an hour. Each launch's capacity is the true one times a lognormal error. The baseline is the mean of three
launches, with the interval that this gives; the tuning run measured two other configurations twice, which tells of the
noise as well. The gate launches two to four times.

Goals: at most 5% of gates fail where nothing has changed; of those that are 10% slower at least 95% are found where the
noise allows it, and where it does not, none passes: they are inconclusive.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter

import numpy as np

from results import Estimate
from results.gate.decision import GateMeasurement, Outcome, Setting, decide_gate

NOISES = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
CHANGES = (0.0, -0.1, -0.2)
_BASELINE, _FIRST_LOOK, _MOST, _PAIRS = 3, 2, 4, 2
_MEASURED = 0.01  # the standard deviation that a launch's own interval tells of


def gated(noise: float, change: float, random: np.random.Generator) -> Outcome:
    """One gate of a server whose capacity changed by that share."""

    def launches(count: int, capacity: float = 100.0) -> list[float]:
        return [capacity * math.exp(noise * error) for error in random.standard_normal(count)]

    before = launches(_BASELINE)
    middle, error = float(np.mean(before)), math.hypot(noise, _MEASURED) / math.sqrt(_BASELINE)
    baseline = GateMeasurement(_estimate(middle, error), None, None)
    one, other = launches(_PAIRS), launches(_PAIRS)
    measured: list[GateMeasurement] = []
    while True:
        (capacity,) = launches(1, 100.0 * (1 + change))
        measured.append(GateMeasurement(_estimate(capacity, _MEASURED), None, None))
        if len(measured) < _FIRST_LOOK:
            continue
        last = len(measured) == _MOST
        found = decide_gate(baseline, measured, Setting(), last=last, pairs=list(zip(one, other, strict=True))).outcome
        if last or found != "undecided":
            return found


def _estimate(value: float, error: float) -> Estimate:
    return Estimate(value=value, low=value * math.exp(-1.96 * error), high=value * math.exp(1.96 * error))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    print("| launch to launch | change | failed | passed | inconclusive |\n| --- | --- | --- | --- | --- |")
    for noise in NOISES:
        for change in CHANGES:
            random = np.random.default_rng(round(1e4 * noise))
            found = Counter(gated(noise, change, random) for _ in range(runs))
            shares = [f"{found[one] / runs:.1%}" for one in ("regressed", "passed", "inconclusive")]
            print(f"| {noise:.0%} | {f'{change:+.0%}' if change else 'none'} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
