"""What a run may spend: trials, time and money, whichever is used up first.

Time is that of the trials, from launch to stop, as their records tell it (a replayed trial takes as long as it would
have taken); of several at once each counts its part. Money is that time at the price of what was launched. Both are
hard limits: nothing is begun that might go beyond, a launch whose servers take too long to start ends there (see
`starts` for several at once), and the final has its own part of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from results import TrialRecord
from results.text import duration, money
from tuner.search.objective import unready

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Limits:
    """Seconds and money that all trials together may take, the final's launches included; None: as many as it takes."""

    seconds: float | None = None
    cost: float | None = None

    def __bool__(self) -> bool:
        return self.seconds is not None or self.cost is not None

    def for_search(self, share: float, final: Spent | None = None) -> Limits:
        """What is left for the search when the final gets `share` of it, and no more than the `final` of an earlier
        run left.
        """
        part, gone = 1 / (1 + share), final or Spent()
        return Limits(
            None if self.seconds is None else min(self.seconds * part, self.seconds - gone.seconds),
            None if self.cost is None else min(self.cost * part, self.cost - gone.cost),
        )


UNLIMITED = Limits()


@dataclass(frozen=True)
class Spent:
    """What was spent. `longest_s` is the longest that one trial, or further launch, took, and `around_s` the longest
    that launch and stop took beside its load; 0 before the first.
    """

    seconds: float = 0.0
    cost: float = 0.0
    longest_s: float = 0.0
    around_s: float = 0.0

    @classmethod
    def by(cls, records: Iterable[TrialRecord], parallel: int = 1) -> Spent:
        """What these trials spent. `parallel` of them ran at once, where a record does not say how many did."""
        seconds = cost = longest = around = 0.0
        for one in records:
            took = one.timing.took_s
            seconds += took / (one.timing.at_once or parallel)
            if not unready(one):  # what ended for want of time does not say how long others take
                longest, around = max(longest, took), max(around, took - (one.timing.load_s or 0.0))
            cost += took * (one.cost_per_hour or 0.0) / _HOUR_S
        return cls(seconds, cost, longest, around)

    def __add__(self, other: Spent) -> Spent:
        """What both spent, one after the other."""
        longest_s, around_s = max(self.longest_s, other.longest_s), max(self.around_s, other.around_s)
        return Spent(self.seconds + other.seconds, self.cost + other.cost, longest_s, around_s)


def next_s(spent: Spent, load_s: float) -> float:
    """How long another trial, with at most `load_s` seconds of load, may take, going by those before."""
    return max(spent.longest_s, load_s + spent.around_s)


def most_per_hour(cost: float, spent: Spent, load_s: float, beside_per_hour: float = 0.0) -> float:
    """The highest price per hour at which another trial surely stays within `cost`. Trials that are under way cost
    `beside_per_hour` together, and are not yet in `spent`: each may take as long.
    """
    took_s = next_s(spent, load_s)
    return (cost - spent.cost) * _HOUR_S / took_s - beside_per_hour if took_s else math.inf


def launch_s(
    limits: Limits, spent: Spent, load_s: float, price_per_hour: float | None, beside_per_hour: float = 0.0
) -> float:
    """How long the servers of another trial may take to start, lest its load goes beyond the limits. Before the first
    trial nobody knows how long that is, and `why_not` goes by those before.
    """
    left = [math.inf if limits.seconds is None else limits.seconds - spent.seconds]
    if limits.cost is not None and price_per_hour:
        beside = beside_per_hour * next_s(spent, load_s)
        left.append(((limits.cost - spent.cost) * _HOUR_S - beside) / price_per_hour)
    return min(left) - load_s


def why_not(
    limits: Limits, spent: Spent, load_s: float, price_per_hour: float | None, *, currency: str,
    beside_per_hour: float = 0.0,
) -> str | None:  # fmt: skip
    """Why another trial, with at most `load_s` seconds of load and at that price per hour, might go beyond the
    limits, as a sentence; None if it fits. Trials that are under way (see `most_per_hour`) take no time of their own,
    since the new one runs beside them.
    """
    took_s = next_s(spent, load_s)
    if limits.seconds is not None and spent.seconds + took_s > limits.seconds:
        return f"{duration(spent.seconds)} are spent, and another trial may take {duration(took_s)}."
    if limits.cost is None or not price_per_hour:
        return None
    if price_per_hour <= most_per_hour(limits.cost, spent, load_s, beside_per_hour):
        return None
    return why_too_dear(spent, load_s, price_per_hour + beside_per_hour, currency, "another trial")


def why_too_dear(spent: Spent, load_s: float, per_hour: float, currency: str, what: str) -> str:
    """The sentence for `what` costs more than is left."""
    so_far, more = money(spent.cost, currency), money(next_s(spent, load_s) * per_hour / _HOUR_S, currency)
    return f"{so_far} is spent on machines, and {what} may take {more} more."
