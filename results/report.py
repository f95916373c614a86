"""The report of a study: one HTML file that opens offline without scripts, and the same in Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.files import write_text
from results.records import Recommendation, TrialRecord

_NONE = "\N{EN DASH}"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~])")


@dataclass(frozen=True)
class StudySummary:
    """All that a report shows. `current` is the trial of the configuration that is deployed today."""

    service: str
    recommendation: Recommendation
    records: tuple[TrialRecord, ...]
    confirmations: Mapping[int, TrialRecord]
    parameters: tuple[str, ...]
    slo: tuple[str, ...]
    objective: str
    current: TrialRecord | None
    space_size: str
    provenance: Mapping[str, str] = field(default_factory=dict)


def write_report(folder: Path, summary: StudySummary) -> None:
    """`report.html` and `report.md`. Raises OSError when they cannot be written."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("results"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=select_autoescape(["html.j2"]),
    )  # fmt: skip
    environment.filters |= {"figure": figure, "text": visible, "md": markdown, "size": size, "given": given}
    values: dict[str, Any] = {
        "study": summary,
        "best": summary.recommendation,
        "plot": scatter(summary),
    }
    for name in ("report.html", "report.md"):
        write_text(folder / name, environment.get_template(f"{name}.j2").render(values))


def figure(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits, without an exponent where people read none; a dash for none."""
    if value is None:
        return _NONE
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{decimals}f}"


def size(value: int | None) -> str:
    """Bytes in MiB."""
    return _NONE if value is None else f"{value / 2**20:,.0f} MiB"


def given(value: object) -> str:
    """A parameter's value as it is written in a spec."""
    return str(value).lower() if isinstance(value, bool) else visible(str(value))


def visible(text: str | None) -> str:
    """Control characters, terminal escapes among them, as their hexadecimal escapes."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text or "")


def markdown(text: object) -> str:
    """Text that Markdown and the HTML within it show as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(visible(str(text)).split()))


@dataclass(frozen=True)
class Point:
    """A complete trial in the picture, in its coordinates."""

    x: float
    y: float
    best: bool
    label: str


@dataclass(frozen=True)
class Plot:
    """Cost over capacity, both on logarithmic axes: `ticks` are positions with their numbers."""

    points: tuple[Point, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    width: int = 640
    height: int = 320


def scatter(summary: StudySummary) -> Plot | None:
    """None where fewer than two trials have both a capacity and a cost."""
    shown = [
        (record.capacity_qps.value, record.cost_per_million_requests, record)
        for record in summary.records
        if record.capacity_qps and record.capacity_qps.value > 0 and record.cost_per_million_requests
    ]
    if len(shown) < 2:
        return None
    place_x, x_ticks = _axis([x for x, _, _ in shown], 60, 620)
    place_y, y_ticks = _axis([y for _, y, _ in shown], 270, 20)
    points = tuple(
        Point(
            place_x(x), place_y(y), record.number == summary.recommendation.trial,
            f"trial {record.number}: {figure(x)} requests/s, {figure(y)} per million requests",
        )
        for x, y, record in shown
    )  # fmt: skip
    return Plot(points, x_ticks, y_ticks)


def _axis(values: list[float], start: float, end: float) -> tuple[Any, tuple[tuple[float, str], ...]]:
    """A logarithmic axis over the values, with a margin, and round ticks within it."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = 0.08 * (high - low) or 0.1
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return round(start + (math.log10(value) - low) / (high - low) * (end - start), 1)

    rounds = [
        m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    ]
    inside = [value for value in rounds if low <= math.log10(value) <= high]
    step = max(1, math.ceil(len(inside) / 6))
    return place, tuple((place(value), f"{value:g}") for value in inside[::step])
