"""The live view on a terminal: finished trials as lines above, the running one with its phase and progress below."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from results import Recommendation, TrialRecord
from results.text import assigned
from search_spaces import Configuration
from tuner.display.protocol import StudyOutline
from tuner.display.wording import confirmation_line, duration, harmless, outcome, result_lines, trial_line

_STYLES = {"complete": "green", "pruned": "yellow", "infeasible": "magenta", "failed": "red"}


class LiveDisplay:
    """rich's progress bars on standard error; the result on standard output."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn(),
            console=self._console, transient=True,
        )  # fmt: skip
        self._study = self._progress.add_task("study", total=1, visible=False)
        self._tasks: dict[int, TaskID] = {}
        self._positions: dict[int, str] = {}
        self._what: dict[int, str] = {}

    def study_started(self, outline: StudyOutline) -> None:
        """The outline as a panel; then the live part begins."""
        at_most = "" if outline.seconds_at_most is None else f", at most {duration(outline.seconds_at_most)} of load"
        text = (
            f"{outline.objective}, {outline.slo}\n"
            f"[bold]{outline.space_size}[/] valid configurations of {outline.parameters} parameters\n"
            f"[bold]{outline.budget - outline.finished}[/] trials to go{at_most}\n"
            f"results in {escape(str(outline.output))}"
        )
        self._console.print(Panel.fit(text, title=escape(f"tune {outline.service}")))
        self._progress.update(self._study, total=outline.budget, completed=outline.finished)
        self._progress.start()

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int) -> None:
        """The running trial appears below."""
        self._positions[number] = f"[{position:>{len(str(budget))}}/{budget}]"
        self._begin(number, assigned(configuration))
        self._progress.update(self._study, visible=True)

    def phase(self, number: int, name: str, fraction: float) -> None:
        """Moves the running trial's bar."""
        if number in self._tasks:
            text = f"{escape(harmless(self._what[number]))} [cyan]{escape(name)}[/]"
            self._progress.update(self._tasks[number], description=text, completed=fraction)

    def trial_finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """The trial's line, and the best so far."""
        is_best = best is not None and best.number == record.number
        style = "bold green" if is_best else _STYLES[record.state]
        self._console.print(escape(trial_line(record, self._positions.pop(record.number, ""))), style=style)
        shown = (
            "nothing meets the SLO yet" if best is None else f"best: {assigned(best.configuration)}: {outcome(best)}"
        )
        self._progress.update(self._study, advance=1, description=escape(harmless(shown)))
        self._end(record.number)

    def confirmation_started(self, first: TrialRecord, position: int, count: int) -> None:
        """The running bar says that this is a second measurement."""
        self._begin(first.number, f"again {position}/{count}: {assigned(first.configuration)}")

    def confirmation_finished(self, first: TrialRecord, again: TrialRecord) -> None:
        """Both measurements in one line."""
        style = "green" if again.state == "complete" else "red"
        self._console.print(escape(confirmation_line(first, again)), style=style)
        self._end(first.number)

    def notice(self, text: str) -> None:
        """A dim line above the live part."""
        self._console.print(escape(harmless(text)), style="dim")

    def recommended(self, recommendation: Recommendation, output: Path) -> None:
        """A panel on standard output."""
        self.close()
        first, *rest = result_lines(recommendation)
        body = "\n".join(
            [f"[bold]{escape(first)}[/]", *(escape(line) for line in rest), f"  files: {escape(str(output))}"]
        )
        sure = recommendation.decision == "deploy"
        style = "red" if not recommendation.meets_slo else "green" if sure else "yellow"
        Console(highlight=False).print(Panel(body, border_style=style))

    def close(self) -> None:
        """The cursor and the last lines are the user's again."""
        self._progress.stop()

    def _begin(self, number: int, what: str) -> None:
        self._what[number] = what
        self._tasks[number] = self._progress.add_task("trial", total=1)
        self.phase(number, "launch", 0.0)

    def _end(self, number: int) -> None:
        self._progress.remove_task(self._tasks.pop(number))
