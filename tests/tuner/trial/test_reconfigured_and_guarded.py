"""Servers that are told their parameters while they run, and the guard over the quality of their answers."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from loadtest import Body, RequestPlan
from tests.conftest import Tune, recommendation
from tuner.launch.quality import ask
from tuner.launch.requests import RequestSource

SERVER = Path(__file__).parent.parent.parent / "servers" / "reconfigurable.py"
SPEC = f"""\
version: 1
service:
  name: told
  command: [{sys.executable}, {SERVER}, --port, "{{port}}", --precision, "{{precision}}"]
  ready: {{path: /healthz, timeout: 10s}}
  manage: [{{method: PUT, path: /config, json: {{slots: "{{slots}}"}}}}]
request: {{path: /predict, json: {{x: 3}}}}
slo: {{p99: 250ms}}
objective: {{maximize: capacity_qps}}
space: {{parameters: {{cpu_cores: [1], slots: [1, 2, 4], precision: [fp32]}}}}
load: {{max_trial: 8s, max_warmup: 2s}}
"""


@pytest.fixture
def tune(tune_in_process: Tune, needs_machine: None) -> Tune:
    """The servers and the load are processes; that the command line is one is tested elsewhere."""
    return tune_in_process


# For tests that ask nothing of what is recommended.
WITHOUT_FINAL = SPEC.replace("maximize: capacity_qps", "maximize: capacity_qps, final: 0%")


def run(tune: Tune, folder: Path, spec: str, *more: str) -> Any:
    (folder / "spec.yaml").write_text(spec, encoding="utf-8")
    return tune("--service", "spec.yaml", "--budget", "3", *more)


def trials(folder: Path) -> list[dict[str, Any]]:
    paths = sorted((folder / "tuning" / "told" / "trials").glob("*/trial.json"))
    return [{**json.loads(path.read_text(encoding="utf-8")), "folder": path.parent} for path in paths]


def test_a_running_server_is_told_what_alone_differs_and_the_trials_say_so(tmp_path: Path, tune: Tune) -> None:
    done = run(tune, tmp_path, SPEC)
    assert done.returncode == 0, done.stderr
    first = [one for one in trials(tmp_path) if "again" not in one["folder"].name]
    assert [one["reused_from"] for one in first] == [None, 0, 0]
    assert "It ran in the server that trial 0 launched, told slots while it ran." in first[1]["notes"]
    assert first[1]["cold_start_s"] is None
    again = [one for one in trials(tmp_path) if "again" in one["folder"].name]
    assert again
    assert all(one["reused_from"] is None for one in again), "what is recommended was measured on fresh launches"
    log = (first[0]["folder"] / "server.log").read_text(encoding="utf-8")
    assert log.count("started") == 1
    assert sorted(line for line in log.splitlines() if "told" in line) == [f"told: {n} slots" for n in (1, 2, 4)]
    assert recommendation(tmp_path / "tuning" / "told")["configuration"]["slots"] == 4


def test_a_server_that_refuses_what_it_is_told_is_said_to(tmp_path: Path, tune: Tune) -> None:
    done = run(tune, tmp_path, WITHOUT_FINAL.replace("[1, 2, 4]", "[1, 9]"))
    assert done.returncode == 0, done.stderr
    [failed] = [one for one in trials(tmp_path) if one["state"] == "failed"]
    assert failed["reason"] == 'PUT /config was answered with 422 ("slots must be from 1 to 8, not 9")'


def test_trials_side_by_side_share_servers_and_none_waits_for_one_that_is_idle(tmp_path: Path, tune: Tune) -> None:
    spec = WITHOUT_FINAL.replace("cpu_cores: [1]", "cpu_cores: [2]").replace("max_trial: 8s", "max_trial: 15s")
    done = run(tune, tmp_path, spec, "--parallel", "2")
    assert done.returncode == 0, done.stderr
    counted = recommendation(tmp_path / "tuning" / "told")["trials"]
    # Fewer slots are slower, and may be pruned where more of them were measured first.
    assert counted["complete"] + counted["pruned"] == 3, (counted, done.stderr)


COMPILING = """\
import os, sys
folder = os.environ["TORCHINDUCTOR_CACHE_DIR"]
done = os.path.exists(os.path.join(folder, "kernel"))
os.makedirs(folder, exist_ok=True)
open(os.path.join(folder, "kernel"), "w").close()
print("found" if done else "compiled", folder == os.path.join(sys.argv[1], "inductor"), flush=True)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def test_what_is_compiled_once_is_found_by_later_trials(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "compiling.py").write_text(COMPILING, encoding="utf-8")
    spec = SPEC.replace(f"[{sys.executable}, ", f"[{sys.executable}, compiling.py, '{{cache_dir}}', ")
    spec = spec.replace('--port, "{port}"', '--port, "{port}", --service-ms, "{service_ms}"')
    # One is far better, so that the final has little to find out.
    space = "service_ms: [5, 20], slots: [1], precision: [fp32], compile: [true]"
    spec = spec.replace("slots: [1, 2, 4], precision: [fp32]", space)
    done = run(tune, tmp_path, spec.replace('slots: "{slots}"', "slots: 1"), "--budget", "2")
    assert done.returncode == 0, done.stderr
    logs = {path.parent.name: path.read_text() for path in (tmp_path / "tuning" / "told").glob("trials/*/server.log")}
    assert logs["0000"].startswith("compiled True")
    assert logs["0001"].startswith("found True")
    fresh = [text for name, text in logs.items() if "again" in name]
    assert fresh
    assert all(text.startswith("compiled True") for text in fresh), "as where it will be deployed"
    assert (tmp_path / "tuning" / "told" / "cache" / "inductor" / "kernel").exists()


