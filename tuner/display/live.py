"""The live view on a terminal: finished trials as lines above; below, two lines of what runs and of the whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel

from results import Recommendation, TrialRecord
from results.percentiles import Percentile
from results.text import one_line
from search_spaces import Configuration
from tuner.display.progress import Running, Whole, running_lines, study_line
from tuner.display.protocol import StudyOutline
from tuner.display.wording import ahead, confirmation_line, lost_line, result_lines, space_line, spent_on, trial_line
from tuner.errors import as_asked, with_options

_STYLES = {"complete": "green", "pruned": "yellow", "infeasible": "magenta", "failed": "red"}
_PER_SECOND = 8


class LiveDisplay:
    """Progress on standard error; the result on standard output. `phase` comes from the trials' threads."""

    def __init__(
        self, console: Console | None = None, result: Console | None = None, *, currency: str = "",
        limited: tuple[Percentile, ...] = (),
    ) -> None:  # fmt: skip
        self._currency, self._limited = currency, limited
        self._noticed: set[str] = set()
        self._console = console or Console(stderr=True, highlight=False)
        self._result = result or Console(highlight=False)
        self._lock = threading.Lock()
        self._running: dict[int, Running] = {}
        self._whole: Whole | None = None
        self._live = Live(
            get_renderable=lambda: self, console=self._console, refresh_per_second=_PER_SECOND, transient=True
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The live part, as wide as the terminal is now."""
        with self._lock:
            yield from running_lines(list(self._running.values()), options.max_width)
            if self._whole is not None:
                yield study_line(self._whole, options.max_width)

    def study_started(self, outline: StudyOutline) -> None:
        """The outline as a panel; then the live part begins."""
        text = (
            f"{outline.objective}, {outline.slo}\n"
            f"[bold]{space_line(outline)}[/]\n"
            f"[bold]{ahead(outline)}[/]\n"
            f"results in {escape(str(outline.output))}"
        )
        self._console.print(Panel.fit(text, title=escape(f"tune {outline.service}")))
        self._currency, self._limited, earlier = outline.currency, outline.limited, outline.earlier
        self._whole = Whole(outline, earlier.count, earlier.spent, best=earlier.best)
        self._live.start()

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int | None) -> None:  # noqa: ARG002
        """The running trial appears below."""
        with self._lock:
            if self._whole is not None:  # others may have finished some, too
                self._whole.finished = max(self._whole.finished, position - 1 - len(self._running))
            self._running[number] = Running(number, configuration)

    def phase(self, number: int, name: str, fraction: float) -> None:
        """Moves the running trial's bar."""
        with self._lock:
            if (one := self._running.get(number)) is not None:
                one.phase, one.fraction = name, fraction

    def trial_finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """The trial's line, and the best so far."""
        is_best = best is not None and best.number == record.number
        style = "bold green" if is_best else _STYLES[record.state]
        seconds = self._end(record.number)
        if self._whole is not None:
            self._whole.add(record, best, seconds)
        self._say(trial_line(record, self._currency, self._limited), style)

    def trial_lost(self, number: int) -> None:
        """It runs no more."""
        self._end(number)
        self._say(lost_line(number), "dim")

    def confirmation_started(self, first: TrialRecord, position: int, count: int) -> None:
        """The running line says that this is a second measurement."""
        with self._lock:
            self._running[first.number] = Running(
                first.number, first.configuration, confirmation=f"{position} of {count}"
            )

    def confirmation_finished(self, first: TrialRecord, confirmation: TrialRecord) -> None:
        """Both measurements in one line."""
        self._end(first.number)
        if self._whole is not None:
            self._whole.spent += spent_on(confirmation)
        style = "green" if confirmation.state == "complete" else "red"
        self._say(confirmation_line(first, confirmation, self._currency, self._limited), style)

    def notice(self, text: str) -> None:
        """A dim line above the live part."""
        self._noticed.add(as_asked(text))
        self._say(one_line(with_options(text)), "dim")

    def recommended(self, recommendation: Recommendation, output: Path) -> None:
        """A panel on standard output."""
        self.close()
        first, *rest = result_lines(recommendation, output, self._noticed)
        body = "\n".join([f"[bold]{escape(first)}[/]", *(escape(line) for line in rest)])
        sure = recommendation.decision == "deploy"
        style = "red" if not recommendation.meets_slo else "green" if sure else "yellow"
        self._result.print(Panel(body, border_style=style))

    def close(self) -> None:
        """The cursor and the last lines are the user's again."""
        self._live.stop()

    def _say(self, line: str, style: str) -> None:
        self._console.print(escape(line), style=style)

    def _end(self, number: int) -> float:
        """How long it took."""
        with self._lock:
            one = self._running.pop(number, None)
        return 0.0 if one is None else time.monotonic() - one.started
