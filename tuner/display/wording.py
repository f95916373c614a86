"""Records as short texts, the same on every display; text from a server or a spec cannot steer the terminal."""

from __future__ import annotations

import re

from results import Recommendation, TrialRecord
from results.text import assigned

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """Control characters, which could steer the terminal, shown as their hexadecimal escape instead."""
    return _CONTROL.sub(lambda match: " " if match[0] in "\n\t" else f"\\x{ord(match[0]):02x}", text)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `1.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def outcome(record: TrialRecord) -> str:
    """What a trial found: capacity, p99 and cost, or its reason."""
    if record.state != "complete" or record.capacity_qps is None:
        return harmless(record.reason or "")
    parts = [f"{record.capacity_qps.value:.4g} req/s"]
    if record.p99_ms is not None:
        parts.append(f"p99 {record.p99_ms.value:.3g} ms")
    if record.cost_per_million_requests is not None:
        parts.append(f"{record.cost_per_million_requests:.4g} per million")
    if record.bottleneck:
        parts.append(record.bottleneck)
    return ", ".join(parts)


def trial_line(record: TrialRecord, position: str) -> str:
    """One line per finished trial."""
    return f"{position} {record.state:<10} {harmless(assigned(record.configuration))}: {outcome(record)}"


def confirmation_line(first: TrialRecord, again: TrialRecord) -> str:
    """Both measurements of one configuration in one line."""
    return f"again      {harmless(assigned(first.configuration))}: {outcome(again)} (at first {outcome(first)})"


def result_lines(recommendation: Recommendation) -> list[str]:
    """The recommendation as lines: the configuration first, then the reasons."""
    if recommendation.configuration is None:
        return ["No configuration met the SLO.", *(f"  {harmless(reason)}" for reason in recommendation.reasons)]
    start = {"keep": "Keep what you have", "uncertain": "Recommended, though uncertain"}.get(
        recommendation.decision or "", "Recommended"
    )
    lines = [f"{start}: {harmless(assigned(recommendation.configuration))}"]
    lines += [f"  {harmless(reason)}" for reason in recommendation.reasons]
    return [*lines, f"  confirmed: {str(recommendation.confirmed).lower()}"]
