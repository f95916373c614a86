"""One plain line per event: for logs, pipes and CI."""

from __future__ import annotations

import sys
from pathlib import Path

from results import Recommendation, TrialRecord
from results.percentiles import Percentile
from results.text import one_line
from search_spaces import Configuration
from tuner.display.protocol import StudyOutline
from tuner.display.wording import ahead, confirmation_line, lost_line, result_lines, space_line, trial_line
from tuner.errors import as_asked, with_options


class PlainDisplay:
    """Lines on standard error; the result on standard output."""

    def __init__(self, currency: str = "", limited: tuple[Percentile, ...] = ()) -> None:
        self._currency, self._limited = currency, limited
        self._noticed: set[str] = set()
        self._finished, self._running = 0, 0
        self._budget: int | None = None

    def study_started(self, outline: StudyOutline) -> None:
        """Two lines of what is to come."""
        self._currency, self._limited, self._finished = outline.currency, outline.limited, outline.earlier.count
        _say(f"{outline.service}: {outline.objective}, {outline.slo}")
        _say(f"{space_line(outline)}; {ahead(outline)}; results in {outline.output}")

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int | None) -> None:  # noqa: ARG002
        """Nothing to say yet: a line per finished trial is enough for a log."""
        self._budget = budget
        self._finished = max(self._finished, position - 1 - self._running)  # others may have finished some, too
        self._running += 1

    def phase(self, number: int, name: str, fraction: float) -> None:
        """A log needs no phases."""

    def trial_finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """The trial, marked where it is the best so far."""
        mark = "  <- best so far" if best is not None and best.number == record.number else ""
        self._finished, self._running = self._finished + 1, self._running - 1
        goal = "" if self._budget is None else str(self._budget)
        done = f"{self._finished:>{len(goal) or 3}}{goal and '/'}{goal} done"
        _say(f"{trial_line(record, self._currency, self._limited)}  [{done}]{mark}")

    def trial_lost(self, number: int) -> None:
        """It is no longer under way here, and whoever has taken it up finishes it."""
        self._running -= 1
        _say(lost_line(number))

    def confirmation_started(self, first: TrialRecord, position: int, count: int) -> None:  # noqa: ARG002
        """Said once, before the first."""
        if position == 1:
            _say(
                f"the final: up to {count} fresh launches of the best, in turns" if count > 1 else "measuring it again"
            )

    def confirmation_finished(self, first: TrialRecord, confirmation: TrialRecord) -> None:
        """Both measurements."""
        _say(confirmation_line(first, confirmation, self._currency, self._limited))

    def notice(self, text: str) -> None:
        """A sentence on a line of its own."""
        self._noticed.add(as_asked(text))
        _say(one_line(with_options(text)))

    def recommended(self, recommendation: Recommendation, output: Path) -> None:
        """The result, on standard output."""
        sys.stdout.write("\n".join(result_lines(recommendation, output, self._noticed)) + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing is held."""


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
