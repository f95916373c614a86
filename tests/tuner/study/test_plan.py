"""A study's plan: one value that every process that works on the study reads."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import optuna
import pytest

from results import TrialRecord
from tests.conftest import Tune
from tests.tuner.test_replay_run import write_table
from tuner import UsageError, load_spec, tune
from tuner.study.plan import StudyPlan
from tuner.study.storage.begin import NoSuchStudyError, join_study
from tuner.study.storage.connection import sqlite_url
from tuner.study.storage.damage import known_plan
from tuner.study.storage.keys import PLAN, PROVENANCE, SPEC


def plan_of(folder: Path) -> StudyPlan:
    study = optuna.load_study(study_name="recorded", storage=sqlite_url(folder))
    plan = known_plan(study.user_attrs)
    assert plan is not None
    return plan


def asked(folder: Path) -> list[dict[str, object]]:
    return [dict(trial.params) for trial in optuna.load_study(study_name="recorded", storage=sqlite_url(folder)).trials]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    write_table(tmp_path)
    return tmp_path / "spec.yaml"


def test_what_is_stored_is_read_again() -> None:
    record = TrialRecord(number=0, state="infeasible", reason="too slow", configuration={"x": 1})
    plan = StudyPlan({"version": 1}, 7, 12, (record,), {"host": "a"})
    assert known_plan({PLAN: plan.stored()}) == plan


def test_a_study_from_before_there_were_plans_is_read() -> None:
    known = known_plan({SPEC: {"version": 1}, PROVENANCE: {"seed": "5"}, "tune:budget": 9})
    assert known == StudyPlan({"version": 1}, 5, 9, (), {"seed": "5"})


def test_resume_without_flags_searches_with_the_seed_and_budget_that_the_study_began_with(
    spec: Path, tmp_path: Path
) -> None:
    whole = tune(spec, budget=8, seed=5, output=tmp_path / "whole")
    tune(spec, budget=4, seed=5, output=tmp_path / "halves")
    tune(spec, budget=8, resume=True, output=tmp_path / "halves")
    assert len(whole.trials) == 8
    assert asked(tmp_path / "halves") == asked(tmp_path / "whole")
    assert plan_of(tmp_path / "halves").seed == 5
    again = tune(spec, resume=True, output=tmp_path / "halves")
    assert len(again.trials) == 8, "the budget of the study, and no other"


def test_resume_by_the_command_line_needs_no_flags_either(spec: Path, tmp_path: Path, tune_in_process: Tune) -> None:
    assert tune_in_process("--service", spec, "--budget", 3, "--seed", 5).returncode == 0
    assert tune_in_process("--service", spec, "--resume").returncode == 0
    plan = plan_of(tmp_path / "tuning/recorded")
    assert (plan.seed, plan.budget) == (5, 3)
    assert len(asked(tmp_path / "tuning/recorded")) == 3
    refused = tune_in_process("--service", spec, "--resume", "--seed", 6)
    assert refused.returncode == 2
    assert "begun with the seed 5, not 6" in refused.stderr


def test_resume_keeps_the_warm_start(spec: Path, tmp_path: Path) -> None:
    tune(spec, budget=5, output=tmp_path / "before")
    tune(spec, budget=2, warm_start=[tmp_path / "before"], output=tmp_path / "now")
    tune(spec, budget=3, resume=True, output=tmp_path / "now")
    assert len(plan_of(tmp_path / "now").warm_start) == 5
    with pytest.raises(UsageError, match="begun with 5 warm-start records"):
        tune(spec, budget=3, resume=True, warm_start=[tmp_path / "now"], output=tmp_path / "now")


def test_whoever_joins_waits_for_the_plan(spec: Path, tmp_path: Path) -> None:
    loaded, url = load_spec(spec), f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=url, study_name="recorded")
    plan = StudyPlan(loaded.content, 4, 17)

    def write_late() -> None:
        time.sleep(1.0)
        study.set_user_attr(PLAN, plan.stored())

    late = threading.Thread(target=write_late)
    late.start()
    joined = join_study(url, loaded)
    late.join()
    assert (joined.plan.seed, joined.plan.budget) == (4, 17)


def test_nobody_joins_a_study_that_is_not_there(spec: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSuchStudyError, match="no study named recorded"):
        join_study(f"sqlite:///{tmp_path / 'none.db'}", load_spec(spec))
