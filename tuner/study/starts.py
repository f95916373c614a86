"""How long the servers of trials that run at once may take to start, lest they spend more together than is left.

A trial asks again and again while its server starts, and tells so how long that has taken. What it will have taken in
the end is known from then on: that, and its load. Whoever sees first that all together would go beyond the limits ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tuner.study.budget import Limits, Spent, launch_s, next_s


@dataclass
class _Start:
    """A trial's price per hour, how long it and its start take if they are as long as those before it, and how long its
    start may take by the time that is left. `seconds` is how long it has taken so far; if it `ends`, no load follows.
    """

    price: float | None
    usual_s: float
    usual_start_s: float
    most_s: float
    seconds: float = 0.0
    ends: bool = False

    def takes_s(self, load_s: float) -> float:
        return self.seconds if self.ends else max(self.usual_s, self.seconds + load_s)


class Starts:
    """The trials that this process has under way, by number. `limits` are those of the whole run, in which each trial
    has at most `load_s` of load.
    """

    def __init__(self, limits: Limits, load_s: float) -> None:
        self._limits, self._load_s = limits, load_s
        self._under_way: dict[int, _Start] = {}
        self._spent, self._elsewhere_per_hour = Spent(), 0.0
        self._lock = threading.RLock()  # each trial asks in a thread of its own

    @property
    def numbers(self) -> frozenset[int]:
        """The trials that were begun and not ended."""
        return frozenset(self._under_way)

    def begin(
        self, number: int, price_per_hour: float | None, spent: Spent, elsewhere_per_hour: float = 0.0
    ) -> Callable[[float], float]:
        """A function that says how many seconds the trial's servers may take to start, by how many they have taken. The
        trials of other processes cost `elsewhere_per_hour` together, and are taken to last as long as trials do.
        """
        by_time_s = launch_s(Limits(seconds=self._limits.seconds), spent, self._load_s, None)
        with self._lock:
            self._under_way[number] = _Start(price_per_hour, next_s(spent, self._load_s), spent.around_s, by_time_s)
            self._spent, self._elsewhere_per_hour = spent, elsewhere_per_hour
        return partial(self._most_s, number)

    def end(self, number: int, spent: Spent) -> None:
        """The trial is over, and what it took is `spent`."""
        with self._lock:
            self._under_way.pop(number, None)
            self._spent = spent

    def beside_per_hour(self, number: int | None, spent: Spent) -> float:
        """What those under way cost, without trial `number`: the price of trials that last as long as others did. One
        that lasts longer counts as if it were dearer.
        """
        usual_s = next_s(spent, self._load_s)
        with self._lock:
            others = [one for other, one in self._under_way.items() if other != number]
            return sum((one.price or 0.0) * one.takes_s(self._load_s) / usual_s for one in others) if usual_s else 0.0

    def _most_s(self, number: int, seconds: float) -> float:
        with self._lock:
            one = self._under_way[number]
            one.seconds = seconds
            beside = self.beside_per_hour(number, self._spent) + self._elsewhere_per_hour
            by_money_s = launch_s(Limits(cost=self._limits.cost), self._spent, self._load_s, one.price, beside)
            # One that takes as long as others did fitted when it began: what takes longer has to make room.
            most_s = max(min(one.most_s, by_money_s), one.usual_start_s)
            one.ends = seconds > most_s
            return most_s
