"""What the terminal shows while a study runs, at the widths that terminals have."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from results import Estimate, TrialRecord
from tuner.display.live import LiveDisplay
from tuner.display.machine import JsonDisplay
from tuner.display.progress import Whole, study_line
from tuner.display.protocol import BudgetOutline, EarlierTrials, SpaceOutline, StudyOutline
from tuner.display.wording import ahead

CONFIGURATION: dict[str, bool | int | float | str] = {
    "cpu_cores": 2,
    "memory": "2Gi",
    "workers": 2,
    "threads": 1,
    "batch_size": 16,
    "batch_delay_ms": 20,
}


def outline(**fields: Any) -> StudyOutline:
    return StudyOutline(
        **{
            "service": "api", "objective": "minimize cost_per_million_requests", "slo": "p99 <= 300 ms",
            "space": SpaceOutline(6, "408"), "budget": BudgetOutline(20, max_load_s=490.0),
            "output": Path("tuning/api"), "currency": "USD", **fields,
        }
    )  # fmt: skip


def record(number: int, **fields: Any) -> TrialRecord:
    known = {
        "state": "complete", "configuration": CONFIGURATION, "cost_per_hour": 0.09, "wall_s": 30.0,
        "capacity_qps": Estimate(value=3412.7, low=2900.0, high=3811.0), "cost_per_million_requests": 0.00733,
        "p99_ms": Estimate(value=212.4, low=190.0, high=246.0), "bottleneck": "cpu",
    }  # fmt: skip
    return TrialRecord.model_validate({"number": number, **known, **fields})


def display(width: int) -> tuple[LiveDisplay, io.StringIO]:
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=True, color_system=None, highlight=False)
    return LiveDisplay(console, console), written


def live_lines(shown: LiveDisplay, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as captured:
        console.print(shown)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [40, 80, 100, 120, 140, 200])
def test_two_lines_fit_the_terminal_and_keep_their_bars(width: int) -> None:
    shown, _ = display(width)
    shown.study_started(outline())
    shown.trial_started(0, CONFIGURATION, 1, 20)
    shown.trial_finished(record(0), record(0))
    shown.trial_started(1, CONFIGURATION, 2, 20)
    shown.phase(1, "probe 3,412 req/s, p99 212 ms", 0.4)
    try:
        lines = live_lines(shown, width)
    finally:
        shown.close()
    assert len(lines) == 2
    for line in lines:
        assert len(line) <= width
        assert re.search("\u2595.{8,24}\u258f", line), line
    if width >= 80:
        assert "#1 " in lines[0]
        assert "probe 3,412 req/s, p99 212 ms" in lines[0]
        assert " 1/20" in lines[1]
        assert "0.00075" in lines[1]
        assert "$" in lines[1]
        assert re.search("best #0 .0.00733.*0.00656.*0.00863\\)", lines[1])
    if width >= 140:
        assert "best #0 $0.00733 per million (0.00656 to 0.00863)" in lines[1]


def test_a_trials_line_has_its_intervals_and_no_exponent() -> None:
    shown, written = display(200)
    shown.study_started(outline())
    shown.trial_started(7, CONFIGURATION, 1, 20)
    shown.trial_finished(record(7), record(7))
    shown.close()
    text = written.getvalue()
    assert "#7 " in text
    assert "3,410 req/s (2,900 to 3,810)" in text
    assert "p99 212 ms (190 to 246)" in text
    assert "e+0" not in text


def test_trials_that_run_at_once_have_a_line_each() -> None:
    shown, _ = display(100)
    shown.study_started(outline(parallel=8))
    for number in range(8):
        shown.trial_started(number, CONFIGURATION, number + 1, 20)
    try:
        lines = live_lines(shown, 100)
    finally:
        shown.close()
    assert len(lines) == 6
    assert "and 4 more trials" in lines[4]


def test_text_of_a_server_cannot_steer_the_terminal() -> None:
    shown, written = display(100)
    shown.study_started(outline())
    shown.trial_started(0, {"name": "\x1b[2J"}, 1, 20)
    shown.trial_finished(record(0, state="failed", reason="\x1b[2J[bold]gone[/]", configuration={"name": "a"}), None)
    shown.notice("read \N{RIGHT-TO-LEFT OVERRIDE}txt.yxe\N{POP DIRECTIONAL FORMATTING}\nand more")
    shown.close()
    assert "\\x1b[2J[bold]gone[/]" in written.getvalue()
    assert "read \\u202etxt.yxe\\u202c and more" in written.getvalue()


def test_the_event_of_a_study_has_the_keys_that_programs_read(capsys: pytest.CaptureFixture[str]) -> None:
    JsonDisplay().study_started(outline())
    assert json.loads(capsys.readouterr().err) == {
        "event": "study", "service": "api", "objective": "minimize cost_per_million_requests", "slo": "p99 <= 300 ms",
        "parameters": 6, "space_size": "408", "budget": 20, "finished": 0, "seconds_at_most": 490.0,
        "output": "tuning/api", "currency": "USD", "spent": 0.0, "parallel": 1, "study": "",
        "open_ended": False, "time_left_s": None, "states": {}, "best": None,
    }  # fmt: skip


def test_a_run_that_goes_on_shows_the_best_of_earlier_runs_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    earlier = outline(earlier=EarlierTrials({"complete": 4}, record(2)))
    shown, _ = display(160)
    shown.study_started(earlier)
    assert "best #2 $0.00733" in live_lines(shown, 160)[-1]
    shown.close()
    JsonDisplay().study_started(earlier)
    assert json.loads(capsys.readouterr().err)["best"] == 2


def test_trials_that_other_processes_finished_are_counted() -> None:
    shown, _ = display(160)
    shown.study_started(outline())
    for number, position in ((0, 1), (1, 2), (5, 6)):  # two under way here, and three that others have finished
        shown.trial_started(number, CONFIGURATION, position, 20)
    assert "3/20 trials" in live_lines(shown, 160)[-1]
    shown.trial_finished(record(1), None)
    assert "4/20 trials" in live_lines(shown, 160)[-1]
    shown.close()


def test_without_a_number_of_trials_the_most_is_said_to_be_the_most() -> None:
    assert ahead(outline()) == "20 trials to go, at most 8 min of load"
    open_ended = outline(budget=BudgetOutline(100, open_ended=True, max_load_s=490.0))
    assert ahead(open_ended) == "up to 100 trials to go, at most 8 min of load"


def test_a_budget_of_time_is_shown_by_its_time() -> None:
    whole = Whole(outline(budget=BudgetOutline(300, open_ended=True, time_left_s=3600.0)), 0, 0.0)
    whole.add(record(0, state="infeasible"), None, 900.0)
    assert whole.done() == 0.25
    assert "1 trial, at most 45 min left" in study_line(whole, 140).plain
