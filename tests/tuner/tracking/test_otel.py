"""Traces and metrics of a run, as a real receiver of OTLP over HTTP gets them; and receivers that are down."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import tuner
from results import TrialRecord
from tests.conftest import Tune, recommendation
from tuner.display import BudgetOutline, Observer, SpaceOutline, StudyOutline
from tuner.tracking import Tracked

pytest.importorskip("opentelemetry.sdk", reason="the extra is not installed: pip install '.[otel]'")
DEMO = Path(tuner.__file__).parent / "demo"


@dataclass
class Receiver:
    """What came in: spans, metrics by name (the last of each), and the headers of the last request."""

    spans: list[Any] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    resource: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def take(self, path: str, headers: dict[str, str], body: bytes) -> bytes:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
            ExportMetricsServiceRequest,
            ExportMetricsServiceResponse,
        )
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
            ExportTraceServiceResponse,
        )

        self.headers = headers
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource = {one.key: one.value.string_value for one in resource.resource.attributes}
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            return bytes(ExportTraceServiceResponse().SerializeToString())
        assert path == "/v1/metrics", path
        for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self.metrics |= {one.name: one for scope in measured.scope_metrics for one in scope.metrics}
        return bytes(ExportMetricsServiceResponse().SerializeToString())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer = received.take(self.path, dict(self.headers), body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        received.url = f"http://127.0.0.1:{server.server_port}"
        yield received
        server.shutdown()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and answers none."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def demo(folder: Path) -> Path:
    for name in ("spec.yaml", "h100-vision.csv"):
        shutil.copy(DEMO / name, folder)
    return folder / "spec.yaml"


def test_a_run_is_a_trace_with_a_span_per_trial_and_its_figures(
    tmp_path: Path, tune_in_process: Tune, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter-22")
    done = tune_in_process(
        "--service", demo(tmp_path), "--budget", 4, "--output", "out", "--otlp-endpoint", receiver.url
    )
    assert done.returncode == 0, done.stderr
    best = recommendation(tmp_path / "out")
    study = next(span for span in receiver.spans if span.name == "tune demo")
    trials = [span for span in receiver.spans if span.parent_span_id == study.span_id]
    assert {span.trace_id for span in receiver.spans} == {study.trace_id}
    assert [span.name for span in trials if "again" not in span.name] == [f"trial {number}" for number in range(4)]
    assert any("again" in span.name for span in trials)
    chosen = next(span for span in trials if span.name == f"trial {best['trial']}")
    shown = attributes(chosen)
    assert shown["tune.capacity_qps"] == best["capacity_qps"]["value"]
    assert shown["tune.state"] == "complete"
    assert {name: shown[f"tune.parameter.{name}"] for name in best["configuration"]} == {
        name: str(value) for name, value in best["configuration"].items()
    }
    assert attributes(study)["tune.decision"] == "deploy"
    assert study.start_time_unix_nano <= chosen.start_time_unix_nano <= chosen.end_time_unix_nano
    assert chosen.end_time_unix_nano <= study.end_time_unix_nano
    points = receiver.metrics["tune.trials"].sum.data_points
    assert sum(point.as_int for point in points) == len(trials)
    assert receiver.metrics["tune.best.capacity"].gauge.data_points[0].as_double == best["capacity_qps"]["value"]
    assert receiver.resource["service.name"] == "tune"
    assert receiver.headers["authorization"] == "hunter-22"
    assert "hunter-22" not in done.stdout + done.stderr


def test_metrics_have_every_percentile_that_was_measured(tmp_path: Path, receiver: Receiver) -> None:
    from tuner.tracking.otel import OtelTracker

    space, budget = SpaceOutline(1, "3"), BudgetOutline(3)
    outline = StudyOutline("seen", "minimize cost_per_hour", "p95 <= 50 ms", space, budget, tmp_path)
    record = TrialRecord.model_validate(
        {"number": 0, "state": "complete", "configuration": {"cpu_cores": 1}, "p95_ms": 31.5, "p999_ms": 55.5,
         "language": {"output_tokens": 10.0, "ttft": {"p50_ms": 11.0, "p95_ms": 12.5, "p99_ms": 13.5}}}
    )  # fmt: skip
    listener = Listener()
    display = Tracked(listener, [OtelTracker(receiver.url)])
    display.study_started(outline)
    display.trial_started(0, {"cpu_cores": 1}, 1, 3)
    display.trial_finished(record, record)
    display.close()
    assert listener.notices == []
    names = ("tune.trial.p95", "tune.trial.p999", "tune.trial.ttft.p95")
    assert [receiver.metrics[name].gauge.data_points[0].as_double for name in names] == [31.5, 55.5, 12.5]
    assert not {"tune.trial.p99", "tune.trial.itl.p95"} & receiver.metrics.keys(), "nobody measured them"
    [span] = [one for one in receiver.spans if one.name == "trial 0"]
    assert attributes(span)["tune.ttft_p95_ms"] == 12.5


def test_a_receiver_that_is_down_is_said_once_and_the_run_goes_on(tmp_path: Path, tune_in_process: Tune) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://me:hunter-22@127.0.0.1:{port}"
    done = tune_in_process("--service", demo(tmp_path), "--budget", 3, "--output", "out", "--otlp-endpoint", url)
    assert done.returncode == 0
    (said,) = [line for line in done.stderr.splitlines() if "keeps no track" in line]
    assert said.startswith(f"OpenTelemetry at http://127.0.0.1:{port} ")
    assert "hunter-22" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert recommendation(tmp_path / "out")["confirmed"] is True


def test_what_is_no_url_of_http_is_refused(tmp_path: Path, tune_in_process: Tune) -> None:
    done = tune_in_process("--service", demo(tmp_path), "--output", "out", "--otlp-endpoint", "collector:4317")
    assert (done.returncode, "such as http://127.0.0.1:4318" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


class Listener(Observer):
    """Keeps the notices, and the threads in which they were said."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.closed = 0

    def notice(self, text: str) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.notices.append(text)

    def close(self) -> None:
        self.closed += 1


