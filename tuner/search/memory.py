"""What a memory limit that no launch came near says of larger ones: nothing else changes, so it is the same server.

A limit does nothing to a server that stays below it. So configurations that differ in such a limit alone are launched
as one: their launches count together, and where only the price is left to tell them apart the cheaper one is better.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from results import TrialRecord
from search_spaces import Configuration, Parameter, SearchSpace, parse_size
from tuner.search.candidates import Bools, CandidatePool
from tuner.search.launches import Floats

_NEAR = 0.95  # of its limit: a server that used more may have felt it
_ROUNDING = 1e-9  # of logarithms of prices


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
        """Whether these launches of one configuration all stayed below their limit, as far as is known of any."""
        used = [one.use.memory_peak_bytes for one in launches if one.use.memory_peak_bytes is not None]
        served = all(one.state in ("complete", "pruned") for one in launches)
        return served and bool(used) and max(used) <= _NEAR * self.size(launches[0].configuration)

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

    def servers(
        self, records: Sequence[TrialRecord], confirmations: Mapping[int, Sequence[TrialRecord]]
    ) -> dict[int, int]:
        """For each trial's number, that of the trial with the least memory that is the same server: often its own."""
        alike: defaultdict[tuple[int | None, ...], list[TrialRecord]] = defaultdict(list)
        for record in records:
            alike[self.others(record.configuration)].append(record)
        found = {}
        for group in alike.values():
            first: int | None = None
            for record in sorted(group, key=lambda one: self.size(one.configuration)):
                if first is None and self.unfelt(record, *confirmations.get(record.number, ())):
                    first = record.number
                found[record.number] = record.number if first is None else first
        return found
