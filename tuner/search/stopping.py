"""When another trial is not worth what it costs, or will fail as all did.

Worth: the share that the next trial is expected to save, times what the best so far costs in a month. Cost: the time
that a trial takes, at the price of its container and of somebody who waits for the result. What is expected to save
less than a measurement can tell apart is worth nothing; where there are no prices that alone decides.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Collection, Sequence

from loadtest import WARMUP_FAILED, may_be_load
from results import TrialRecord
from results.text import in_common, money
from search_spaces import Parameter
from search_spaces.reading import foreign
from tuner.search.objective import Objective

MIN_TRIALS, _MAX_TRIALS = 8, 100
_MAX_WITHIN_LIMITS = 300  # of time or money: from there on the search takes more than a second per trial
WAITING_PER_HOUR = 20.0  # in the currency of the prices: what an hour of waiting for the tuner is worth
MIN_SHARE = 0.005  # of the best: two measurements of one configuration differ by more
_ALIKE = 5  # failures with the same reason, and nothing else: the service is at fault, not a configuration
_COUNT = re.compile(r" \(\d+\)(?=,|$)")  # of failures of one kind
_HOURS_A_MONTH = 730.0
_USUAL_TRIAL_S = 60.0


def max_trials(budget: int | None, *, limited: bool) -> int:
    """The most trials of a study: its `budget`, or a bound where it has none. `limited`: time or money ends it."""
    if budget is not None:
        return budget
    return _MAX_WITHIN_LIMITS if limited else _MAX_TRIALS


def why_no_more(count: int, *, limited: bool) -> str:
    """Why a study without a number of trials ends after so many, as a sentence."""
    if not limited:
        return f"Stopped after {count} trials, the most that are made where no number was given."
    return (
        f"Stopped after {count} trials, the most that are made within a time or a cost alone; a number of trials as "
        "`budget` beside it allows more."
    )


def why_give_up(
    records: Sequence[TrialRecord], before: Collection[int] = (), parameters: Sequence[Parameter] = ()
) -> str | None:
    """A sentence where no server has served at all, or none has answered as it should, and every trial says the same
    of it; None else. Trials `before` (their numbers) were an earlier run's: what they failed of may have been mended.
    Wrong answers may be those of one choice (a model, a length), so none of the `parameters` has one in all of them.
    """
    new = [record for record in records if record.number not in before]
    reasons = {frozenset(_kinds(record)) for record in new}
    if len(new) < _ALIKE or len(reasons) > 1 or not all(map(_never_served, records)):
        return None
    answered = new[-1].state == "infeasible"
    several = [one.name for one in parameters if len(one.choices) > 1]
    if answered and any(len({record.configuration.get(name) for record in new}) == 1 for name in several):
        return None
    why = foreign(new[-1].reason or "").rstrip(".")
    what = "most requests were not answered as they should be" if answered else "no server served"
    return f"Stopped after {len(new)} trials: {what}, and all failed alike: {why}. Mend that, then `resume` goes on."


def _never_served(record: TrialRecord) -> bool:
    """Whether its server did not start, or answered wrongly, and not for being overloaded."""
    if record.state == "infeasible":
        return WARMUP_FAILED in (record.reason or "") and not any(map(may_be_load, _kinds(record)))
    return record.state == "failed" and record.timing.launch_s is None


def _kinds(record: TrialRecord) -> list[str]:
    """What a trial says of its failure, but for what is of this launch alone: one sentence, or several kinds of wrong
    answers.
    """
    reason = in_common(record.reason or "", record.configuration)
    if WARMUP_FAILED not in reason:
        return [reason]
    return _COUNT.sub("", reason.partition(f"{WARMUP_FAILED}: ")[2]).split(", ")


def why_stop(
    expected_improvement: float, objective: Objective, best: TrialRecord, records: Sequence[TrialRecord],
    currency: str,
) -> str | None:  # fmt: skip
    """A sentence, or None where another trial is worth it. `expected_improvement` is a share of the best's figure."""
    if len(records) < MIN_TRIALS:
        return None
    begun = (
        f"Stopped after {len(records)} trials: another is expected to be better by {expected_improvement:.2%} at most"
    )
    values = objective.values(best)
    hourly = values[0] if values and objective.metrics[0] == "cost_per_hour" else best.cost_per_hour
    if expected_improvement < MIN_SHARE:
        return f"{begun}, which is less than {MIN_SHARE:.1%}."
    if not hourly or objective.by_energy:
        return None  # energy has no price here
    seconds = statistics.median(
        [record.timing.took_s for record in records if record.timing.wall_s] or [_USUAL_TRIAL_S]
    )
    worth = expected_improvement * hourly * _HOURS_A_MONTH
    cost = seconds / 3600 * (hourly + WAITING_PER_HOUR)
    if worth >= cost:
        return None
    saved, price = money(worth, currency), money(cost, currency)
    return f"{begun}, {saved} a month; it would cost {price} ({seconds:.0f} s of a container and of waiting)."
