"""A trial that another process has taken up, and finished, while it ran here."""

from __future__ import annotations

import io
import re
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from results import Estimate, TrialRecord
from search_spaces import Configuration
from tests.tuner.display.test_live_view import live_lines
from tests.tuner.study.test_final import write
from tuner import load_spec, tune
from tuner.display.live import LiveDisplay
from tuner.display.live_file import LiveFile, read_live
from tuner.display.metrics import MetricsDisplay
from tuner.display.plain import PlainDisplay
from tuner.study.storage.begin import join_study
from tuner.study.storage.connection import sqlite_url


def take_up(folder: Path, number: int) -> None:
    """What a worker does that has heard nothing of the trial's owner for half a minute: it measures it anew."""
    url = sqlite_url(folder / "out")
    study = optuna.load_study(study_name="noisy", storage=url)
    study.tell(number, state=optuna.trial.TrialState.FAIL)
    study.enqueue_trial(study.trials[number].params)
    other = join_study(url, load_spec(folder / "spec.yaml"))
    asked = other.ask(3, lambda *_: {})
    assert asked is not None
    capacity, hourly = Estimate(value=100, low=90, high=110), 1.0
    own = {"number": asked[0], "configuration": asked[1], "state": "complete", "capacity_qps": capacity}
    assert other.tell(TrialRecord.model_validate({**own, "cost_per_hour": hourly, "cost_per_million_requests": 2.8}))


class LosingPlain(PlainDisplay):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int | None) -> None:
        super().trial_started(number, configuration, position, budget)
        if number == 0:
            take_up(self._folder, number)


class LosingLive(LiveDisplay):
    def __init__(self, folder: Path) -> None:
        console = Console(file=io.StringIO(), width=140, force_terminal=True, color_system=None)
        super().__init__(console, console)
        self._folder = folder
        self.shown: list[list[str]] = []

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int | None) -> None:
        super().trial_started(number, configuration, position, budget)
        if number == 0:
            take_up(self._folder, number)

    def trial_finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        super().trial_finished(record, best)
        self.shown.append(live_lines(self, 140))
        assert read_live(self._folder / "out") == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    more = "objective: {minimize: cost_per_million_requests, final: 0%}\n"
    write(tmp_path, {"a": 100, "b": 110, "c": 90}, more=more)
    return tmp_path


def test_a_log_counts_what_was_lost_once_where_another_process_finished_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(folder / "spec.yaml", budget=3, output=folder / "out", observer=LosingPlain(folder))
    said = capsys.readouterr().err
    assert "trial 0 does not count: another process has taken it up meanwhile" in said
    assert re.findall(r"\[(./3) done\]", said) == ["2/3", "3/3"]


def test_what_was_lost_is_no_longer_shown_as_running(folder: Path) -> None:
    shown = LosingLive(folder)
    metrics = MetricsDisplay(LiveFile(shown, every_s=0.0), 0)
    tune(folder / "spec.yaml", budget=3, output=folder / "out", observer=metrics)
    assert [len(lines) for lines in shown.shown] == [1, 1]  # the study's own line alone
    assert ["3/3" in lines[0] for lines in shown.shown] == [False, True]
    assert metrics._metrics.registry.get_sample_value("tune_trials_running") == 0


def test_a_trial_that_others_gave_up_after_its_record_was_stored_counts(folder: Path) -> None:
    tune(folder / "spec.yaml", budget=1, output=folder / "out")
    url, loaded = sqlite_url(folder / "out"), load_spec(folder / "spec.yaml")
    store = join_study(url, loaded)
    asked = store.ask(3, lambda *_: {"name": "b"})
    assert asked is not None
    failed = {"number": asked[0], "configuration": asked[1], "state": "failed", "reason": "it ended"}
    record = TrialRecord.model_validate(failed)
    study = optuna.load_study(study_name="noisy", storage=url)
    store.claims.trials[asked[0]].set_user_attr("record", record.model_dump(mode="json"))
    study.tell(asked[0], state=optuna.trial.TrialState.FAIL)
    assert store.tell(record)
    assert store.records()[-1] == record
