"""What to do with what was measured: deploy, keep what runs today, or say how unsure it is.

A configuration is recommended in place of today's only where it is probably cheaper by more than nothing; it is said
to be the one to deploy only with the confidence that was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results import Estimate
from results.records import Action
from tuner.search.beliefs import Beliefs
from tuner.search.final import ALIKE

_PROBABLY = 0.8  # the least probability to be better than today's with which another is named at all


@dataclass(frozen=True)
class Doubt:
    """What keeps a decision from being sure (the end of "Uncertain, since ..."), and what would settle it; None: what
    settles any other.
    """

    reason: str
    advice: str | None = None


@dataclass(frozen=True)
class Decision:
    """`number` is the trial of the configuration that is recommended.

    `probability_best` is that no other of those measured is better, `probability_alike` that none is by more than 2%;
    `probability_better` that it is better than today's, None where it is today's, or there is none. `saving` is
    against today's, with the 95% interval of the difference. `doubt` is what the figures do not know.
    """

    number: int
    action: Action
    probability_best: float
    probability_alike: float
    probability_better: float | None = None
    saving: Estimate | None = None
    doubt: Doubt | None = None


def decide_deployment(
    beliefs: Beliefs, current: int | None, confidence: float, among: Sequence[int] | None = None, *,
    maximised: bool = False,
) -> Decision:  # fmt: skip
    """`current` is today's, None where none was named or it does not serve. `among` are those that may be recommended:
    the ones that were launched more than once (today's is always); all where it is None. `maximised`: more of the first
    metric is better.
    """
    if current is not None:
        worth = [one for one in (beliefs.numbers if among is None else among) if _worth_it(beliefs, one, current)]
        among = worth or [current]
    best = beliefs.best(among)
    found = (beliefs.probability_best(best), beliefs.probability_best(best, ALIKE))
    if current is None:
        return Decision(best, "deploy" if found[1] >= confidence else "uncertain", *found)
    if best == current:
        return Decision(best, "keep", *found)
    better = beliefs.probability_better(best, current)
    action: Action = "deploy" if beliefs.surely_better(best, current, confidence) else "uncertain"
    return Decision(best, action, *found, better, beliefs.saving(best, current, maximised=maximised))


def _worth_it(beliefs: Beliefs, best: int, current: int) -> bool:
    return beliefs.probability_better(best, current) >= _PROBABLY and beliefs.loss(best) < beliefs.loss(current) - ALIKE
