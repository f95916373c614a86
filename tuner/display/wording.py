"""Records as short texts, the same on every display; text from a server or a spec cannot steer the terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from results import Estimate, Recommendation, TrialRecord
from results.percentiles import Percentile, seen, shown_percentiles
from results.text import assigned, counted, duration, figure, interval, money, one_line
from tuner.display.protocol import StudyOutline


def outcome(record: TrialRecord, currency: str, limited: Sequence[Percentile]) -> str:
    """What a trial found, each figure with its 95% interval: cost, capacity, the percentiles that the SLO limits (or
    the p99) and bottleneck; or its reason.
    """
    if record.state != "complete" or record.capacity_qps is None:
        return one_line(record.reason or "")
    parts = [paid(record, currency)] if record.cost_per_million_requests is not None else []
    parts.append(measured(record.capacity_qps, "req/s"))
    shown = shown_percentiles(limited, [record])
    parts += [f"{one.name} {measured(found, 'ms')}" for one in shown if (found := one.of(record)) is not None]
    if where := seen(record, shown):
        parts[-1] += f" {where}"
    if record.bottleneck:
        parts.append(f"bottleneck {record.bottleneck}")
    return ", ".join(parts)


def measured(found: Estimate, unit: str) -> str:
    """`86.1 req/s (69.0 to 103)`; without an interval where nothing is uncertain, as in a recorded table."""
    between = interval(found)
    return f"{figure(found.value)} {unit}" + (f" ({between})" if between else "")


def paid(record: TrialRecord, currency: str) -> str:
    """`$0.141 per million (0.118 to 0.176)`: the price is known, so its interval is that of the capacity."""
    text = f"{money(record.cost_per_million_requests, currency)} per million"
    capacity, cost = record.capacity_qps, record.cost_per_million_requests
    if capacity is None or cost is None or interval(capacity) is None or capacity.low <= 0:
        return text
    low, high = cost * capacity.value / capacity.high, cost * capacity.value / capacity.low
    return f"{text} ({figure(low)} to {figure(high)})"


def spent_on(record: TrialRecord) -> float:
    """What the trial's containers cost while it ran."""
    return (record.cost_per_hour or 0.0) * record.timing.took_s / 3600


def ahead(outline: StudyOutline) -> str:
    """`20 trials to go, at most 8 min of load`; `up to 100 trials to go` where no number of trials was asked for;
    `0 trials to go` where a study that is resumed has spent its budget.
    """
    budget = outline.budget
    at_most = "" if budget.max_load_s is None else f", at most {duration(budget.max_load_s)} of load"
    up_to = "up to " if budget.open_ended else ""
    return f"{up_to}{counted(max(0, budget.trials - outline.earlier.count), 'trial')} to go{at_most}"


def space_line(outline: StudyOutline) -> str:
    """`20 valid configurations of 4 parameters`."""
    space = outline.space
    return f"{counted(space.size, 'valid configuration')} of {counted(space.parameters, 'parameter')}"


def trial_line(record: TrialRecord, currency: str, limited: Sequence[Percentile] = ()) -> str:
    """One line per finished trial, by the number that every table and folder has for it."""
    shown = one_line(assigned(record.configuration))
    return f"#{record.number:<3} {record.state:<10} {shown}: {outcome(record, currency, limited)}"


def lost_line(number: int) -> str:
    """One line for a trial of which no record is kept."""
    return f"trial {number} does not count: another process has taken it up meanwhile"


def confirmation_line(
    first: TrialRecord, confirmation: TrialRecord, currency: str, limited: Sequence[Percentile] = ()
) -> str:
    """Both measurements of one configuration in one line."""
    shown = one_line(assigned(first.configuration))
    before = f" (at first {measured(first.capacity_qps, 'req/s')})" if first.capacity_qps else ""
    return f"#{first.number:<3} again      {shown}: {outcome(confirmation, currency, limited)}{before}"


def result_lines(recommendation: Recommendation, output: Path, noticed: Collection[str] = ()) -> list[str]:
    """The recommendation as lines: the configuration first, then the reasons, and the folder of its files. What the run
    has said already, such as why its search ended, is left out.
    """
    reasons = [f"  {one_line(one)}" for one in recommendation.reasons if one not in noticed]
    files = f"  files: {one_line(str(output))}"
    if recommendation.configuration is None:
        kept = next((one for one in ("*/server.log", "*/*/server.log") if any(output.glob(f"trials/{one}"))), None)
        also = [f"  the servers' logs: {one_line(str(output / 'trials'))}/{kept}"] if kept else []
        return [f"{recommendation.trials.why_nothing}.", *reasons, files, *also]
    start = {"keep": "Keep what you have", "uncertain": "Recommended, though uncertain"}.get(
        recommendation.decision or "", "Recommended"
    )
    if reasons and reasons[0].startswith(said := f"  {start}: "):  # not the same words twice
        rest = reasons[0].removeprefix(said)
        reasons[0] = f"  {rest[:1].upper()}{rest[1:]}"
    first = f"{start}: {one_line(assigned(recommendation.configuration))}"
    return [first, *reasons, files]
