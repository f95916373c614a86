"""A worker runs what it ran before: whoever can write to a shared study could have it run anything else."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import TrialRecord
from tests.conftest import Tune
from tuner import load_spec
from tuner.study.budget import Limits
from tuner.study.plan import StudyPlan
from tuner.study.storage.begin import create_study

SPEC = """\
version: 1
service: {name: shared}
space: {parameters: {cpu_cores: [1, 2, 4]}}
prices: {cpu_core_hour: 0.04}
runner: {type: replay, table: table.csv}
"""


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """As somebody with access to the database could."""
    with contextlib.closing(sqlite3.connect(folder / "shared.db")) as database, database:
        rows = database.execute("SELECT study_user_attribute_id, value_json FROM study_user_attributes").fetchall()
        changed = 0
        for row, text in rows:
            value = json.loads(text)
            spec = value.get("spec", value) if isinstance(value, dict) else {}
            if "service" in spec:
                edit(spec)
                changed += 1
                database.execute(
                    "UPDATE study_user_attributes SET value_json = ? WHERE study_user_attribute_id = ?",
                    (json.dumps(value), row),
                )
        assert changed


@pytest.fixture
def joined(tmp_path: Path, tune_in_process: Tune) -> Callable[..., Any]:
    """A study that a worker has joined; calls the worker again."""
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "table.csv").write_text("cpu_cores,capacity_qps\n1,10\n2,30\n4,40\n", encoding="utf-8")
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    done = tune_in_process("--service", "spec.yaml", "--budget", 2, "--storage", storage)
    assert done.returncode == 0, done.stderr

    def worker(*more: str) -> Any:
        return tune_in_process("worker", "--storage", storage, "--output", "logs", *more)

    assert worker().returncode == 0
    return worker


def test_a_worker_refuses_commands_that_changed_since_it_joined(tmp_path: Path, joined: Callable[..., Any]) -> None:
    assert joined().returncode == 0
    change(tmp_path, lambda spec: spec["service"].update(command=["sh", "-c", "anything"]))
    refused = joined()
    assert refused.returncode == 2
    assert "what the study shared runs has changed" in refused.stderr
    assert "--trust" in refused.stderr
    assert len(refused.stderr.splitlines()) <= 3
    assert joined().returncode == 2, "and again"
    assert joined("--trust").returncode == 0
    assert joined().returncode == 0, "what it was told to trust it remembers"


def test_a_worker_is_not_troubled_by_what_runs_nothing(tmp_path: Path, joined: Callable[..., Any]) -> None:
    change(tmp_path, lambda spec: spec.update(prices={"cpu_core_hour": 0.08}))
    assert "has changed since a worker" not in joined().stderr


def test_a_workers_and_a_runs_files_are_its_users_own(tmp_path: Path, joined: Callable[..., Any]) -> None:
    for folder in (tmp_path / "logs", tmp_path / "tuning" / "shared", *(tmp_path / "state").rglob("joined")):
        assert folder.stat().st_mode & 0o077 == 0, folder


def test_a_workers_log_has_no_total_where_time_or_money_is_the_budget(tmp_path: Path, tune_in_process: Tune) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "table.csv").write_text("cpu_cores,capacity_qps,trial_s\n1,10,30\n2,30,30\n4,40,30\n", encoding="utf-8")
    loaded = load_spec(tmp_path / "spec.yaml")
    for name, plan, shown in (
        ("time", StudyPlan(loaded.content, limits=Limits(seconds=600.0)), "[  1 done]"),
        ("trials", StudyPlan(loaded.content, budget=2), "[1/2 done]"),
    ):
        storage = f"sqlite:///{tmp_path / name}.db"
        create_study(storage, loaded, plan).close()
        done = tune_in_process("worker", "--storage", storage, "--output", name)
        assert done.returncode == 0, done.stderr
        assert shown in done.stderr
        assert "/300" not in done.stderr


def test_a_workers_log_counts_the_trials_that_others_have_finished(tmp_path: Path, tune_in_process: Tune) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "table.csv").write_text("cpu_cores,capacity_qps\n1,10\n2,30\n4,40\n", encoding="utf-8")
    loaded, storage = load_spec(tmp_path / "spec.yaml"), f"sqlite:///{tmp_path / 'shared.db'}"
    store = create_study(storage, loaded, StudyPlan(loaded.content, budget=3))
    asked = store.ask(3, lambda *_: {"cpu_cores": 1})
    assert asked is not None
    store.tell(TrialRecord.model_validate({"number": 0, "state": "infeasible", "configuration": asked[1]}))
    store.close()
    done = tune_in_process("worker", "--storage", storage, "--output", "logs")
    assert done.returncode == 0, done.stderr
    assert [one for one in ("[1/3", "[2/3", "[3/3") if one in done.stderr] == ["[2/3", "[3/3"]
