"""What identifies a study: one value, written once when the study is created, and read by every process that joins it.

A process that goes on with a study, or helps with it, takes its seed, budget and warm start from here and not from its
own command line, so that all of them make the same search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from results import TrialRecord
from tuner.errors import UsageError
from tuner.study.budget import UNLIMITED, Limits


def moved(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """A sentence where a run goes on with another kind of runner than its study had, by what their specs say."""
    old, new = ((one.get("runner") or {}).get("type", "process") for one in (before, now))
    if old != new:
        yield f"the study was on {old}, and goes on with {new}: figures may differ (`runner` {old} goes on as before)"


@dataclass(frozen=True)
class StudyPlan:
    """`content` is what the spec's file says. `budget` counts trials of all processes and runs together; None: until
    another trial is not worth what it costs. `limits` are those of time and money. `warm_start` holds records of other
    studies to learn from. `provenance` says where, when and with what the study was begun.
    """

    content: Mapping[str, Any]
    seed: int = 0
    budget: int | None = None
    warm_start: tuple[TrialRecord, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = UNLIMITED

    def stored(self) -> dict[str, Any]:
        """The plan as plain values, for the key PLAN; `tuner.study.storage.damage.known_plan` reads them."""
        return {
            "spec": dict(self.content),
            "seed": self.seed,
            "budget": self.budget,
            "warm_start": [one.model_dump(mode="json") for one in self.warm_start],
            "provenance": dict(self.provenance),
            "limits": {"seconds": self.limits.seconds, "cost": self.limits.cost},
        }

    def resumed(
        self, content: Mapping[str, Any], seed: int | None, warm_start: Sequence[TrialRecord], budget: int | None,
        limits: Limits, *, budget_given: bool,
    ) -> StudyPlan:  # fmt: skip
        """The plan of a run that goes on: what it does not say stays; a new budget, of whatever kind, replaces the old.
        The spec is kept as it is now, with what of it may change meanwhile (`current`, `runner`, how sure the decision
        must be): whoever looks at the study later decides as this run does.

        Raises UsageError where it says another seed or warm start than the study was begun with.
        """
        if seed is not None and seed != self.seed:
            raise UsageError(
                f"the study was begun with the seed {self.seed}, not {seed}\n"
                "Leave the seed out to go on with it, or start another study."
            )
        if warm_start and tuple(warm_start) != self.warm_start:
            raise UsageError(
                f"the study was begun with {len(self.warm_start)} warm-start records, and these are others\n"
                "A warm start belongs to a study's beginning: leave it out to go on, or start another study."
            )
        now = replace(self, content=content)
        return replace(now, budget=budget, limits=limits) if budget_given else now
