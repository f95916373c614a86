"""The final: who is launched again, so that the best of what was measured is known and not guessed.

It goes by rounds, one launch each, since a machine that is slow for a while is then slow for all. In each are those
that could be the best by all that is known of them, and always the configuration that is deployed today, until it is
surely beaten. It ends when the answer is sure, or its share of the budget is spent; but not before the one that is
expected to be the best was launched again, with today's beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.search.beliefs import Beliefs
from tuner.spec.model import FINAL_OVERTIME, final_launches

ALIKE = 0.02  # a difference in cost for which nobody would redeploy
_HOPE = 0.1  # the least probability to be the best with which a configuration stays in the race
_AT_ONCE = 3  # in a round, today's besides
_SURELY = 0.99  # today's is beaten, whatever the confidence


@dataclass(frozen=True)
class FinalRules:
    """`confidence` is the probability asked for. `share` of the number of trials is how many launches it may take."""

    confidence: float = 0.95
    share: float = 0.4

    def launches(self, trials: int) -> int:
        """How many launches at most, after so many trials."""
        return final_launches(self.share, trials)


def next_round(
    beliefs: Beliefs, current: int | None, confirmations: Mapping[int, int], left: int, rules: FinalRules
) -> tuple[int, ...]:
    """The numbers of those to launch next, in this order; empty when it is over.

    `current` is today's, None where there is none that serves. `confirmations` counts the launches of the final so far,
    and `left` those that it may still take.
    """
    if not beliefs.numbers:
        return ()
    best = beliefs.best()
    if left <= 0:
        if not confirmations or best in confirmations:
            return ()
        return (best, *(() if current in (None, best) else (current,)))[: max(0, left + FINAL_OVERTIME)]
    measured = confirmations.get(best, 0) and (current is None or confirmations.get(current, 0))
    if measured and is_sure(beliefs, best, current, rules.confidence):
        return ()
    chances = {number: beliefs.probability_best(number) for number in beliefs.numbers}
    chosen = [best]
    for one in sorted(chances, key=lambda one: (-chances[one], one)):
        told = any(one in (other, *beliefs.same_server(other)) for other in chosen)  # one of a server speaks for all
        if chances[one] >= _HOPE and not told and len(chosen) < _AT_ONCE:
            chosen.append(one)
    beaten = current is not None and current in confirmations and beliefs.probability_better(best, current) >= _SURELY
    if current is not None and current not in chosen and not beaten:
        chosen.insert(1, current)
    return tuple(chosen[:left])


def is_sure(beliefs: Beliefs, best: int, current: int | None, confidence: float) -> bool:
    """Whether it is the best, or as good as, with that probability, and better than today's where it is another."""
    if beliefs.probability_best(best, ALIKE) < confidence:
        return False
    return current is None or current == best or beliefs.surely_better(best, current, confidence)
