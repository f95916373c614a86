"""When requests are sent: seeded sequences of gaps between arrivals, in seconds."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator


def gaps(kind: str, rate_qps: float, seed: int) -> Iterator[float]:
    """Endless gaps with mean 1/rate: exponential ones (`poisson`), as from many independent users, or `constant`."""
    if kind == "constant":
        return itertools.repeat(1 / rate_qps)
    generator = random.Random(seed)  # noqa: S311 (not for secrets)
    return (generator.expovariate(rate_qps) for _ in itertools.count())
