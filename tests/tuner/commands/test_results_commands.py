"""What a finished study is used for: plan, gate and export, and what a running one shows to Prometheus."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

from results import Estimate, TrialEvidence, Use
from results.exports.documents import header
from tests.conftest import SERVER, Tune, call_tune, recommendation, run_tune, tune_command, tune_environment
from tuner.api import load_study
from tuner.errors import UsageError
from tuner.outcome.deployable import deployables
from tuner.study.storage.archive import Archive
from tuner.study.storage.connection import sqlite_url

TABLE = """\
cpu_cores,batch,capacity_qps,p99_ms,status,trial_s
1,1,50,40,ok,60
1,4,80,45,ok,60
2,1,95,40,ok,60
2,4,150,44,ok,60
"""
SPEC = """\
version: 1
service: {name: finished, image: "finished:1", command: [serve, --port, "{port}", --batch, "{batch}"]}
slo: {p99: 50ms}
space: {parameters: {cpu_cores: [1, 2], batch: {choices: [1, 4], role: batch_size}}}
prices: {cpu_core_hour: 0.04}
runner: {type: replay, table: table.csv}
"""
REAL = f"""\
version: 1
service:
  name: real
  command: [{sys.executable}, {SERVER}, --port, "{{port}}", --service-ms, "{{service_ms}}"]
  ready: {{path: /healthz, timeout: 10s}}
