"""Studies that are damaged, or of another version: every command says what is wrong, and shows what can be read."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import TrialRecord
from tests.conftest import Tune, recommendation

SPEC = """\
version: 1
service: {name: rep}
space: {parameters: {cpu_cores: [1, 2, 4], threads: [1, 2]}}
prices: {cpu_core_hour: 0.04}
runner: {type: replay, table: table.csv}
"""
TABLE = "cpu_cores,threads,capacity_qps,p99_ms\n1,1,10,20\n1,2,12,20\n2,1,20,21\n2,2,24,21\n4,1,40,22\n4,2,50,22\n"
Damage = Callable[[sqlite3.Connection], object]


def sql(statement: str, *values: str) -> Damage:
    return lambda connection: connection.execute(statement, values)


def record(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Every trial's record, changed."""

    def damage(connection: sqlite3.Connection) -> None:
        rows = connection.execute(
            "SELECT trial_user_attribute_id, value_json FROM trial_user_attributes WHERE key = 'record'"
        ).fetchall()
        for key, text in rows:
            content = json.loads(text)
            change(content)
            connection.execute(
                "UPDATE trial_user_attributes SET value_json = ? WHERE trial_user_attribute_id = ?",
                (json.dumps(content), key),
            )

    return damage


def attribute(key: str, text: str) -> Damage:
    return sql("UPDATE study_user_attributes SET value_json = ? WHERE key = ?", text, key)


def plan(**changed: object) -> Damage:
    """The study's plan, changed."""

    def damage(connection: sqlite3.Connection) -> None:
        key = "tune:plan"
        [[text]] = connection.execute("SELECT value_json FROM study_user_attributes WHERE key = ?", (key,)).fetchall()
        attribute(key, json.dumps(json.loads(text) | changed))(connection)

    return damage


def of_a_later_version(connection: sqlite3.Connection) -> None:
    """Every value of ours has a field more, wherever it is a mapping within, and the study a value more."""

    def more(value: Any) -> Any:
        if isinstance(value, list):
            return [more(one) for one in value]
        if not isinstance(value, dict) or not value:
            return value
        names_its_keys = any(not key.isidentifier() or key == "threads" for key in value)  # a configuration's, numbers
        return {key: more(one) for key, one in value.items()} | ({} if names_its_keys else {"future": [1]})

    for table, column in (("trial_user_attributes", "trial_user_attribute_id"),
                          ("study_user_attributes", "study_user_attribute_id")):  # fmt: skip
        rows = connection.execute(f"SELECT {column}, key, value_json FROM {table} WHERE key != 'tune:plan'").fetchall()
        for place, key, text in rows:
            value = more(json.loads(text)) if key == "record" or key.startswith("tune:") else json.loads(text)
            connection.execute(f"UPDATE {table} SET value_json = ? WHERE {column} = ?", (json.dumps(value), place))
    connection.execute("INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, 'tune:future', '{}')")


def first_record(text: str) -> Damage:
    trial = "(SELECT trial_id FROM trials WHERE number = 0)"
    return sql(f"UPDATE trial_user_attributes SET value_json = ? WHERE key = 'record' AND trial_id = {trial}", text)


