"""What keeps a decision from being sure, whatever the figures say: each as the end of "Uncertain, since ..."."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from results import TrialRecord
from runners.replay import NOT_IN_TABLE
from tuner.launch.checks.runnable import NOT_HERE
from tuner.search.decision import Decision
from tuner.search.objective import undecided

Launches = Mapping[int, Sequence[TrialRecord]]


def does_not_serve(today: TrialRecord) -> bool:
    """Whether today's configuration was seen not to serve. One that was pruned or too short to tell, that cannot run
    here, or that is in no table may serve as well as any.
    """
    if undecided(today) or (today.reason or "").startswith((NOT_IN_TABLE, NOT_HERE)):
        return False
    return today.state in ("infeasible", "failed")


def doubts(
    decision: Decision, today: TrialRecord | None, records: Sequence[TrialRecord], confirmations: Launches,
    serving: Sequence[int], *, names_current: bool,
) -> Iterator[str]:  # fmt: skip
    """`today` is today's configuration by all of its launches, None where it was not tried; `names_current`: the spec
    names one. `records` are the trials, `serving` those that serve.
    """
    launches = {one.number: [one, *confirmations.get(one.number, ())] for one in records}
    again = confirmations.get(decision.number, ())
    if not any(one.state == "complete" for one in again):
        yield "it was launched once only"
    compared = decision.saving is not None  # with today's
    if names_current and not compared:
        if today is None:
            yield "the current configuration was not measured"
        elif not does_not_serve(today):
            yield "how good the current configuration is was not seen"
    of_best = [one for one in launches[decision.number] if not undecided(one)]
    if lost := sum(one.state != "complete" for one in of_best):
        yield f"it did not serve in {lost} of its {len(of_best)} launches"
    rivals = [today.number] if compared and today is not None else serving
    if any(one.bottleneck == "client" for number in rivals if number != decision.number for one in launches[number]):
        rival = "the current configuration" if compared else "another configuration"
        yield f"{rival} was held back by the load generator alone, and may hold more"
    untold = sum(map(undecided, records))
    if not compared and untold > len(records) - untold:
        yield f"{untold} of {len(records)} trials were too short to tell"
