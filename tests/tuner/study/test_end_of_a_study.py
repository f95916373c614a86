"""How a study's end is told: when it was, by whom it is read as it grows, and what an interrupted one keeps."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from results import TrialRecord
from search_spaces import Configuration
from tuner import Observer, StudyInterrupted, load_study
from tuner import tune as tune_from_python
from tuner.study.storage.archive import Archive, Snapshot
from tuner.study.storage.connection import sqlite_url
from tuner.study.storage.keys import PLAN

SPEC = """\
version: 1
service: {name: noisy}
space: {parameters: {name: [a, b, c]}}
prices: {cpu_core_hour: 1}
runner: {type: replay, table: table.csv, noise: 10%}
"""
WITH_OPTUNA = (
    "UPDATE study_user_attributes SET value_json = json_set(value_json, '$.provenance.optuna', ?) WHERE key = ?"
)


def write(folder: Path) -> None:
    rows = "a,100,1,30\nb,101,1,30\nc,102,1,30\n"
    (folder / "table.csv").write_text(f"name,capacity_qps,price_per_hour,trial_s\n{rows}", encoding="utf-8")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")


class Slow(Observer):
    """A final that takes a second more than the trials."""

    def confirmation_started(self, first: TrialRecord, position: int, count: int) -> None:
        if position == 1:
            time.sleep(1.1)


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
def test_a_run_ended_with_the_last_launch_of_its_final_in_utc(tmp_path: Path) -> None:
    write(tmp_path)
    begun = datetime.now(UTC)
    study = tune_from_python(tmp_path / "spec.yaml", budget=3, output=tmp_path / "out", observer=Slow())
    ended = study.summary.progress.ended
    assert ended is not None
    assert ended.endswith("+00:00")
    assert begun + timedelta(seconds=0.1) < datetime.fromisoformat(ended) <= datetime.now(UTC)
    assert ended in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert as_of_an_earlier_version(tmp_path / "out", "5.0.0").endswith("+00:00")
    assert len(as_of_an_earlier_version(tmp_path / "out", "4.5.0")) == len("2026-01-31T12:00:00")  # of some zone


def as_of_an_earlier_version(folder: Path, optuna: str) -> str:
    """When a study ended that does not say so, and was begun with that version of Optuna."""
    with contextlib.closing(sqlite3.connect(folder / "study.db")) as database, database:
        database.execute("DELETE FROM study_user_attributes WHERE key = 'tune:ended'")
        database.execute(WITH_OPTUNA, (optuna, PLAN))
    ended = load_study(folder).summary.progress.ended
    assert ended is not None
    return ended


class Watched(Observer):
    """A final whose study somebody reads before each commit, anew whenever its version is another one. Each launch ends
    in another second than the one before.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.archive: Archive | None = None
        self.kept: dict[str, Snapshot] = {}

    def confirmation_started(self, first: TrialRecord, position: int, count: int) -> None:
        time.sleep(1.1)
        if self.archive is None:
            self.archive = Archive(self.url)
            event.listen(Engine, "commit", self.read)

    def read(self, _connection: object = None) -> Snapshot:
        assert self.archive is not None
        version, _ = self.archive.version()
        if version not in self.kept:
            self.kept[version] = self.archive.snapshot()
        return self.kept[version]

    def close(self) -> None:
        event.remove(Engine, "commit", self.read)


def test_who_reads_a_study_as_its_version_changes_hears_when_it_ended_and_what_is_expected(tmp_path: Path) -> None:
    write(tmp_path)
    watched = Watched(sqlite_url(tmp_path / "out"))
    study = tune_from_python(tmp_path / "spec.yaml", budget=3, output=tmp_path / "out", observer=watched)
    assert len(watched.kept) > 2
    last = watched.read()
    assert last.ended == study.summary.progress.ended
    assert last.outlook.untried_improvement is not None
    assert last == Archive(watched.url).snapshot()


class Interrupting(Observer):
    """Ctrl-C as the first trial begins."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int | None) -> None:
        raise KeyboardInterrupt

    def notice(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize(("storage", "said"), [(None, "begins anew"), ("shared.db", "with `resume` goes on")])
def test_a_study_without_trials_that_was_interrupted_stays_in_a_database(
    tmp_path: Path, storage: str | None, said: str
) -> None:
    write(tmp_path)
    spec, output, interrupting = tmp_path / "spec.yaml", tmp_path / "out", Interrupting()
    url = f"sqlite:///{tmp_path / storage}" if storage else None
    with pytest.raises(StudyInterrupted):
        tune_from_python(spec, budget=3, output=output, storage=url, observer=interrupting)
    assert interrupting.said[-1] == f"interrupted: 0 trials are kept; the same again {said}"
    again = tune_from_python(spec, budget=3, output=output, storage=url, resume=storage is not None)
    assert len(again.summary.records) == 3
