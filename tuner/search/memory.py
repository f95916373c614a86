"""What a memory limit that no launch came near says of larger ones: nothing else changes, so it is the same server.

A limit does nothing to a server that stays below it. So configurations that differ in such a limit alone are launched
as one: their launches count together, and where only the price is left to tell them apart the cheaper one is better.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from results import TrialRecord
from search_spaces import Configuration, Parameter, SearchSpace, parse_size
from tuner.search.candidates import Bools, CandidatePool
from tuner.search.launches import LAUNCH_SPREAD, Floats
from tuner.search.objective import undecided

Launches: TypeAlias = tuple[TrialRecord, ...]

_NEAR = 0.95  # of its limit: a server that used more may have felt it
_STALLED = 0.01  # of the time in which a task waited for memory, as for pages that the limit leaves no room for
_MORE = (
    2.0  # times the memory of the other: shared pages may be counted once or for each process, but no more than that
)
_UNLIKE = 2.0  # standard deviations between capacities: then memory does something, whatever was used
_ROUNDING = 1e-9  # of logarithms of prices
_WIDTH = 2 * 1.96  # of a 95% interval, in standard deviations


@dataclass(frozen=True)
class MemoryLimit:
    """The parameter that is a server's limit of memory, and does nothing else to it."""

    space: SearchSpace
    parameter: Parameter

    def size(self, configuration: Configuration) -> int:
        """Bytes."""
        return parse_size(configuration[self.parameter.name])

    def others(self, configuration: Configuration) -> tuple[int | None, ...]:
        """The places of all other parameters' values among their choices: alike where nothing but memory differs."""
        parameters = (one for one in self.space.parameters if one is not self.parameter)
        return tuple(self.space.rank(one, configuration[one.name]) for one in parameters)

    def unfelt(self, *launches: TrialRecord) -> bool:
        """Whether these launches of one configuration all stayed below their limit. What is not known is doubted: a
        container whose weights are mapped from a file thrashes at its limit, and seems to use half of it.
        """
        limit = self.size(launches[0].configuration)
        for one in launches:
            used, waited = one.use.memory_peak_bytes, one.machine.memory_stalled if one.machine else None
            if one.state not in ("complete", "pruned") or used is None or waited is None:
                return False
            if used > _NEAR * limit or waited >= _STALLED:
                return False
        return True

    def known(self, pool: CandidatePool, log_price: Floats, records: Sequence[TrialRecord]) -> Bools:
        """Which candidates are the same server as that of one of these trials, for at least as much money."""
        column = self.space.parameters.index(self.parameter)
        sizes = np.array([parse_size(choice) for choice in self.parameter.choices])[pool.ranks[:, column]]
        others = np.delete(pool.ranks, column, axis=1)
        known = np.zeros(len(pool), dtype=bool)
        for record in filter(self.unfelt, records):
            number = pool.number_of(record.configuration)
            if number is not None:
                dearer = ~(log_price < log_price[number] - _ROUNDING)  # or without a price
                known |= (others == others[number]).all(axis=1) & (sizes >= sizes[number]) & dearer
        return known

    def enough(self, pool: CandidatePool, record: TrialRecord) -> int | None:
        """The candidate that is the same server as that of this trial with the least limit that it would not have come
        near; None where that is no less than it had.
        """
        if record.state != "complete" or not self.unfelt(record):
            return None
        used, best = record.use.memory_peak_bytes or 0, self.size(record.configuration)
        found = None
        for choice in self.parameter.choices:
            if used <= _NEAR * parse_size(choice) < _NEAR * best:
                number = pool.number_of({**record.configuration, self.parameter.name: choice})
                found, best = (found, best) if number is None else (number, parse_size(choice))
        return found

    def servers(
        self, records: Sequence[TrialRecord], confirmations: Mapping[int, Sequence[TrialRecord]]
    ) -> dict[int, int]:
        """For each trial's number, that of the trial with the least memory that is the same server: often its own."""
        found = {record.number: record.number for record in records}
        alike: defaultdict[tuple[int | None, ...], list[Launches]] = defaultdict(list)
        for record in records:
            launches = tuple(one for one in (record, *confirmations.get(record.number, ())) if not undecided(one))
            if launches and self.unfelt(*launches) and all(one.state == "complete" for one in launches):
                alike[self.others(record.configuration)].append(launches)
        for group in alike.values():
            smallest, *larger = sorted(group, key=lambda launches: self.size(launches[0].configuration))
            found |= {one[0].number: smallest[0].number for one in larger if _same(smallest, one)}
        return found


def _same(smaller: Launches, larger: Launches) -> bool:
    """Whether the two used about as much memory, and held about as much."""
    used = [max(one.use.memory_peak_bytes or 0 for one in launches) for launches in (smaller, larger)]
    (log, variance), (other, other_variance) = map(_capacity, (smaller, larger))
    return used[1] <= _MORE * used[0] and abs(log - other) <= _UNLIKE * math.sqrt(variance + other_variance)


def _capacity(launches: Launches) -> tuple[float, float]:
    """The mean logarithm of the capacities, and its variance; not a number where there is none."""
    known = [one.capacity_qps for one in launches if one.capacity_qps is not None and one.capacity_qps.low > 0]
    if not known:
        return math.nan, 0.0
    variances = [LAUNCH_SPREAD**2 + (math.log(one.high / one.low) / _WIDTH) ** 2 for one in known]
    return sum(math.log(one.value) for one in known) / len(known), sum(variances) / len(known) ** 2
