"""The live part of the terminal as text of a given width: what runs now, and the study as a whole.

A line is the sum of what must be seen (a number, a bar) and what may be cut short at the right edge, so that a narrow
terminal loses words and never the bar.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.text import Text

from results import TrialRecord
from results.text import assigned, counted, duration, money, one_line
from search_spaces import Configuration
from tuner.display.protocol import StudyOutline
from tuner.display.wording import measured, paid, spent_on

_NARROW, _WIDE = 8, 24  # columns of a bar
_UNITS_FROM, _WORDS_FROM = 96, 130  # columns of a terminal from which the best has its unit, and lines all their words
_FULL, _PARTS = "\N{FULL BLOCK}", " \u258f\u258e\u258d\u258c\u258b\u258a\u2589"
_SPINNER = "\u280b\u2819\u2839\u2838\u283c\u2834\u2826\u2827\u2807\u280f"
_MAX_SHOWN = 4  # of trials that run at once


@dataclass
class Running:
    """A trial under way: what it does, and how much of its time limit has passed (0 to 1)."""

    number: int
    configuration: Configuration
    confirmation: str = ""  # `2 of 3` where the best are measured again
    phase: str = "launch"
    fraction: float = 0.0
    started: float = field(default_factory=time.monotonic)


@dataclass
class Whole:
    """The study so far. Times are of this process: what earlier runs took says nothing about this machine."""

    outline: StudyOutline
    finished: int
    spent: float
    seconds: list[float] = field(default_factory=list)
    best: TrialRecord | None = None

    def add(self, record: TrialRecord, best: TrialRecord | None, seconds: float) -> None:
        """Count a trial that is over."""
        self.finished += 1
        self.spent += spent_on(record)
        self.seconds.append(seconds)
        self.best = best

    def left_s(self) -> float | None:
        """How long it may still take, going by the trials so far; the estimate before the first is over."""
        budget = self.outline.budget
        if not self.seconds:
            return budget.max_load_s
        by_trials = self._used_s / len(self.seconds) * max(0, budget.trials - self.finished)
        time_left_s = budget.time_left_s
        return by_trials if time_left_s is None else min(by_trials, max(0.0, time_left_s - self._used_s))

    def done(self) -> float:
        """How much of the budget is used, from 0 to 1: of the trials or the time, whichever is nearer its end."""
        budget = self.outline.budget
        by_trials = self.finished / max(1, budget.trials)
        return max(by_trials, self._used_s / budget.time_left_s if budget.time_left_s else 0.0)

    @property
    def _used_s(self) -> float:
        return sum(self.seconds) / self.outline.parallel


def running_lines(running: Sequence[Running], width: int) -> list[Text]:
    """A line per trial under way."""
    lines = [_running_line(one, width) for one in running[:_MAX_SHOWN]]
    if len(running) > _MAX_SHOWN:
        lines.append(Text(f"  and {len(running) - _MAX_SHOWN} more trials", style="dim"))
    return lines


def _running_line(one: Running, width: int) -> Text:
    spinner = _SPINNER[int(time.monotonic() * 10) % len(_SPINNER)]
    line = Text(f"{spinner} #{one.number:<3} ", no_wrap=True)
    line.append(bar(one.fraction, width), style="cyan")
    line.append(f" {one_line(one.phase)}", style="bold")
    line.append(f" (again, {one.confirmation})" if one.confirmation else "", style="magenta")
    line.append(f"  {one_line(assigned(one.configuration))}", style="dim")
    return _cut(line, width)


def study_line(whole: Whole, width: int) -> Text:
    """Trials, time left, money so far, and the best with its interval; in fewer words on a narrow terminal."""
    budget, currency, narrow = whole.outline.budget, whole.outline.currency, width < _WORDS_FROM
    line = Text("  ", no_wrap=True)
    line.append(bar(whole.done(), width), style="green")
    trials = f"{whole.finished}/{budget.trials}" + ("" if narrow else " trials")
    line.append(" " + (counted(whole.finished, "trial") if budget.open_ended else trials), style="bold")
    left_s = whole.left_s()
    if left_s is not None and whole.finished < budget.trials:
        about = "" if narrow else "about " if whole.seconds and not budget.open_ended else "at most "
        line.append(f", {about}{duration(left_s)} left")
    if whole.spent > 0:
        line.append(f", {money(whole.spent, currency)}" + ("" if narrow else " so far"))
    line.append(", " + _best(whole.best, currency, width), style="green" if whole.best else "dim")
    return _cut(line, width)


def _best(best: TrialRecord | None, currency: str, width: int) -> str:
    if best is None:
        return "nothing meets the SLO yet"
    if best.cost_per_million_requests is not None:
        text = paid(best, currency)
        if width < _WORDS_FROM:
            unit = "/million" if width >= _UNITS_FROM else ""
            text = text.replace(" per million", unit).replace(" to ", "\N{EN DASH}")
        return f"best #{best.number} {text}"
    rate = "" if best.capacity_qps is None else f" {measured(best.capacity_qps, 'req/s')}"
    return f"best #{best.number}{rate}"


def bar(fraction: float, width: int) -> str:
    """A bar with eighths of a column; it is narrower on a narrow terminal, and always there."""
    columns = min(_WIDE, _NARROW + max(0, width - 90) // 4)
    eighths = round(min(1.0, max(0.0, fraction)) * columns * 8)
    full, part = divmod(eighths, 8)
    filled = _FULL * full + (_PARTS[part] if part else "")
    return f"\u2595{filled:<{columns}}\u258f"


def _cut(line: Text, width: int) -> Text:
    line.truncate(max(1, width), overflow="ellipsis")
    return line
