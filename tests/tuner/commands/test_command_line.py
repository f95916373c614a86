"""The command line: what wrong input gets, and that nothing ends in a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate import pages
from tests.conftest import Tune

MINIMAL = """\
version: 1
service: {name: x, command: [python3, server.py, --port, "{port}"]}
slo: {p99: 50ms}
space: {parameters: {cpu_cores: [1]}}
prices: {cpu_core_hour: 0.04}
"""


@pytest.fixture
def tune(tune_in_process: Tune) -> Tune:
    """No server is launched: nothing here needs a process."""
    return tune_in_process


def test_init_writes_a_spec_that_is_valid_but_for_its_server(tmp_path: Path, tune: Tune) -> None:
    assert tune("init").returncode == 0
    done = tune("validate", "spec.yaml")
    assert done.returncode in (0, 2)  # 2 where no program is named python here: the message says so
    assert done.returncode == 0 or "there is no program" in done.stderr


def test_init_never_overwrites(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "spec.yaml").write_text("mine", encoding="utf-8")
    done = tune("init")
    assert done.returncode == 2
    assert (tmp_path / "spec.yaml").read_text(encoding="utf-8") == "mine"


def test_validate_shows_the_space_and_an_estimate(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "spec.yaml").write_text(MINIMAL, encoding="utf-8")
    done = tune("validate", "spec.yaml")
    assert done.returncode == 0, done.stderr
    assert "1 configurations" in done.stdout
    assert "at most" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--service", "missing.yaml"), 2, "there is no file missing.yaml"),
        (("--service", "spec.yaml", "--budget", "0"), 2, "--budget"),
        (("--service", "spec.yaml", "--runner", "moon"), 2, "--runner"),
        (("--service", "spec.yaml", "--runner", "replay"), 2, "needs table"),
        (("--budget", "5"), 2, "--service is missing"),
        (("export", "nowhere", "--format", "compose", "--qps", "nan"), 2, "--qps"),
        (("plan", "nowhere", "--qps", "inf"), 2, "--qps"),
        (("frobnicate",), 2, "frobnicate"),
        (("report", "nowhere"), 2, "holds no study.db"),
        (("--service", "spec.yaml", "--storage", "nonsense://x:secret@y"), 4, "cannot use the storage"),
        (("--service", "spec.yaml", "--output", "spec.yaml"), 2, "is a file"),
        (("--service", "spec.yaml", "--output", "/proc/none"), 4, "cannot write to /proc/none"),
    ],
)
def test_wrong_input_gets_a_short_message_and_its_exit_code(
    tmp_path: Path, tune: Tune, arguments: tuple[str, ...], code: int, said: str
) -> None:
    (tmp_path / "spec.yaml").write_text(MINIMAL, encoding="utf-8")
    done = tune(*arguments)
    shown = done.stdout + done.stderr
    assert done.returncode == code, shown
    assert said in shown
    assert "Traceback" not in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("python3", "no-such-program", 2, "spec.yaml:2"),
        ("{port}", "{prot}", 2, "did you mean {port}?"),
        ("[1]", "[4096]", 4, "no configuration of the space can run here"),
        ("slo: {p99: 50ms}\n", "", 2, "slo: is missing"),
        ("prices: {cpu_core_hour: 0.04}\n", "", 2, "nothing in the space has a price"),
        ("cpu_cores: [1]", "cpu_cores: [1], reason: [1, 2]", 2, "is a name that the outputs use"),
        ("slo:", "request: {dataset: nothing.jsonl}\nslo:", 2, "no such file"),
        ("service: {", "service: {files: {a.conf: no-such-template}, ", 2, "cannot read the template"),
    ],
)
def test_what_can_be_known_before_the_first_trial_is_said_before_it(
    tmp_path: Path, tune: Tune, old: str, new: str, code: int, said: str
) -> None:
    (tmp_path / "spec.yaml").write_text(MINIMAL.replace(old, new), encoding="utf-8")
    done = tune("--service", "spec.yaml")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert not (tmp_path / "tuning").exists()


@pytest.mark.parametrize(("content", "line"), [("", None), ('{"a": 1}\nnot json\n', 2)])
def test_a_bad_data_set_is_named_with_its_line(tmp_path: Path, tune: Tune, content: str, line: int | None) -> None:
    (tmp_path / "data.jsonl").write_text(content, encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(MINIMAL + "request: {dataset: data.jsonl}\n", encoding="utf-8")
    done = tune("--service", "spec.yaml")
    assert done.returncode == 2
    assert (f"data.jsonl:{line} is not JSON" if line else "is empty") in done.stderr


@pytest.mark.usefixtures("needs_machine")
def test_help_imports_nothing_heavy() -> None:
    code = "import sys, tuner.cli; print([m for m in ('optuna','torch','locust','pandas','numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("needs_machine")
def test_the_tuner_never_imports_the_load_generator() -> None:
    code = "import sys, tuner.commands.run; print([m for m in ('locust', 'gevent', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_generated_pages_are_up_to_date() -> None:
    for path, text in pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: run `make docs`"
