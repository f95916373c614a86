"""Records as short texts, the same on every display; text from a server or a spec cannot steer the terminal."""

from __future__ import annotations

import re

from results import Estimate, Recommendation, TrialRecord
from results.text import assigned, duration, figure, interval, money, one_line, seen_at
from tuner.display.protocol import StudyOutline

# What messages name in backticks as an argument in Python, and the command line has as an option.
_ARGUMENT = re.compile(
    "`(budget|keep|max_cost|mlflow_tracking_uri|name|otlp_endpoint|output|parallel|qps|resume|runner|storage|traffic"
    "|trial|wandb_dir|warm_start)`"
)
_OTHERWISE = {"name": "--study"}


def with_options(text: str) -> str:
    """A message as the command line says it: its option (--max-cost) in place of Python's argument (`max_cost`)."""
    return _ARGUMENT.sub(lambda found: _OTHERWISE.get(found[1], "--" + found[1].replace("_", "-")), text)


def outcome(record: TrialRecord, currency: str) -> str:
    """What a trial found, each figure with its 95% interval: cost, capacity, p99 and bottleneck; or its reason."""
    if record.state != "complete" or record.capacity_qps is None:
        return one_line(record.reason or "")
    parts = [paid(record, currency)] if record.cost_per_million_requests is not None else []
    parts.append(measured(record.capacity_qps, "req/s"))
    if record.latency.p99_ms is not None:
        seen = seen_at(record.latency.latencies_at_qps, record.latency.latencies_from_requests)
        parts.append(f"p99 {measured(record.latency.p99_ms, 'ms')}" + (f" {seen}" if seen else ""))
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
    return (record.cost_per_hour or 0.0) * (record.timing.wall_s or record.timing.load_s or 0.0) / 3600


def ahead(outline: StudyOutline) -> str:
    """`20 trials to go, at most 8 min of load`."""
    trials = outline.budget - outline.finished
    at_most = "" if outline.seconds_at_most is None else f", at most {duration(outline.seconds_at_most)} of load"
    return f"{'1 trial' if trials == 1 else f'{trials} trials'} to go{at_most}"


def trial_line(record: TrialRecord, currency: str) -> str:
    """One line per finished trial, by the number that every table and folder has for it."""
    shown = one_line(assigned(record.configuration))
    return f"#{record.number:<3} {record.state:<10} {shown}: {outcome(record, currency)}"


def confirmation_line(first: TrialRecord, confirmation: TrialRecord, currency: str) -> str:
    """Both measurements of one configuration in one line."""
    shown = one_line(assigned(first.configuration))
    before = f" (at first {measured(first.capacity_qps, 'req/s')})" if first.capacity_qps else ""
    return f"#{first.number:<3} again      {shown}: {outcome(confirmation, currency)}{before}"


def result_lines(recommendation: Recommendation) -> list[str]:
    """The recommendation as lines: the configuration first, then the reasons."""
    if recommendation.configuration is None:
        return ["No configuration met the SLO.", *(f"  {one_line(reason)}" for reason in recommendation.reasons)]
    start = {"keep": "Keep what you have", "uncertain": "Recommended, though uncertain"}.get(
        recommendation.decision or "", "Recommended"
    )
    lines = [f"{start}: {one_line(assigned(recommendation.configuration))}"]
    lines += [f"  {one_line(reason)}" for reason in recommendation.reasons]
    return [*lines, f"  confirmed: {str(recommendation.confirmed).lower()}"]
