"""The file by which the dashboard knows what runs now."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from loadtest.plan import LimitedTime, Progress
from results import TrialRecord
from results.dashboard.running import progress_of
from tuner.display import BudgetOutline, Observer, SpaceOutline, StudyOutline
from tuner.display.live_file import LIVE_FILE, LiveFile, read_live
from tuner.trial.load import phase_of


def begun(folder: Path) -> LiveFile:
    display = LiveFile(Observer(), every_s=0.0)
    display.study_started(StudyOutline("shown", "cost", "p99", SpaceOutline(1, "4"), BudgetOutline(4), folder))
    display.trial_started(3, {"cpu_cores": 2}, 1, 4)
    return display


def test_a_probe_leaves_its_rate_and_its_p99(tmp_path: Path) -> None:
    display = begun(tmp_path)
    for p99 in (None, 34.0):
        said = Progress(phase="probe", elapsed_s=1, fraction=0.4, rate_qps=1234.0, p99_ms=p99)
        display.phase(3, phase_of(said), 0.4)
    [trial] = read_live(tmp_path)
    assert (trial["number"], trial["about"], trial["fraction"]) == (3, "cpu_cores=2", 0.4)
    assert [point[1:] for point in trial["points"]] == [[1230.0, None], [1230.0, 34.0]]
    display.trial_finished(TrialRecord(number=3, state="failed", reason="x", configuration={"cpu_cores": 2}), None)
    assert read_live(tmp_path) == []
    display.close()
    assert not (tmp_path / LIVE_FILE).exists()


@pytest.mark.parametrize(
    ("metric", "percentile", "name"), [("latency", 95, "p95"), ("ttft", 99.9, "first token p99.9")]
)
def test_a_probe_shows_the_percentile_that_the_slo_limits(
    tmp_path: Path, metric: Any, percentile: float, name: str
) -> None:
    display = begun(tmp_path)
    for ms in (None, 1234.0):
        limited = LimitedTime(metric=metric, percentile=percentile, ms=ms)
        said = Progress(phase="probe", elapsed_s=1, fraction=0.4, rate_qps=80.0, p99_ms=99.0, limited=limited)
        display.phase(3, phase_of(said), 0.4)
    [trial] = read_live(tmp_path)
    assert trial["phase"] == f"probe 80.0 req/s, {name} 1,230 ms"
    assert trial["percentile"] == name
    assert [point[1:] for point in trial["points"]] == [[80.0, None], [80.0, 1230.0]]
    shown = progress_of([trial])
    assert [one["name"] for one in shown["data"]] == ["requests/s", f"{name}, ms"]
    assert shown["layout"]["yaxis2"]["title"]["text"] == f"{name}, ms"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"at": "x", "trials": []}', '{"at": 1e9, "trials": [{}]}'])
def test_what_a_killed_run_left_is_not_shown(tmp_path: Path, content: str) -> None:
    assert read_live(tmp_path) == []
    (tmp_path / LIVE_FILE).write_text(content, encoding="utf-8")
    assert read_live(tmp_path) == []
    (tmp_path / LIVE_FILE).write_text(json.dumps({"at": time.time(), "trials": [{"number": 1}]}), encoding="utf-8")
    assert len(read_live(tmp_path)) == 1


def test_a_folder_that_is_gone_stops_the_file_and_not_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    display = begun(folder)
    (folder / LIVE_FILE).unlink()
    folder.rmdir()
    display.phase(3, "launch", 0.0)
    display.close()


@pytest.mark.parametrize("kind", ["pipe", "device", "nested", "huge", "no list", "no time"])
def test_whatever_lies_in_its_place_shows_nothing_and_nobody_waits(tmp_path: Path, kind: str) -> None:
    path = tmp_path / LIVE_FILE
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        path.touch()
        os.truncate(path, 1 << 33)
    else:
        texts = {"nested": "[" * 100_000, "no list": '{"at": 0, "trials": 1}', "no time": '{"at": "now", "trials": []}'}
        path.write_text(texts[kind], encoding="utf-8")
    begun = time.monotonic()
    assert read_live(tmp_path) == []
    assert time.monotonic() - begun < 8  # a pipe that is read takes ten seconds
