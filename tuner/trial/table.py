"""Measuring from a table: a configuration's row takes the place of a load test, and is pruned by the same rule.

With `noise`, launches are as unsteady as real ones. Each launch has an error that stays with it: a normal error of the
logarithm of its capacity, and one launch in twenty is halved, as by a neighbour. Measuring adds a small error, and the
interval tells only of that one. So the launches of one configuration differ by more than their intervals say, as they
do on shared machines.
"""

from __future__ import annotations

import math
import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from loadtest import LoadGenerator
from results import Estimate, Latencies, Rates, Timing
from runners import Recorded
from tuner.trial.findings import NOT_AS_CHEAP, Findings
from tuner.trial.setup import BREAK_EVEN_MARGIN, TrialJob

MEASUREMENT = 0.02  # standard deviation of the logarithm
HALVED = 0.05  # of launches


@dataclass(frozen=True)
class TableMeasurer:
    """`noise` is the standard deviation of the logarithm between launches; with 0 the table's figures are exact."""

    noise: float

    @property
    def launches(self) -> bool:
        """Nothing is."""
        return False

    def ready(self, *, near: bool) -> AbstractContextManager[LoadGenerator | None]:  # noqa: ARG002
        """There is nothing to start."""
        return nullcontext()

    def measure(self, job: TrialJob, generator: LoadGenerator | None) -> Findings:  # noqa: ARG002
        """The findings from the configuration's row."""
        row = job.servers[0].endpoint.recorded
        assert row is not None  # noqa: S101 (the replay runner's endpoint always has one)
        price = row.price_per_hour if row.price_per_hour is not None else job.setup.price(job.request.configuration)
        loading = Timing(load_s=row.trial_s or 0.0)
        row, capacity = disturbed(row, self.noise, job.seed)
        break_even = job.break_even_qps(price)
        bound = None if break_even is None else break_even * BREAK_EVEN_MARGIN
        if bound is not None and row.capacity_qps < bound:
            rates = Rates(capacity_bound_qps=bound, saturated_qps=row.saturated_qps)
            return Findings("pruned", NOT_AS_CHEAP, rates=rates, loading=loading, price_per_hour=price)
        return Findings(
            "complete",
            rates=Rates(capacity_qps=capacity, saturated_qps=row.saturated_qps),
            latencies=Latencies(p99_ms=None if row.p99_ms is None else Estimate.exactly(row.p99_ms)),
            loading=loading,
            price_per_hour=price,
        )


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
