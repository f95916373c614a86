"""What a fleet costs in a month: on demand, as spot, reserved, on hardware of one's own.

Only prices that the user gave are used: a share of the price on demand for spot and reserved instances, an amount for
hardware. A month is 730 hours, as the clouds' own calculators have it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MONTH_H = 730.0


@dataclass(frozen=True)
class Terms:
    """`spot` and `reserved` are prices as a share of that on demand; None: not offered.

    `spot_share` of the replicas may be spot. Own hardware costs `purchase` once per `own_replicas` replicas, and
    `own_monthly` (power, hosting) for as many.
    """

    spot: float | None = None
    spot_share: float = 1.0
    reserved: float | None = None
    purchase: float | None = None
    own_monthly: float = 0.0
    own_replicas: int = 1


@dataclass(frozen=True)
class Offer:
    """One way to pay: money per month, what must be paid at once, and what it means."""

    name: str
    monthly: float
    upfront: float = 0.0
    words: str = ""
    break_even_months: float | None = None


def offers(replicas: Floats, price_per_hour: float, terms: Terms) -> list[Offer]:
    """The cheapest per month first. `replicas` is how many exist over time, on equal steps."""
    on_demand = float(replicas.mean()) * price_per_hour * MONTH_H
    found = [Offer("on demand", on_demand)]
    if terms.spot is not None:
        share = terms.spot_share
        words = f"{share:.0%} of the replicas; a spot instance may be taken away at any time"
        found.append(Offer("spot", on_demand * (1 - share + share * terms.spot), words=words))
    if terms.reserved is not None:
        base = _reserved(replicas, terms.reserved)
        above = float(np.maximum(replicas - base, 0).mean())
        monthly = (base * terms.reserved + above) * price_per_hour * MONTH_H
        found.append(Offer("reserved", monthly, words=f"{base} of them reserved, the rest on demand"))
    if terms.purchase is not None:
        machines = math.ceil(float(replicas.max()) / terms.own_replicas - 1e-9)
        upfront, monthly = machines * terms.purchase, machines * terms.own_monthly
        saved = on_demand - monthly
        months = upfront / saved if saved > 0 else None
        words = f"{machines} machines for the peak; " + (
            "never cheaper than on demand"
            if months is None
            else f"cheaper than on demand from month {math.ceil(months)}"
        )
        found.append(Offer("own hardware", monthly, upfront, words, months))
    return sorted(found, key=lambda offer: (offer.upfront > 0, offer.monthly))


def _reserved(replicas: Floats, share: float) -> int:
    """So many that the last of them is needed for at least that share of the time: else on demand is cheaper."""
    least = max(1, math.ceil(share * len(replicas) - 1e-9))  # steps
    return int(np.sort(replicas)[-least] + 1e-9)
