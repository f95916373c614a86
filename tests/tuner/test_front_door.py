"""The front door for Python: what a notebook or a script sees."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest

import tuner
from results import TrialRecord
from runners import RunnerUnavailable
from search_spaces.reading import quoted
from tests.tuner.test_replay_run import write_table
from tuner import Observer, SpecError, Study, UsageError, load_spec, load_study, tune
from tuner.cli import cli
from tuner.errors import with_options

NOTEBOOK = Path(__file__).parent.parent.parent / "docs" / "notebook.ipynb"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("tuned")
    write_table(folder)
    return tune(folder / "spec.yaml", budget=6, output=folder / "out", seed=3)


def test_the_public_names_are_these() -> None:
    assert tuner.__all__ == [
        "Observer", "SpecError", "Study", "StudyInterrupted", "TuneError", "UnfitEnvironmentError", "UsageError",
        "load_spec", "load_study", "tune",
    ]  # fmt: skip
    assert all(getattr(tuner, name) is not None for name in tuner.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        tuner.nonsense  # noqa: B018


def test_importing_it_imports_nothing_that_takes_time() -> None:
    code = (
        "import sys, tuner; print([m for m in ('pydantic', 'optuna', 'torch', 'pandas', 'click') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_study_has_its_recommendation_trials_exports_plan_and_report(tuned: Study) -> None:
    assert tuned.recommendation.meets_slo
    assert isinstance(tuned.trials, pd.DataFrame)
    assert len(tuned.trials) == 6
    assert tuned.trials["cpu_cores"].notna().all()
    assert tuned.plan(qps=500).options
    assert tuned.report().read_text(encoding="utf-8").startswith("<!")
    assert "<table>" in tuned._repr_html_()


@pytest.mark.parametrize(("slo", "name"), [("p99", "SLO"), ("p95", "SLO p95")])
def test_a_limit_on_the_p95_is_not_called_one_on_the_p99(tmp_path: Path, slo: str, name: str) -> None:
    write_table(tmp_path)
    with (tmp_path / "spec.yaml").open("a", encoding="utf-8") as spec:
        spec.write(f"slo: {{{slo}: 40ms}}\n")
    asked = tune(tmp_path / "spec.yaml", budget=1, output=tmp_path / "out").summary.question.slo
    assert asked.tail_name == name
    assert [one.name for one in asked.limited] == [slo]


def test_it_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path)
    tune(tmp_path / "spec.yaml", budget=2, output=tmp_path / "out")
    assert capfd.readouterr() == ("", "")


def test_a_stored_study_gives_the_same(tuned: Study) -> None:
    again = load_study(tuned.folder)
    assert again.recommendation == tuned.recommendation
    pd.testing.assert_frame_equal(again.trials, tuned.trials)


def test_an_observer_is_told_of_every_trial(tmp_path: Path) -> None:
    numbers = []

    class Counts(Observer):
        def trial_finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
            numbers.append(record.number)

    write_table(tmp_path)
    tune(tmp_path / "spec.yaml", budget=3, output=tmp_path / "out", observer=Counts())
    assert numbers == [0, 1, 2]


def test_what_is_wrong_is_an_exception_of_one_tree(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("version: 1\nservise: {}\n", encoding="utf-8")
    with pytest.raises(SpecError, match="servise"):
        tune(tmp_path / "spec.yaml")
    with pytest.raises(UsageError, match="holds no study"):
        load_study(tmp_path)
    assert issubclass(SpecError, tuner.TuneError)


def test_what_a_study_cannot_do_says_what_it_can(tuned: Study) -> None:
    with pytest.raises(UsageError, match="there is no format nonsense"):
        tuned.export("nonsense")
    with pytest.raises(UsageError, match="either qps or traffic"):
        tuned.plan()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"budget": "2h"}, "`budget` is a number of trials, at least 1, not '2h'\nTime is limited by `max_time_s`"),
        ({"budget": 2.5}, "`budget` is a number of trials, at least 1, not 2.5"),
        ({"budget": True}, "`budget` is a number of trials, at least 1, not True"),
        ({"parallel": "2"}, "`parallel` is a number of trials, at least 1, not '2'"),
        ({"seed": "a"}, "`seed` is a whole number from 0 to 4294967295, not 'a'"),
        ({"max_time_s": "30m"}, "`max_time_s` is a number of seconds, such as 1800, not '30m'"),
        ({"max_cost": float("nan")}, "`max_cost` is an amount of money, such as 2.50, not nan"),
        ({"observer": Observer}, "derived from tuner.Observer, not the class Observer"),
        ({"observer": print}, "derived from tuner.Observer, not a builtin"),
        ({"warm_start": "earlier"}, "earlier: there is no such file"),
    ],
)
def test_an_argument_of_another_type_is_refused_before_anything_is_made(
    tmp_path: Path, arguments: dict[str, Any], said: str
) -> None:
    write_table(tmp_path)
    with pytest.raises(UsageError) as caught:
        tune(tmp_path / "spec.yaml", **{"budget": 2, "output": tmp_path / "out", **arguments})
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("read", [tune, load_spec])
def test_a_spec_is_a_path(read: Callable[[Any], object]) -> None:
    with pytest.raises(UsageError, match=r"path of a spec's file, and not a dict\nWrite it into a file first"):
        read({"version": 1})


def test_numbers_of_numpy_and_one_path_by_itself_are_taken(tuned: Study, tmp_path: Path) -> None:
    write_table(tmp_path)
    numbers: dict[str, Any] = {"budget": np.int64(2), "seed": np.uint32(1), "max_cost": np.float32(50)}
    found = tune(tmp_path / "spec.yaml", **numbers, warm_start=str(tuned.folder), output=tmp_path / "out")
    assert len(found.trials) == 2


def test_a_study_is_one_line_in_a_console(tuned: Study) -> None:
    assert repr(tuned).startswith(f"<Study recorded in {tuned.folder}: 6 trials, deploy cpu_cores=")
    assert len(repr(tuned)) < 300


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"qps": 40, "pattern": "dayly"}, "there is no pattern dayly; there are steady, daily, burst, periodic"),
        ({"qps": -5}, "traffic with a peak of -5 requests/s: a peak is above 0"),
        ({"qps": "40"}, "`qps` is a number of requests/s above 0, such as 500, not '40'"),
    ],
)
def test_traffic_that_cannot_be_is_refused(tuned: Study, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        tuned.plan(**arguments)
    assert said in str(caught.value)


def test_text_of_the_spec_is_escaped_in_a_notebook(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("engine,capacity_qps,p99_ms\n<b>x,40,9\ny,20,9\n", encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(
        "version: 1\nservice: {name: marked}\nspace: {parameters: {engine: ['<b>x', y]}}\n"
        "objective: {maximize: capacity_qps}\nrunner: {type: replay, table: table.csv}\n",
        encoding="utf-8",
    )
    shown = tune(load_spec(tmp_path / "spec.yaml").file.path, budget=2, output=tmp_path / "out")._repr_html_()
    assert "&lt;b&gt;x" in shown
    assert "<b>" not in shown


def test_the_notebook_runs(tmp_path: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def _messages(source: Path) -> Iterator[str]:
    """The strings of a module that are sentences: neither its docstrings nor a word of another program's command."""
    tree = ast.parse(source.read_text("utf-8"))
    described = {
        id(node.body[0].value) for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
            yield from [node.value] if " " in node.value else []


def test_only_the_command_line_names_its_options() -> None:
    options = {option.removeprefix("--") for command in (cli, *cli.commands.values()) for one in command.params
               for option in one.opts if isinstance(one, click.Option)}  # fmt: skip
    root = Path(tuner.__file__).parent
    own = (root / "cli.py", root / "commands")
    packages = (root, *(root.parent / name for name in ("results", "runners", "search_spaces")))
    modules = (path for package in packages for path in package.rglob("*.py"))
    inner = [path for path in modules if not any(path.is_relative_to(one) for one in own)]
    assert len(inner) > 250
    named = re.compile(r"(?<!tune )--(" + "|".join(options - {"service", "port", "region"}) + r")(?![\w-])")
    found = [(path.name, text) for path in inner for text in _messages(path) if named.search(text)]
    assert not found


def test_the_command_line_says_its_option_where_python_says_an_argument() -> None:
    assert with_options("`max_cost`: no price; give `prices:`, or `budget`") == (
        "--max-cost: no price; give `prices:`, or --budget"
    )
    assert with_options("another `storage`, or its `name`") == "another --storage, or its --study"
    said = RunnerUnavailable("the engine says: unknown field `output`")
    assert with_options(f"{said}; `resume` goes on") == "the engine says: unknown field 'output'; --resume goes on"
    assert with_options(quoted("`output`")) == r"'\x60output\x60'"
    assert with_options("change `metrics_port`, or the `range`") == "change --metrics-port, or the --range"
