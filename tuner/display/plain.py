"""One plain line per event: for logs, pipes and CI."""

from __future__ import annotations

import sys
from pathlib import Path

from results import Recommendation, TrialRecord
from search_spaces import Configuration
from tuner.display.protocol import StudyOutline
from tuner.display.wording import confirmation_line, duration, harmless, result_lines, trial_line


class PlainDisplay:
    """Lines on standard error; the result on standard output."""

    def __init__(self) -> None:
        self._positions: dict[int, str] = {}

    def study_started(self, outline: StudyOutline) -> None:
        """Two lines of what is to come."""
        _say(f"{outline.service}: {outline.objective}, {outline.slo}")
        at_most = "" if outline.seconds_at_most is None else f", at most {duration(outline.seconds_at_most)} of load"
        _say(
            f"{outline.space_size} valid configurations of {outline.parameters} parameters; "
            f"{outline.budget - outline.finished} trials to go{at_most}; results in {outline.output}"
        )

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int) -> None:  # noqa: ARG002
        """Nothing to say yet: a line per finished trial is enough for a log."""
        self._positions[number] = f"[{position:>{len(str(budget))}}/{budget}]"

    def phase(self, number: int, name: str, fraction: float) -> None:
        """A log needs no phases."""

    def trial_finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """The trial, marked where it is the best so far."""
        mark = "  <- best so far" if best is not None and best.number == record.number else ""
        _say(trial_line(record, self._positions.pop(record.number, "")) + mark)

    def confirmation_started(self, first: TrialRecord, position: int, count: int) -> None:  # noqa: ARG002
        """Said once, before the first."""
        if position == 1:
            _say(
                f"the final: up to {count} fresh launches of the best, in turns" if count > 1 else "measuring it again"
            )

    def confirmation_finished(self, first: TrialRecord, again: TrialRecord) -> None:
        """Both measurements."""
        _say(confirmation_line(first, again))

    def notice(self, text: str) -> None:
        """A sentence on a line of its own."""
        _say(harmless(text))

    def recommended(self, recommendation: Recommendation, output: Path) -> None:
        """To standard output: this is the result."""
        lines = [*result_lines(recommendation), f"  files: {output}"]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing is held."""


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
