"""What the search expects when it ends: of each trial, going by the others, and of what was not tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuner.search.launches import Expectation


@dataclass(frozen=True)
class Outlook:
    """What the search expected when it ended: of each trial's log capacity by the other trials, and of the best
    configuration that was not tried, as a share of the best's cost (None: not known).
    """

    expected: Mapping[int, Expectation] = field(default_factory=dict)
    untried_improvement: float | None = None

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Outlook:
        """Read what `stored` made. Raises AttributeError, TypeError or ValueError for anything else."""
        expected = {int(number): Expectation(*map(float, pair)) for number, pair in stored["expected"].items()}
        untried = stored.get("untried_improvement")
        return cls(expected, None if untried is None else float(untried))

    def stored(self) -> dict[str, Any]:
        """The outlook as plain values, which the study keeps and `read` takes."""
        expected = {str(number): [one.mean, one.spread] for number, one in self.expected.items()}
        return {"expected": expected, "untried_improvement": self.untried_improvement}