def test_a_receiver_that_never_answers_holds_up_neither_a_trial_nor_the_end(tmp_path: Path) -> None:
    from tuner.tracking.otel import OtelTracker

    space, budget = SpaceOutline(1, "3"), BudgetOutline(3)
    outline = StudyOutline("hung", "minimize cost_per_hour", "p99 <= 50 ms", space, budget, tmp_path)
    with silent_server() as url:
        listener = Listener()
        display = Tracked(listener, [OtelTracker(url)], close_s=0.3)
        began = time.monotonic()
        display.study_started(outline)
        for number in range(100):
            display.trial_started(number, {"cpu_cores": 1}, number + 1, 100)
            display.phase(number, "launch", 0.1)
            display.trial_finished(
                TrialRecord(number=number, state="failed", reason="it died", configuration={"cpu_cores": 1}), None
            )
        told_s = time.monotonic() - began
        display.close()
        display.close()
        closed_s = time.monotonic() - began
    assert told_s < 0.5 * 5.0  # a sending's time-out is 5 s: nothing waited for one
    assert closed_s < 4.0
    assert len(listener.notices) == 1
    assert "did not answer in time" in listener.notices[0]
    assert listener.closed == 2


@pytest.mark.parametrize(
    ("option", "module", "extra"),
    [("--otlp-endpoint", "opentelemetry.sdk.metrics", "otel"), ("--mlflow-tracking-uri", "mlflow", "mlflow"),
     ("--wandb-dir", "wandb", "wandb")],
)  # fmt: skip
def test_a_missing_extra_is_an_error_of_one_line_before_anything_is_done(
    tmp_path: Path, tune_in_process: Tune, monkeypatch: pytest.MonkeyPatch, option: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)  # as Python has it for what is not there
    done = tune_in_process("--service", demo(tmp_path), "--output", "out", option, "http://127.0.0.1:9")
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"tune: {option} needs ")
    assert f"pip install '.[{extra}]'" in line
    assert not (tmp_path / "out").exists()
