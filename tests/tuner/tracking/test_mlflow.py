"""A run in MLflow, on a real `mlflow server` in an environment of its own.

python3 -m venv .venv-mlflow && .venv-mlflow/bin/pip install mlflow
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runners.host.ports import Ports
from tests.conftest import Tune, recommendation
from tests.tuner.tracking.test_otel import demo

# It is looked for, and not imported: that takes two seconds, for which every selection of tests would wait.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="the extra is not installed: pip install '.[mlflow]'"
)
ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, needs_engine: None) -> Iterator[str]:
    """The address of a tracking server that keeps artifacts itself."""
    own = ROOT / ".venv-mlflow" / "bin" / "mlflow"
    program = os.environ.get("TUNE_TEST_MLFLOW") or (str(own) if own.exists() else None)
    if program is None:
        how = "python3 -m venv .venv-mlflow && .venv-mlflow/bin/pip install mlflow"
        pytest.skip(f"there is no MLflow server: {how}")
    folder, port = tmp_path_factory.mktemp("mlflow"), Ports().take()
    kept = ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder)]
    command = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *kept]
    with (folder / "log").open("w") as log, subprocess.Popen(
        command, stdout=log, stderr=log, cwd=folder, start_new_session=True, env=os.environ | {"PYTHONPATH": ""}
    ) as process:  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(f"{url}/health", folder / "log")
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _wait(url: str, log: Path, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.3)
        else:
            return
    pytest.fail(f"mlflow server does not answer: {log.read_text()[-2000:]}")


def ask(server: str, path: str, **body: Any) -> Any:
    request = urllib.request.Request(
        f"{server}/api/2.0/mlflow/{path}", json.dumps(body).encode() if body else None,
        {"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def named(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: one["value"] for one in pairs}


def test_a_run_is_a_parent_with_a_child_per_trial_and_the_files(
    tmp_path: Path, tune_in_process: Tune, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter-22")
    done = tune_in_process(
        "--service", demo(tmp_path), "--budget", 4, "--output", "out", "--json", "--mlflow-tracking-uri", server
    )
    assert done.returncode == 0, done.stderr
    assert "keeps no track" not in done.stderr
    best = json.loads(done.stdout)  # nothing else is printed there
    experiment = ask(server, "experiments/get-by-name?experiment_name=demo")["experiment"]["experiment_id"]
    runs = ask(server, "runs/search", experiment_ids=[experiment], max_results=100)["runs"]
    children = [run for run in runs if "mlflow.parentRunId" in named(run["data"]["tags"])]
    (parent,) = [run for run in runs if run not in children]
    assert {named(run["data"]["tags"])["mlflow.parentRunId"] for run in children} == {parent["info"]["run_id"]}
    first = {run["info"]["run_name"]: run for run in children if "again" not in run["info"]["run_name"]}
    assert sorted(first) == [f"trial {number}" for number in range(4)]
    chosen = first[f"trial {best['trial']}"]["data"]
    assert named(chosen["params"]) == {name: str(value) for name, value in best["configuration"].items()}
    assert named(chosen["metrics"])["capacity_qps"] == best["capacity_qps"]["value"]
    assert named(chosen["tags"])["tune.state"] == "complete"
    whole = named(parent["data"]["metrics"])
    assert whole["cost_per_million_requests"] == best["cost_per_million_requests"]
    assert whole["best_cost_per_million_requests"] == best["cost_per_million_requests"]
    assert {run["info"]["status"] for run in runs} == {"FINISHED"}
    files = ask(server, f"artifacts/list?run_id={parent['info']['run_id']}")["files"]
    assert {"recommendation.json", "report.html", "trials.csv"} <= {one["path"] for one in files}
    assert "hunter-22" not in done.stdout + done.stderr


def test_a_resumed_run_goes_on_with_its_parent_and_writes_no_trial_twice(
    tmp_path: Path, tune_in_process: Tune, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "resumed")
    words = ("--service", demo(tmp_path), "--output", "out", "--mlflow-tracking-uri", server, "--json")
    assert tune_in_process(*words, "--budget", 3).returncode == 0
    experiment = ask(server, "experiments/get-by-name?experiment_name=resumed")["experiment"]["experiment_id"]
    runs = ask(server, "runs/search", experiment_ids=[experiment], max_results=100)["runs"]
    (begun,) = [run["info"]["run_id"] for run in runs if "mlflow.parentRunId" not in named(run["data"]["tags"])]
    own = [{"key": "mlflow.parentRunId", "value": begun}]
    half = ask(server, "runs/create", experiment_id=experiment, run_name="trial half", start_time=1, tags=own)["run"]
    (tmp_path / "out").rename(tmp_path / "moved")
    words = (*words[:2], "--output", "moved", *words[4:])
    done = tune_in_process(*words, "--budget", 6, "--resume")
    assert done.returncode == 0, done.stderr
    assert "keeps no track" not in done.stderr
    best = json.loads(done.stdout)
    runs = ask(server, "runs/search", experiment_ids=[experiment], max_results=100)["runs"]
    children = [run for run in runs if "mlflow.parentRunId" in named(run["data"]["tags"])]
    (parent,) = [run for run in runs if run not in children]
    assert {named(run["data"]["tags"])["mlflow.parentRunId"] for run in children} == {parent["info"]["run_id"]}
    first = sorted(run["info"]["run_name"] for run in children if "again" not in run["info"]["run_name"])
    assert first == [*(f"trial {number}" for number in range(6)), "trial half"]
    statuses = {run["info"]["run_id"]: run["info"]["status"] for run in children}
    assert statuses.pop(half["info"]["run_id"]) == "KILLED", (
        "a run that was killed while it wrote this had left it open"
    )
    assert set(statuses.values()) == {"FINISHED"}
    assert parent["info"]["status"] == "FINISHED"
    tags = named(parent["data"]["tags"])
    assert {name: tags[f"tune.recommended.{name}"] for name in best["configuration"]} == {
        name: str(value) for name, value in best["configuration"].items()
    }
    assert tune_in_process(*words[:2], "--output", "other", *words[4:], "--budget", 3).returncode == 0
    runs = ask(server, "runs/search", experiment_ids=[experiment], max_results=100)["runs"]
    parents = [run for run in runs if "mlflow.parentRunId" not in named(run["data"]["tags"])]
    assert len(parents) == 2, "another run has a parent of its own"


class Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(400)
        self.end_headers()
        self.wfile.write(b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "unknown field `output`"}')

    def log_message(self, *_: object) -> None:
        pass


def test_a_word_that_a_server_puts_in_backticks_is_not_taken_for_an_option(
    tmp_path: Path, tune_in_process: Tune
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{refusing.server_port}"
        done = tune_in_process("--service", demo(tmp_path), "--budget", 3, "--mlflow-tracking-uri", uri)
        refusing.shutdown()
    assert done.returncode == 0
    (said,) = [line for line in done.stderr.splitlines() if "keeps no track" in line]
    assert "unknown field 'output'" in said


def test_a_server_that_is_down_is_said_once_without_its_password(tmp_path: Path, tune_in_process: Tune) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    uri = f"http://me:hunter-22@127.0.0.1:{port}"
    done = tune_in_process("--service", demo(tmp_path), "--budget", 3, "--output", "out", "--mlflow-tracking-uri", uri)
    assert done.returncode == 0
    (said,) = [line for line in done.stderr.splitlines() if "keeps no track" in line]
    assert said.startswith(f"MLflow at http://127.0.0.1:{port} ")
    assert "hunter-22" not in done.stdout + done.stderr
    assert recommendation(tmp_path / "out")["confirmed"] is True
