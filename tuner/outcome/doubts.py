"""What keeps a decision from being sure, whatever the figures say, and what would settle it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from results import TrialRecord
from runners.replay import NOT_IN_TABLE
from tuner.launch.checks.runnable import NOT_HERE
from tuner.search.beliefs import Beliefs
from tuner.search.decision import Decision, Doubt
from tuner.search.objective import undecided

_FAR = math.log(3)  # behind in the objective: what the load generator held back hardly makes up for so much

Launches = Mapping[int, Sequence[TrialRecord]]
ONCE = Doubt("it was launched once only")
UNCONFIRMED = Doubt("another, which was launched once only, is probably better")
_ABSENT = Doubt(
    "the current configuration was not measured",
    "Go on with `resume` and a larger budget, so that the current configuration is measured, too.",
)
_NOT_TOLD = "how good the current configuration is was not seen"
_ELSEWHERE = Doubt(
    _NOT_TOLD,
    "Measure where the current configuration can run, or leave `current:` out of the spec: then nothing is compared "
    "with it.",
)
_UNFINISHED = Doubt(
    _NOT_TOLD,
    "Make a new run, in which the current configuration is measured first; with a longer load.max_trial if that was "
    "too short for it.",
)


def does_not_serve(today: TrialRecord) -> bool:
    """Whether today's configuration was seen not to serve. One that was pruned or too short to tell, that cannot run
    here, or that is in no table may serve as well as any.
    """
    return today.state in ("infeasible", "failed") and not undecided(today) and not _is_elsewhere(today)


def doubts(
    decision: Decision, beliefs: Beliefs, confidence: float, today: TrialRecord | None, launches: Launches,
    serving: Sequence[int], *, names_current: bool,
) -> Iterator[Doubt]:  # fmt: skip
    """`today` is today's configuration by all of its launches, None where it was not tried; `names_current`: the spec
    names one. `launches` are those of each trial, its own first; `serving` the trials that serve.
    """
    best, compared = decision.number, decision.saving is not None
    if not any(one.state == "complete" for one in launches[best][1:]):
        yield ONCE
    if names_current and not compared and today is None:
        yield _ABSENT
    if today is not None and not compared and not does_not_serve(today):
        beaten = today.number in beliefs and beliefs.surely_better(best, today.number, confidence)
        if not beaten:  # as one that was pruned may be, by the bound that it showed
            yield _ELSEWHERE if _is_elsewhere(today) else _UNFINISHED
    of_best = [one for one in launches[best] if not undecided(one)]
    if lost := sum(one.state != "complete" for one in of_best):
        yield Doubt(
            f"it did not serve in {lost} of its {len(of_best)} launches",
            "The server.log of those launches, in the folder trials, may say why.",
        )
    rivals = [today.number] if compared and today is not None else serving
    if any(_is_held_back(launches[one], beliefs, one, best) for one in rivals if one != best):
        yield Doubt(
            f"{'the current' if compared else 'another'} configuration was held back by the load generator, or by "
            "neighbours, and may hold more",
            "More processes of the load generator (load.workers), or a machine of its own, would show more.",
        )
    trials = [shown[0] for shown in launches.values()]
    untold = sum(map(undecided, trials))
    if not compared and untold > len(trials) - untold:
        yield Doubt(
            f"{untold} of {len(trials)} trials were too short to tell",
            "A longer load.max_trial or a quieter machine lets them tell.",
        )


def _is_elsewhere(today: TrialRecord) -> bool:
    return (today.reason or "").startswith((NOT_IN_TABLE, NOT_HERE))


def _is_held_back(launches: Sequence[TrialRecord], beliefs: Beliefs, rival: int, best: int) -> bool:
    """Whether no launch of a rival showed its own limit, and it is not far behind."""
    served = [one for one in launches if one.state == "complete"]
    return all(one.bottleneck == "client" for one in served) and beliefs.loss(rival) - beliefs.loss(best) < _FAR