class _Echo(BaseHTTPRequestHandler):
    """Says what it was sent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        text = json.dumps({"type": self.headers["Content-Type"], "user": self.headers["X-User"]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def test_each_question_of_the_guard_has_the_type_of_its_body() -> None:
    bodies = [Body(b"a", "image/png"), Body(b"b", "image/jpeg"), Body(b"c")]
    source = RequestSource(
        "POST", "/", {"Content-Type": "text/plain", "X-User": "Zo\xeb"}, b"", RequestPlan(), tls=False
    )
    with HTTPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert ask(url, source, "$.type", bodies, lambda: None) == ["image/png", "image/jpeg", "text/plain"]
        assert ask(url, source, "$.user", bodies[:1], lambda: None) == ["Zo\xeb"]
        server.shutdown()


GUARD = WITHOUT_FINAL.replace("slots: [1, 2, 4], precision: [fp32]", "slots: [1], precision: [fp32, int8]")


def test_answers_that_are_wrong_make_a_configuration_infeasible(tmp_path: Path, tune: Tune) -> None:
    lines = [json.dumps({"request": {"x": x}, "label": 2 * x}) for x in range(20)]
    (tmp_path / "labelled.jsonl").write_text("\n".join(lines), encoding="utf-8")
    done = run(tune, tmp_path, GUARD + "quality: {dataset: labelled.jsonl, answer: $.y, at_least: 95%}\n")
    assert done.returncode == 0, done.stderr
    states = {one["configuration"]["precision"]: (one["state"], one["reason"]) for one in trials(tmp_path)}
    assert states["int8"] == ("infeasible", "quality: 0.0% of 20 answers are right, of 95.0% asked for")
    assert states["fp32"][0] == "complete"


def test_answers_far_from_the_references_make_a_configuration_infeasible(tmp_path: Path, tune: Tune) -> None:
    guard = "quality: {reference: {cpu_cores: 1, slots: 1, precision: fp32}, answer: $.y, tolerance: TOLERANCE}\n"
    done = run(tune, tmp_path, GUARD + guard.replace("TOLERANCE", "0.01"))
    assert done.returncode == 0, done.stderr
    states = {one["configuration"]["precision"]: (one["state"], one["reason"]) for one in trials(tmp_path)}
    assert states["int8"] == ("infeasible", "quality: 0.0% of 1 answers are as the reference's, of 100.0% asked for")
    assert states["fp32"][0] == "complete"
    known = tmp_path / "tuning/told/reference/answers.json"
    assert json.loads(known.read_text())["answers"] == [6.0]
    first = next(one for one in trials(tmp_path) if one["number"] == 0)
    assert (first["reused_from"], first["cold_start_s"] is None) == (None, False), (
        "the reference had a server of its own"
    )
    done = run(tune, tmp_path, GUARD + guard.replace("TOLERANCE", "0.1"), "--output", "wide")
    assert done.returncode == 0, done.stderr
    counted = recommendation(tmp_path / "wide")["trials"]
    both = (tmp_path / "wide" / "trials").glob("????/trial.json")
    states = {path.parent.name: json.loads(path.read_text(encoding="utf-8"))["state"] for path in both}
    # Both are equally fast, so that the second may be pruned: whether it can beat the first is noise.
    assert counted["complete"] + counted["pruned"] == 2, (counted, states)
    assert counted["infeasible"] == counted["failed"] == 0, (counted, states)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("quality: {dataset: no.jsonl, answer: $.y}", "no.jsonl: there is no such file (spec.yaml:"),
        ("quality: {dataset: bad.jsonl, answer: $.y}", 'bad.jsonl:1 is not {"request": ..., "label": ...}'),
        ("quality: {dataset: bad.jsonl, answer: y}", "'y' is no JSON path"),
        ("quality: {answer: $.y}", "needs either dataset (requests with labels) or reference"),
        ("quality: {answer: $.y, reference: {slots: 3}}", "quality.reference: it gives no cpu_cores"),
    ],
)
def test_a_guard_that_cannot_work_is_said_before_the_first_trial(
    tmp_path: Path, tune_in_process: Tune, section: str, said: str
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"x": 1}\n', encoding="utf-8")
    done = run(tune_in_process, tmp_path, SPEC + section + "\n")
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert not list(tmp_path.glob("tuning/told/trials/*"))