request: {{path: /predict, json: {{x: 1}}}}
slo: {{p99: 150ms}}
objective: {{maximize: capacity_qps}}
space: {{parameters: {{cpu_cores: [1], service_ms: [10]}}}}
load: {{max_trial: 8s, max_warmup: 2s}}
"""


@pytest.fixture
def tune(tune_in_process: Tune) -> Tune:
    """No server is launched: nothing here needs a process."""
    return tune_in_process


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run has ended, made once; each test works on a copy."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "table.csv").write_text(TABLE, encoding="utf-8")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    done = call_tune(folder, "--service", "spec.yaml", "--budget", "4", "--output", "out")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def finished(tmp_path: Path, study: Path) -> Path:
    shutil.copytree(study, tmp_path, dirs_exist_ok=True)
    return tmp_path / "out"


def test_a_plan_is_made_of_a_finished_directory(finished: Path, tune: Tune) -> None:
    done = tune("plan", "out", "--qps", "1000", "--pattern", "daily", "--spot", "40%", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["configuration"] == {"cpu_cores": 1, "batch": 4}
    assert document["replicas"]["max"] >= 13
    assert {offer["name"] for offer in document["offers"]} == {"on demand", "spot"}
    assert document["miss_share"] <= 0.01
    assert (finished / "plan.csv").is_file()
    text = tune("plan", "out", "--qps", "1000")
    assert "Run cpu_cores=1 batch=4: 14 replicas all the time." in text.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which traffic?"),
        (("--traffic", "nowhere.csv"), "nowhere.csv: there is no such file"),
        (("--traffic", "table.csv"), "no column for the time"),
        (("--qps", "0"), "--qps"),
        (("--qps", "10", "--valley", "20", "--pattern", "daily"), "the valley must not be above the peak"),
        (("--qps", "10", "--misses", "5"), "no % in"),
        (("--qps", "40k"), "'40k' is not a number, such as 500 or 0.5."),
        (("--qps", "4", "--zones", "two"), "'two' is not a whole number."),
        (("--traffic", "table.csv", "--pattern", "burst"), "brings its own pattern"),
    ],
)
def test_a_plan_that_cannot_be_made_says_why(finished: Path, tune: Tune, arguments: tuple[str, ...], said: str) -> None:
    done = tune("plan", finished, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command", [("plan", "--qps", "4"), ("export",), ("gate", "--baseline", "out/recommendation.json")]
)
def test_a_file_in_place_of_a_folder_for_what_is_written_is_told(
    finished: Path, tune: Tune, command: tuple[str, ...]
) -> None:
    done = tune(command[0], finished, *command[1:], "--output", "spec.yaml")
    assert done.returncode == 4
    assert done.stderr == "tune: spec.yaml: is a file; name a folder by --output\n"


def test_a_plan_allows_as_many_late_requests_as_the_slo(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(SPEC.replace("p99:", "p99.9:"), encoding="utf-8")
    assert tune("--service", "spec.yaml", "--budget", "4", "--output", "out").returncode == 0
    document = json.loads(tune("plan", "out", "--qps", "1000", "--pattern", "daily", "--json").stdout)
    assert document["allowed_miss_share"] == pytest.approx(0.001)
    assert document["miss_share"] <= 0.001
    assert load_study(tmp_path / "out").plan(qps=1000).wishes.misses == pytest.approx(0.001)
    looser = json.loads(tune("plan", "out", "--qps", "1000", "--misses", "1%", "--json").stdout)
    assert looser["allowed_miss_share"] == 0.01


def test_the_cores_of_an_export_are_those_at_the_capacity_and_not_at_the_rate_that_was_seen(finished: Path) -> None:
    study = load_study(finished)
    summary, number = study.summary, study.summary.recommendation.trial
    best = next(summary.latest(one) for one in summary.records if one.number == number)
    assert best.capacity_qps is not None
    seen = best.latency.model_copy(update={"latencies_at_qps": best.capacity_qps.value / 2})
    seen_at_half = best.model_copy(update={"use": Use(cpu_cores_used=0.3), "latency": seen})
    pooled = {**summary.launches.pooled, best.number: seen_at_half}
    changed = replace(summary, launches=replace(summary.launches, pooled=pooled))
    assert deployables(changed, study.spec)[""].measured.cores_used == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("saving", "said"),
    [
        (None, "uncertain: another configuration that was measured may be better"),
        (Estimate(value=0.1, low=-0.1, high=0.3), "uncertain: it may be no better than the current configuration"),
    ],
)
def test_an_export_of_what_is_uncertain_says_so(finished: Path, saving: Estimate | None, said: str) -> None:
    study = load_study(finished)
    doubted = study.summary.recommendation.model_copy(update={"decision": "uncertain", "saving": saving})
    one = deployables(replace(study.summary, recommendation=doubted), study.spec)[""]
    assert said in one.notes
    assert f"; {said}" in header(one)
    known = doubted.model_copy(update={"doubt": "the current configuration was not measured"})
    one = deployables(replace(study.summary, recommendation=known), study.spec)[""]
    assert one.notes == ("uncertain, since the current configuration was not measured",)
    decided = doubted.model_copy(update={"decision": "deploy"})
    assert deployables(replace(study.summary, recommendation=decided), study.spec)[""].notes == ()


@pytest.mark.parametrize(
    ("reason", "said"),
    [("too short to tell: 40 requests", "was too short to tell"), ("answered 503", "held no SLO here")],
)
def test_an_export_of_a_trial_that_showed_nothing_says_why(finished: Path, reason: str, said: str) -> None:
    study = load_study(finished)
    record = study.summary.records[0]
    failed = record.model_copy(update={"number": 77, "state": "failed", "reason": reason, "capacity_qps": None})
    with pytest.raises(UsageError, match=f"`trial` 77 {said}; these held it: "):
        deployables(replace(study.summary, records=(*study.summary.records, failed)), study.spec, trial=77)


def test_exports_are_written(finished: Path, tune: Tune) -> None:
    done = tune("export", finished, "--format", "kubernetes", "--qps", "300")
    assert done.returncode == 0, done.stderr
    kinds = {one["kind"]: one for one in YAML(typ="safe", pure=True).load_all(done.stdout)}
    server = kinds["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert server["command"] == ["serve", "--port", "8000", "--batch", "4"]
    assert server["resources"]["requests"] == {"cpu": "1000m"}
    assert kinds["Deployment"]["spec"]["replicas"] == 5
    assert tune("export", finished, "--format", "compose", "--output", "files").returncode == 0
    assert (finished.parent / "files" / "compose.yaml").is_file()
    assert "kustomization.yaml" in tune("export", finished, "--format", "kustomize").stdout
    refused = tune("export", finished, "--format", "triton")
    assert refused.returncode == 2
    assert "does not run triton" in refused.stderr


def test_the_gate_judges_a_finished_directory(finished: Path, tune: Tune) -> None:
    baseline = finished.parent / "baseline.json"
    content = recommendation(finished)
    baseline.write_text(json.dumps(content), encoding="utf-8")
    same = tune("gate", finished, "--baseline", baseline)
    assert same.returncode == 0
    assert "The run recommends" not in same.stdout
    moved = content | {"configuration": content["configuration"] | {"batch": 1}}
    baseline.write_text(json.dumps(moved), encoding="utf-8")
    said = (
        "The run recommends cpu_cores=1 batch=4, and the baseline is of cpu_cores=1 batch=1: each figure is of its own."
    )
    assert said in tune("gate", finished, "--baseline", baseline).stdout
    assert json.loads((finished / "gate" / "gate.json").read_text(encoding="utf-8"))["moved"] == said
    better: dict[str, Any] = content | {"capacity_qps": dict.fromkeys(("value", "low", "high"), 100.0)}
    baseline.write_text(json.dumps(better), encoding="utf-8")
    failed = tune("gate", finished, "--baseline", baseline)
    assert failed.returncode == 5
    assert "failed: it has become worse" in failed.stdout
    assert 'failures="2"' in (finished / "gate" / "junit.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("currency", "million"), [("USD", "$0.139"), ("EUR", "0.139 EUR")])
@pytest.mark.parametrize("measure", [(), ("--measure",)])
def test_the_gates_money_has_its_currency(
    tmp_path: Path, tune: Tune, currency: str, million: str, measure: tuple[str, ...]
) -> None:
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(
        SPEC.replace("prices: {", f"prices: {{currency: {currency}, "), encoding="utf-8"
    )
    assert tune("spec.yaml", "--budget", "4", "--output", "out").returncode == 0
    done = tune("gate", "out", "--baseline", "out/recommendation.json", *measure)
    assert f"cost per million requests: {million} after {million}" in done.stdout
    assert ("--measure" in measure) == (f"{million} per million, 80.0 req/s" in done.stderr)
    assert f"| {million} | {million} |" in (tmp_path / "out" / "gate" / "gate.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "gate" / "gate.json").read_text(encoding="utf-8"))["currency"] == currency


def test_a_gate_compares_no_amounts_of_two_currencies(finished: Path, tune: Tune) -> None:
    elsewhere = recommendation(finished) | {"currency": "EUR"}
    (finished.parent / "euros.json").write_text(json.dumps(elsewhere), encoding="utf-8")
    done = tune("gate", finished, "--baseline", "euros.json")
    assert done.returncode == 2
    assert "the baseline's prices are in 'EUR', those of finished in USD" in done.stderr


def test_a_gate_without_a_baseline_says_so(finished: Path, tune: Tune) -> None:
    assert tune("gate", finished, "--baseline", "nowhere.json").returncode == 2
    other = recommendation(finished) | {"service": "other"}
    (finished.parent / "other.json").write_text(json.dumps(other), encoding="utf-8")
    done = tune("gate", finished, "--baseline", "other.json")
    assert done.returncode == 2
    assert "the baseline is of other, not of finished" in done.stderr


def test_a_gate_that_launches_nothing_refuses_a_runner(finished: Path, tune: Tune) -> None:
    done = tune("gate", finished, "--baseline", finished / "recommendation.json", "--runner", "docker")
    assert done.returncode == 2
    assert "--runner launches nothing by itself: add --measure, or name a spec with --service" in done.stderr


def test_a_step_summary_that_cannot_be_written_does_not_change_what_the_gate_says(
    finished: Path, tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("gate", finished, "--baseline", finished / "recommendation.json")
    code = tune(*words).returncode
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(finished))
    done = tune(*words)
    assert done.returncode == code
    assert "tune: GITHUB_STEP_SUMMARY cannot be written: " in done.stderr


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, needs_machine: None) -> Path:
    """The folder of a finished study of a real server."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "spec.yaml").write_text(REAL, encoding="utf-8")
    done = run_tune(folder, "--service", "spec.yaml", "--budget", "1", "--output", "out")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_a_real_server_is_gated_and_its_evidence_is_kept(measured: Path, tmp_path: Path, tune_process: Tune) -> None:
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    archive = Archive(sqlite_url(tmp_path / "out"))
    evidence = archive.evidence(0)
    assert evidence != TrialEvidence()
    assert any(one.histogram for one in evidence.probes)
    assert all(sum(count for _, count in one.histogram) == one.requests for one in evidence.probes)
    assert evidence.usage
    assert "Latency of the recommendation" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    # Far beyond the noise of a busy machine; a slow server needs time to be judged.
    slower = REAL.replace('"{service_ms}"', '"30"').replace("max_trial: 8s", "max_trial: 16s")
    (tmp_path / "slower.yaml").write_text(slower, encoding="utf-8")
    baseline = tmp_path / "out" / "recommendation.json"
    done = tune_process("gate", "out", "--baseline", baseline, "--service", "slower.yaml", "--json")
    assert done.returncode == 5, done.stdout + done.stderr
    assert json.loads(done.stdout)["measurements"] == 2, done.stdout + done.stderr


