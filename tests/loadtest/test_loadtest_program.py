"""The generator as a program: what it prints, how it ends, and which plans it refuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest

from loadtest import LatencyLimit, LoadGenerator, LoadPlan, LoadTestError, Progress, RequestPlan, Slo, pack
from loadtest.bundle import unpack

pytestmark = pytest.mark.usefixtures("needs_machine")

COMMAND = [sys.executable, "-P", "-m", "loadtest"]


def plan(**changes: Any) -> LoadPlan:
    slo = Slo(latency=(LatencyLimit(percentile=99, limit_ms=50),))
    asked: dict[str, Any] = {"url": "http://127.0.0.1:1", "request": RequestPlan(body="{}"), "max_s": 8.0, "slo": slo}
    return LoadPlan(**(asked | changes))


def of_tokens(**limit: Any) -> Slo:
    return Slo(latency=(LatencyLimit(**({"percentile": 99, "limit_ms": 50} | limit)),))


@pytest.fixture
def silent_server() -> Iterator[str]:
    """It accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "localhost:80"}, "url: 'localhost:80' is not of the form http://host:port"),
        ({"url": "http://127.0.0.1:99999"}, "url: "),
        ({"cores": (4095,)}, "cores: "),
        ({"request": RequestPlan(path="no slash")}, "request.path: "),
        ({"request": RequestPlan(method="GET / HTTP/1.1")}, "request.method: "),
        ({"request": RequestPlan(headers={"X-Key": "a\r\nb: c"})}, "request.headers: 'X-Key'"),
        ({"request": RequestPlan(body="{}", dataset="/dev/null")}, "body and dataset"),
        (
            {"slo": of_tokens(metric="latency", limit_ms=30_000), "request_timeout_s": 20},
            "request_timeout_s: 20 s is shorter than the slowest limit of slo, 30 s, so requests in between would be",
        ),
        ({"slo": of_tokens(metric="ttft")}, "slo.latency: ttft is a time of tokens; it needs request.stream: openai"),
        ({"slo": of_tokens(metric="per_token"), "rates_qps": (5.0,)}, "slo.latency: per_token is a time of tokens; "),
        ({"slo": of_tokens(metric="goodput", good_ms={"itl": 50})}, "slo.latency: goodput is a time of tokens; "),
        (
            {"slo": of_tokens(metric="tpot"), "locustfile": "/nowhere.py", "request": RequestPlan(stream="openai")},
            "slo.latency: tpot is a time of tokens, and a locustfile's answers are not read as streams; limit the",
        ),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    with LoadGenerator() as generator, pytest.raises(LoadTestError) as raised:
        generator.measure(plan(**changes), lambda _: None)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("limit", "timeout_s"),
    [
        ({"limit_ms": 50}, 10),
        ({"limit_ms": 12_000}, 24),
        ({"metric": "ttft", "limit_ms": 30_000}, 60),
        ({"metric": "itl", "limit_ms": 30_000}, 10),
        ({"metric": "goodput", "limit_ms": 30_000, "good_ms": {"itl": 30_000, "latency": 20_000}}, 40),
    ],
)
def test_no_request_is_given_up_before_it_is_late(limit: dict[str, Any], timeout_s: float) -> None:
    assert plan(slo=of_tokens(**limit)).request_timeout_s == timeout_s
    assert LoadPlan.model_validate_json(plan(slo=of_tokens(**limit)).model_dump_json()).request_timeout_s == timeout_s
    assert plan(slo=of_tokens(**limit), request_timeout_s=61).request_timeout_s == 61


def test_the_schema_describes_what_is_read_and_written() -> None:
    schema = json.loads(subprocess.run([*COMMAND, "--schema"], capture_output=True, check=True).stdout)
    done = subprocess.run(COMMAND, input=plan().model_dump_json(), capture_output=True, text=True, check=True)
    jsonschema.validate(json.loads(plan().model_dump_json()), schema["plan"])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines[:-1]] == ["progress"] * (len(lines) - 1)
    jsonschema.validate(lines[-1], schema["answer"])


def test_help_says_what_it_does() -> None:
    said = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    assert "standard input" in said
    assert "--schema" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_and_without_a_traceback(silent_server: str, number: signal.Signals) -> None:
    process = subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(plan(url=silent_server, max_s=60).model_dump_json())
    process.stdin.close()
    process.stdout.readline()
    begun = time.monotonic()
    process.send_signal(number)
    assert process.stderr is not None
    errors = process.stderr.read()
    process.wait(5)
    process.stdout.close()
    process.stderr.close()
    assert time.monotonic() - begun < 2
    assert "Traceback" not in errors


def test_progress_goes_on_while_a_server_is_silent(silent_server: str) -> None:
    seen: list[Progress] = []
    with LoadGenerator() as generator:
        found = generator.measure(plan(url=silent_server, max_s=3), seen.append)
    assert found.outcome == "infeasible"
    assert "timeout" in found.reason
    assert len(seen) >= 4
    assert [one.elapsed_s for one in seen] == sorted(one.elapsed_s for one in seen)


def test_a_generator_that_dies_is_reported_and_leaves_nothing(silent_server: str) -> None:
    def children() -> list[psutil.Process]:
        return [one for one in psutil.Process().children() if "loadtest" in one.cmdline()]

    with LoadGenerator() as generator:
        (child,) = children()
        threading.Timer(2.0, os.kill, (child.pid, signal.SIGKILL)).start()
        with pytest.raises(LoadTestError, match="ended with code -9"):
            generator.measure(plan(url=silent_server, max_s=60), lambda _: None)
    assert not children()


def test_a_bundle_holds_all_that_a_plan_names(tmp_path: Path, silent_server: str) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "images" / name).write_text(name, encoding="utf-8")
    (tmp_path / "trace.csv").write_text("time,rate\n0,5\n1,9\n", encoding="utf-8")
    asked = plan(
        url=silent_server, request=RequestPlan(dataset=str(tmp_path / "images")), arrivals="trace",
        trace=str(tmp_path / "trace.csv"), max_s=2.0, max_warmup_s=1.0, cores=(0,),
    )  # fmt: skip
    packed, pieces, target = pack(asked), tmp_path / "pieces", tmp_path / "target"
    pieces.mkdir()
    for number, start in enumerate(range(0, len(packed), 100)):
        (pieces / f"{number:03d}").write_bytes(packed[start : start + 100])
    here = LoadPlan.model_validate_json(unpack(pieces, target))
    assert here.request.dataset is not None
    assert sorted(path.name for path in Path(here.request.dataset).iterdir()) == ["a.txt", "b.txt"]
    assert here.trace is not None
    assert Path(here.trace).read_text(encoding="utf-8").startswith("time,rate")
    assert here.cores == ()
    done = subprocess.run([*COMMAND, "--bundle", str(pieces)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["measurement"]["outcome"] == "infeasible"
    (pieces / "000").write_bytes(b"x")
    done = subprocess.run([*COMMAND, "--bundle", str(pieces)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "holds no bundle" in done.stdout


@pytest.mark.parametrize(
    "text", ["5", "null", "[]", "no json", plan().model_dump_json().replace('"seed":0', '"seed":-1')]
)
def test_a_plan_that_is_no_mapping_is_refused(text: str) -> None:
    done = subprocess.run([sys.executable, "-m", "loadtest"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "error" in done.stdout