NAN = float("nan")
# What is damaged, and what the commands that decide say of it; None: it matters to none of them.
DAMAGED: dict[str, tuple[Damage, str | None]] = {
    "a record that is not JSON": (first_record("{"), "trial 0: it is not JSON"),
    "a record that is null": (first_record("null"), "trial 0: "),
    "a record without its parts": (first_record("{}"), "trial 0: number: Field required"),
    "a field of a later version": (record(lambda one: one.update(future=1)), None),
    "a part of a later version": (record(lambda one: (one["p99_ms"] or {}).update(future={"a": [1]})), None),
    "a plan of a later version": (plan(future=1, limits={"seconds": None, "cost": None, "future": 1}), None),
    "all of a later version": (of_a_later_version, None),
    "another state": (record(lambda one: one.update(state="weird")), "trial 0: state"),
    "another trial's number": (record(lambda one: one.update(number=7)), "number is 7, which is not its own"),
    "a capacity of NaN": (record(lambda one: one.update(capacity_qps=dict.fromkeys(("value", "low", "high"), NAN))),
                          r"capacity_qps.value is nan; it must be a finite number"),
    "an infinite price": (record(lambda one: one.update(cost_per_hour=float("inf"))), "cost_per_hour is inf"),
    "a negative price": (record(lambda one: one.update(cost_per_hour=-1.0)), "cost_per_hour is -1; it must not be neg"),
    "a huge figure": (record(lambda one: one.update(load_s=1e300)), r"load_s is 1e\+300, which nothing has"),
    "an interval upside down": (record(lambda one: one.update(p99_ms={"value": 5, "low": 50, "high": 1})), "p99_ms: i"),
    "other parameters": (record(lambda one: one.update(configuration={"x": "<script>"})), "configuration: its par"),
    "other values": (record(lambda one: one["configuration"].update(cpu_cores="many")), "cpu_cores=many is not among"),
    "a spec that is no mapping": (plan(spec=[]), "its spec is not what it should be"),
    "a plan that is no JSON": (attribute("tune:plan", "{"), "tune:plan: it is not JSON"),
    "a spec of another version": (plan(spec={"version": 2}), "its spec is not one of this version"),
    "a seed that is none": (plan(seed=-1), "its seed is not what it should be"),
    "a warm start that is none": (plan(warm_start=[{}]), "number: Field required"),
    "a plan without its parts": (attribute("tune:plan", "{}"), "tune:plan: it has no spec"),
    "an explanation that is none": (
        attribute("tune:explanation", '{"a": 1}'),
        "tune:explanation: metric: Field required",
    ),
    "a budget that is none": (plan(budget="x"), "its budget is not what it should be"),
    "a confirmation that is none": (
        sql("UPDATE study_user_attributes SET value_json = '{}' WHERE key LIKE 'tune:confirmation:%'"),
        r"tune:confirmation:\d+: number: Field required",
    ),
    "no records": (sql("DELETE FROM trial_user_attributes"), "has no record itself"),
    "evidence that is none": (
        sql("UPDATE trial_user_attributes SET value_json = '[' WHERE key = 'tune:evidence'"), None
    ),
    "tables of another version": (sql("UPDATE version_info SET schema_version = 99"), "another version of Optuna"),
    "no studies": (sql("DELETE FROM studies"), "holds no study"),
    "text that is none": (
        sql("UPDATE trial_user_attributes SET value_json = CAST(x'7b9d7d' AS TEXT)"), "cannot use the storage"
    ),
    "no tables": (sql("DROP TABLE trials"), "cannot use the storage"),
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that went well."""
    from tuner.cli import main

    folder = tmp_path_factory.mktemp("damaged")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    (folder / "table.csv").write_text(TABLE, encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["--service", str(folder / "spec.yaml"), "--budget", "6", "--output", str(folder / "good")])
    assert recommendation(folder / "good")["meets_slo"]
    return folder


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The exit code of a command in this process, and what it said on standard error."""
    from tuner.cli import main

    def call(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(one) for one in arguments])
        assert isinstance(ended.value.code, int)
        return int(ended.value.code), capsys.readouterr().err

    return call


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_study_is_named_by_trial_and_field(
    kind: str, run: Path, tmp_path: Path, said: Callable[..., tuple[int, str]]
) -> None:
    damage, problem = DAMAGED[kind]
    folder, good = tmp_path / "run", run / "good"
    shutil.copytree(good, folder)
    with sqlite3.connect(folder / "study.db") as connection:
        damage(connection)
    connection.close()
    baseline = good / "recommendation.json"
    for command in (("plan", folder, "--qps", 100), ("export", folder), ("gate", folder, "--baseline", baseline)):
        code, error = said(*command)
        if problem is None:
            assert code == 0, error
        else:
            assert code in (2, 4), error
            assert re.search(problem, error), error
            assert 1 <= len(error.strip().splitlines()) <= 3
    code, error = said("report", folder)
    assert code in (0, 2, 4)
    assert "internal error" not in error
    if code == 0 and problem is not None:
        assert re.search(problem, error), error
        assert "Left out, since it cannot be read" in (folder / "report.md").read_text(encoding="utf-8")
    code, error = said("--service", run / "spec.yaml", "--budget", 7, "--resume", "--output", folder)
    assert code in (0, 2, 3, 4), error
    assert "internal error" not in error


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + b"\xff" * 200])
def test_a_file_that_is_no_database_is_an_error_of_its_own(
    content: bytes, tmp_path: Path, tune_in_process: Tune
) -> None:
    (tmp_path / "study.db").write_bytes(content)
    done = tune_in_process("report", tmp_path)
    assert done.returncode in (2, 4)
    assert 1 <= len(done.stderr.strip().splitlines()) <= 3
    assert "internal error" not in done.stderr


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        (("capacity_qps", "value"), NAN, "capacity_qps.value is nan"),
        (("capacity_qps", "value"), float("inf"), "capacity_qps.value is inf"),
        (("capacity_qps", "low"), -1.0, "capacity_qps.low is -1; it must not be negative"),
        (("capacity_qps", "value"), 0.0, "capacity_qps.value is 0; it must be above 0"),
        (("p99_ms", "value"), float("-inf"), "p99_ms.value is -inf"),
        (("cost_per_hour",), NAN, "cost_per_hour is nan"),
        (("alternatives", 0, "capacity_qps", "high"), NAN, "alternatives.0.capacity_qps.high is nan"),
        (("cost_per_million_requests",), 1e300, r"cost_per_million_requests is 1e\+300, which nothing has"),
        (("service",), "\ud83d", "service.* holds half of a surrogate pair"),
    ],
)
def test_a_baselines_figures_are_those_of_a_service(
    field: tuple[str | int, ...], value: object, problem: str, run: Path, tmp_path: Path,
    said: Callable[..., tuple[int, str]],
) -> None:  # fmt: skip
    content: Any = recommendation(run / "good")
    place = content
    for key in field[:-1]:
        place = place[key]
    place[field[-1]] = value
    (tmp_path / "baseline.json").write_text(json.dumps(content), encoding="utf-8")
    code, error = said("gate", run / "good", "--baseline", tmp_path / "baseline.json")
    assert code == 2
    assert re.search(problem, error), error
    assert "baseline.json" in error


@pytest.mark.parametrize(
    "place", [(), ("capacity_qps",), ("trials",), ("alternatives", 0), ("alternatives", 0, "p99_ms")]
)
def test_a_baseline_of_a_later_version_is_read(
    place: tuple[str | int, ...], run: Path, tmp_path: Path, said: Callable[..., tuple[int, str]]
) -> None:
    content: Any = recommendation(run / "good")
    part = content
    for key in place:
        part = part[key]
    part["future"] = {"later": [1, {"still": None}]}
    (tmp_path / "baseline.json").write_text(json.dumps(content), encoding="utf-8")
    code, error = said("gate", run / "good", "--baseline", tmp_path / "baseline.json")
    assert code == 0, error


def test_what_is_written_has_no_field_that_its_value_does_not() -> None:
    with pytest.raises(ValueError, match="future"):
        TrialRecord.model_validate({"number": 1, "state": "failed", "configuration": {}, "future": 1})