@pytest.mark.slow
def test_a_gate_whose_load_generator_dies_has_found_no_regression(measured: Path, tmp_path: Path) -> None:
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    words = ("gate", "out", "--baseline", tmp_path / "out" / "recommendation.json", "--service", "spec.yaml")
    with subprocess.Popen(
        tune_command(*words), cwd=tmp_path, env=tune_environment(tmp_path), stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    ) as run:  # fmt: skip
        while run.poll() is None:
            for child in _children(run.pid):
                with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                    if "loadtest" in child.cmdline():
                        child.kill()
            time.sleep(0.2)
        assert run.stderr is not None
        said = run.stderr.read()
    assert run.returncode == 4, said
    assert "the load generator was the limit of this measurement, not the server: once more" in said
    assert "the load generator did not get as far as the baseline: the load test could not run: " in said


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


@pytest.mark.usefixtures("needs_machine")
@pytest.mark.slow
def test_a_running_study_shows_metrics(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(REAL, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("--service", "spec.yaml", "--budget", "1", "--output", "out", "--metrics-port", str(port))
    with subprocess.Popen(
        tune_command(*words), cwd=tmp_path, env=tune_environment(tmp_path), stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    ) as run:  # fmt: skip
        assert run.stderr is not None
        try:
            next(line for line in run.stderr if "[1/1 done]" in line)
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
            assert 'tune_trials{state="complete"} 1.0' in text
            assert "tune_load_test_seconds_total" in text
            assert "tune_best_capacity_qps" in text
        finally:
            run.send_signal(signal.SIGINT)
            run.stderr.read()
            assert run.wait(60) in (0, 130)
    with socket.socket() as again, pytest.raises(ConnectionRefusedError):
        again.connect(("127.0.0.1", port))


DASHBOARD = Path(__file__).parents[3] / "charts" / "tune" / "templates" / "metrics.yaml"


@pytest.mark.usefixtures("needs_machine")
@pytest.mark.slow
def test_a_real_prometheus_answers_what_the_grafana_dashboard_asks(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("there is no prometheus here: apt-get install prometheus")
    (tmp_path / "spec.yaml").write_text(REAL + "prices: {cpu_core_hour: 0.04}\n", encoding="utf-8")
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    port, asked = (one.getsockname()[1] for one in taken)
    for one in taken:
        one.close()
    scraped = {"job_name": "tune", "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"pod": "run"}}]}
    settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scraped]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(settings), encoding="utf-8")
    with subprocess.Popen(
        ["prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}",
         f"--web.listen-address=127.0.0.1:{asked}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as prometheus, subprocess.Popen(
        tune_command("spec.yaml", "--budget", "1", "--metrics-port", str(port), "--metrics-host", "0.0.0.0"),
        cwd=tmp_path, env=tune_environment(tmp_path), stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL,
    ) as run:  # fmt: skip
        assert run.stderr is not None
        try:
            next(line for line in run.stderr if "[1/1 done]" in line)
            time.sleep(2.5)  # two scrapes
            questions = re.findall(r'"expr": "(.*)",', DASHBOARD.read_text(encoding="utf-8"))
            assert len(questions) >= 8
            for question in questions:
                query = urllib.parse.urlencode({"query": question.replace('\\"', '"').replace("$pod", "run")})
                url = f"http://127.0.0.1:{asked}/api/v1/query?{query}"
                answer = json.load(urllib.request.urlopen(url, timeout=10))
                values = [float(one["value"][1]) for one in answer["data"]["result"]]
                assert values, question
                assert max(values) > 0 or "tune_phase" in question, question
        finally:
            run.send_signal(signal.SIGINT)
            prometheus.terminate()
            run.stderr.read()


def test_a_metrics_port_that_is_taken_is_said(finished: Path, tune: Tune) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = tune(
            "--service", "spec.yaml", "--budget", "1", "--metrics-port", taken.getsockname()[1], "--output", "x"
        )
    assert done.returncode == 4
    assert "Address already in use; change --metrics-port or --metrics-host" in done.stderr


def test_many_trials_are_read_fast(tmp_path: Path) -> None:
    from benchmarks.dashboard import write_study

    write_study(tmp_path / "many", 2_000)
    archive = Archive(sqlite_url(tmp_path / "many"))
    begun = time.monotonic()
    assert len(archive.snapshot().records) == 2_000
    first = time.monotonic() - begun
    begun = time.monotonic()
    assert len(archive.snapshot().records) == 2_000
    assert time.monotonic() - begun < first  # only what is new is read again


def test_a_gate_on_a_machine_that_is_too_small_has_found_no_regression(finished: Path, tune: Tune) -> None:
    folder = finished.parent
    spec = REAL.replace("name: real", "name: finished").replace("[1], service_ms", "[4096], service_ms")
    spec = spec.replace("p99: 150ms", "p99: 50ms")
    (folder / "large.yaml").write_text(spec, encoding="utf-8")
    baseline = recommendation(finished) | {"configuration": {"cpu_cores": 4096, "service_ms": 10}}
    (folder / "large.json").write_text(json.dumps(baseline), encoding="utf-8")
    done = tune("gate", finished, "--baseline", "large.json", "--service", "large.yaml")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "(cpu_cores=4096 service_ms=10) cannot run here: it " in done.stderr
