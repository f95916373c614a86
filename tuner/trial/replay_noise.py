"""What a replayed table shows where its launches are to be as unsteady as real ones.

Each launch has an error of its own, which stays with it: a normal one of its capacity's logarithm, and one launch in
twenty is halved, as by a neighbour. Measuring adds a small error, and that alone is what the interval tells: so the
launches of one configuration differ by more than their intervals say, as they do on shared machines.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

from results import Estimate
from runners import Recorded

MEASUREMENT = 0.02  # standard deviation of the logarithm
HALVED = 0.05  # of launches


def disturbed(recorded: Recorded, noise: float, seed: int) -> tuple[Recorded, Estimate]:
    """The record of one launch, and its capacity with the interval that a measurement would have; exact where `noise`
    (the standard deviation of the logarithm between launches) is 0. The same seed gives the same launch.
    """
    if not noise:
        return recorded, Estimate.exactly(recorded.capacity_qps)
    generator = random.Random(seed)  # noqa: S311 (not for secrets)
    launched = math.exp(generator.gauss(0, noise)) * (0.5 if generator.random() < HALVED else 1.0)
    seen = recorded.capacity_qps * launched * math.exp(generator.gauss(0, MEASUREMENT))
    low, high = (seen * math.exp(end * 1.96 * MEASUREMENT) for end in (-1, 1))
    shown = replace(recorded, capacity_qps=seen, saturated_qps=recorded.saturated_qps * launched)
    return shown, Estimate(value=seen, low=low, high=high)
