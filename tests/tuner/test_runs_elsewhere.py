"""The main job where somebody else runs the server: one that is there already, and one that commands start and end."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.host.ports import Ports
from tests.conftest import Tune, recommendation
from tuner.errors import SpecError
from tuner.launch.checks.before_launch import check
from tuner.launch.runner import make_runner
from tuner.spec.reading import load_spec

SERVERS = Path(__file__).parent.parent / "servers"
TOLD = """\
version: 1
service:
  name: told
  ready: {{path: /healthz, timeout: 10s}}
  {manage}
request: {{path: /predict, json: {{x: 3}}}}
slo: {{p99: 250ms}}
objective: {{maximize: capacity_qps, final: 0%}}
{space}
load: {{max_trial: 8s, max_warmup: 1s}}
runner: {{type: attach, url: "{url}"}}
"""
MANAGE = 'manage: [{method: PUT, path: /config, json: {slots: "{slots}"}}]'
SPACE = "space: {parameters: {slots: [1, 4], cpu_cores: [1]}}"
COMMANDS = f"""\
version: 1
service: {{name: jobs, ready: {{path: /healthz, timeout: 10s}}}}
request: {{path: /predict, json: {{x: 3}}}}
slo: {{p99: 250ms}}
space: {{parameters: {{cpu_cores: [1], service_ms: [10]}}}}
objective: {{minimize: cost_per_million_requests, final: 0%}}
prices: {{cpu_core_hour: 0.04}}
load: {{max_trial: 8s, max_warmup: 1s}}
runner:
  type: command
  up: [{sys.executable}, {SERVERS}/scheduler.py, up, "{{id}}", --folder, "{{folder}}", --port, "{{port}}",
       --service-ms, "{{service_ms}}"]
  url: [{sys.executable}, {SERVERS}/scheduler.py, url, "{{id}}", --folder, "{{folder}}"]
  down: [{sys.executable}, {SERVERS}/scheduler.py, down, "{{id}}", --folder, "{{folder}}"]
"""


@pytest.fixture
def tune(tune_in_process: Tune, needs_machine: None) -> Tune:
    """The servers and the load are processes; that the command line is one is tested elsewhere."""
    return tune_in_process


@contextlib.contextmanager
def told_server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Somebody's server, which can be told its slots."""
    port = Ports().take()
    command = [sys.executable, str(SERVERS / "reconfigurable.py"), "--port", str(port), "--precision", "fp32"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield f"http://127.0.0.1:{port}", server
        finally:
            server.kill()


@pytest.mark.usefixtures("needs_machine")
def test_a_server_that_is_there_is_told_what_is_tuned_and_runs_on(tmp_path: Path, tune: Tune) -> None:
    with told_server() as (url, server):
        (tmp_path / "spec.yaml").write_text(TOLD.format(url=url, manage=MANAGE, space=SPACE), encoding="utf-8")
        done = tune("--service", "spec.yaml", "--budget", "2")
        assert done.returncode == 0, done.stderr
        assert server.poll() is None
    assert recommendation(tmp_path / "tuning" / "told")["configuration"]["slots"] == 4
    notes = json.loads((tmp_path / "tuning" / "told" / "trials" / "0000" / "trial.json").read_text("utf-8"))["notes"]
    assert any("was there already" in note for note in notes)


@pytest.mark.usefixtures("needs_machine")
def test_without_a_parameter_what_is_there_is_measured(tmp_path: Path, tune: Tune) -> None:
    with told_server() as (url, server):
        (tmp_path / "spec.yaml").write_text(TOLD.format(url=url, manage="", space=""), encoding="utf-8")
        done = tune("--service", "spec.yaml", "--budget", "1")
        assert done.returncode == 0, done.stderr
        assert server.poll() is None
    found = recommendation(tmp_path / "tuning" / "told")
    assert found["configuration"] == {"deployment": "as-it-is"}
    assert found["capacity_qps"]["value"] > 0
    assert found["confirmed"] is False


@pytest.mark.usefixtures("needs_machine")
def test_commands_start_and_end_each_trials_server(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "spec.yaml").write_text(COMMANDS, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", "1")
    assert done.returncode == 0, done.stderr
    assert recommendation(tmp_path / "tuning" / "jobs")["cost_per_million_requests"] > 0
    logs = [path.read_text(encoding="utf-8") for path in (tmp_path / "tuning" / "jobs" / "trials").glob("*/server.log")]
    assert logs
    assert all("# up: " in log and "# down: " in log for log in logs)
    assert not list((tmp_path / "state" / "tune" / "commands").iterdir())


def problem(folder: Path, text: str) -> str:
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        loaded = load_spec(folder / "spec.yaml")
        check(loaded)
        make_runner(loaded)
    assert "spec.yaml:" in str(caught.value)
    return str(caught.value)


def test_what_a_server_that_is_there_cannot_be_told_is_refused(tmp_path: Path) -> None:
    text = TOLD.format(url="http://127.0.0.1:1", manage="", space=SPACE)
    assert "slots: a server that is there already cannot be told it" in problem(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("type: command", "type: attach", "up is not for type: attach"),
        ("type: command", "type: process", "is not for type: process"),
        ("  down:", "  noise: 10%\n  down:", "noise is for type: replay"),
        ('--port, "{port}"', '--port, "{prot}"', "unknown placeholder {prot}; did you mean {port}?"),
        ("service_ms: [10]", "id: [1, 2]", "id is a name that the outputs use"),
        (f"up: [{sys.executable}", "up: [no-such-program", "there is no program 'no-such-program'"),
    ],
)
def test_wrong_commands_are_said_before_anything_is_started(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in COMMANDS
    assert reason in problem(tmp_path, COMMANDS.replace(old, new))


@pytest.mark.parametrize(("url", "reason"), [("tcp://h:1", "is not a URL"), ("http://u:p@h", "a user or a password")])
def test_a_wrong_address_is_said_with_its_place(tmp_path: Path, url: str, reason: str) -> None:
    assert reason in problem(tmp_path, TOLD.format(url=url, manage="", space=""))
