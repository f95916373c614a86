"""Several generator processes share one load, and a user's own locustfile is its source."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest

from loadtest import Auth, LatencyLimit, LoadGenerator, LoadPlan, LoadTestError, Measurement, Progress, RequestPlan, Slo
from tests.loadtest.api_server import serving
from tests.loadtest.generator.test_loadtest_wire import serving as serving_queue

pytestmark = pytest.mark.usefixtures("needs_machine")


def plan(url: str, limit_ms: float = 100, **asked: Any) -> LoadPlan:
    slo = Slo(latency=(LatencyLimit(percentile=99, limit_ms=limit_ms),))
    defaults: dict[str, Any] = {"request": RequestPlan(body="{}"), "max_warmup_s": 2, "max_s": 15}
    return LoadPlan(url=url, slo=slo, **(defaults | asked))


def measure(asked: LoadPlan, on_progress: Callable[[Progress], Any] = lambda _: None) -> Measurement:
    with LoadGenerator() as generator:
        return generator.measure(asked, on_progress)


def workers() -> list[psutil.Process]:
    """Workers that a generator of this process started."""
    return [one for one in psutil.Process().children(recursive=True) if "--worker" in one.cmdline()]


@pytest.mark.alone
def test_two_workers_send_what_one_would_have_sent() -> None:
    """M/D/1 with 5 ms of service at 100 requests/s: the median is 7 ms in theory, and nothing is late."""
    with serving_queue() as url:
        one = measure(plan(url, rates_qps=(100,), rate_s=4)).probes[0]
        two = measure(plan(url, rates_qps=(100,), rate_s=4, workers=2)).probes[0]
    assert (one.workers, two.workers) == (1, 2)
    assert two.requests == pytest.approx(one.requests, abs=40)  # a moment in which the machine stood still is left out
    assert two.errors == two.misses == 0
    assert two.completed == two.requests
    assert two.p50_ms == pytest.approx(one.p50_ms, rel=0.25)
    assert not workers()


@pytest.mark.alone
def test_the_capacity_is_the_same_with_two_workers() -> None:
    """M/D/1 with 5 ms of service and a p99 of 50 ms: 161 requests/s in theory."""
    with serving_queue() as url:
        found = measure(plan(url, 50, workers=2, max_s=20))
    assert found.outcome == "measured"
    assert found.capacity_qps is not None
    assert found.capacity_qps.value == pytest.approx(161, rel=0.15)


@pytest.mark.parametrize("order", ["sequential", "random"])
def test_no_worker_sends_again_what_another_sends(tmp_path: Path, order: Literal["sequential", "random"]) -> None:
    """Of so many bodies hardly one is due twice. What warms the server up is sent by the generator itself."""
    (tmp_path / "bodies.jsonl").write_text("\n".join(map(str, range(5_000))), encoding="utf-8")
    request = RequestPlan(dataset=str(tmp_path / "bodies.jsonl"), order=order)
    with serving() as api:
        asked = plan(api.url, 1000, request=request, workers=2, rates_qps=(40,), rate_s=4, max_warmup_s=1, max_s=60)
        found = measure(asked).probes[0]
        bodies = [one.body for one in api.asked[-found.requests :]]
    assert found.workers == 2
    assert len(set(bodies)) > 0.9 * len(bodies)


def test_a_worker_that_dies_is_said_and_nothing_is_left() -> None:
    def kill_one(progress: Progress) -> None:
        if progress.phase == "probe" and (found := workers()):
            os.kill(found[0].pid, signal.SIGKILL)

    with serving_queue() as url, pytest.raises(LoadTestError, match=r"worker did not .*: process \d+ ended"):
        measure(plan(url, workers=2), kill_one)
    time.sleep(0.6)
    assert not workers()


def test_workers_end_with_their_generator() -> None:
    with serving_queue() as url, LoadGenerator() as generator:
        timer = threading.Timer(4, generator.close)
        timer.start()
        with pytest.raises((LoadTestError, ValueError)):
            generator.measure(plan(url, workers=2, max_s=60), lambda _: None)
        found = [one for one in psutil.process_iter(["cmdline"]) if "--worker" in (one.info["cmdline"] or [])]
        psutil.wait_procs(found, timeout=5)
        assert not [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_worker_ends_whose_generator_died_before_it_could_look() -> None:
    starter = """import os, signal, subprocess, sys
command = [sys.executable, "-P", "-m", "loadtest", "--worker", "127.0.0.1:9", "--parent", str(os.getpid())]
worker = subprocess.Popen(command)
print(worker.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    dead = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=False)
    assert dead.returncode == -signal.SIGKILL
    with suppress(psutil.NoSuchProcess):
        psutil.wait_procs([psutil.Process(int(dead.stdout))], timeout=20)
    assert not psutil.pid_exists(int(dead.stdout)) or psutil.Process(int(dead.stdout)).status() == psutil.STATUS_ZOMBIE


@contextmanager
def remote_worker(port: int) -> Iterator[None]:
    command = [sys.executable, "-P", "-m", "loadtest", "--worker", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield
        assert process.wait(10) == 0  # its master told it to quit
    finally:
        process.kill()
        process.communicate()


def test_workers_may_be_somewhere_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with serving_queue() as url, remote_worker(port), remote_worker(port):
        found = measure(plan(url, rates_qps=(100,), rate_s=2, remote_workers=2, listen=f"127.0.0.1:{port}"))
    assert found.probes[0].workers == 2
    assert found.probes[0].errors == 0
    assert found.probes[0].requests > 50


def test_a_worker_more_than_was_asked_for_sends_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with serving() as api, remote_worker(port), remote_worker(port):
        found = measure(plan(api.url, 1000, rates_qps=(50,), rate_s=3, remote_workers=1, listen=f"127.0.0.1:{port}"))
    assert found.probes[0].workers == 1
    assert found.probes[0].achieved_qps == pytest.approx(50, rel=0.3)


def test_what_a_worker_elsewhere_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with serving() as api, remote_worker(port):
        monkeypatch.setenv("ONLY_HERE", "secret")
        request = RequestPlan(body="{}", auth=Auth(bearer="ONLY_HERE"))
        with pytest.raises(LoadTestError, match=r"worker did not get ready: request.auth: .* ONLY_HERE is not set"):
            measure(plan(api.url, request=request, remote_workers=1, listen=f"127.0.0.1:{port}"))


def test_a_worker_without_a_master_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "loadtest", "--worker", "nowhere"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no master at nowhere" in done.stderr
    assert "Traceback" not in done.stderr


LOCUSTFILE = """\
from locust import FastHttpUser, HttpUser, TaskSet, between, task

class Nested(TaskSet):
    @task
    def deep(self):
        self.client.get("/nested")

class Reader(FastHttpUser):
    wait_time = between(5, 10)
    weight = 3
    tasks = {Nested: 1}

    def on_start(self):
        self.client.post("/login", data="me")

    @task(2)
    def read(self):
        self.client.get("/ok", name="read")

class Writer(HttpUser):
    @task
    def write(self):
        with self.client.post("/failed", json={"x": 1}, catch_response=True) as answer:
            if WRONG and "error" in answer.json():
                answer.failure("an error inside")
"""


def write_locustfile(folder: Path, text: str) -> str:
    path = folder / "locustfile.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_an_arrival_is_a_task_of_the_users_locustfile(tmp_path: Path) -> None:
    path = write_locustfile(tmp_path, LOCUSTFILE.replace("WRONG", "False"))
    with serving() as api:
        found = measure(plan(api.url, 300, locustfile=path, rates_qps=(60,), rate_s=3))
    probe = found.probes[0]
    assert probe.errors == 0
    assert probe.requests == pytest.approx(150, rel=0.4)
    assert probe.p50_ms is not None
    assert probe.p50_ms < 100
    paths = [one.path for one in api.asked]
    assert {"/login", "/nested", "/ok", "/failed"} == set(paths)
    assert paths.count("/ok") > 1.2 * paths.count("/nested")
    assert paths.count("/login") < 0.2 * len(paths)


def test_what_a_locustfile_calls_a_failure_is_one(tmp_path: Path) -> None:
    path = write_locustfile(tmp_path, LOCUSTFILE.replace("WRONG", "True"))
    with serving() as api:
        found = measure(plan(api.url, 300, locustfile=path, rates_qps=(60,), rate_s=3))
    probe = found.probes[0]
    assert list(probe.error_kinds) == ["CatchResponseError: an error inside"]
    assert probe.errors == pytest.approx(probe.requests / 4, rel=0.4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import locust\nprint(1 / 0)\n", r"locustfile.py:2: ZeroDivisionError"),
        ("def broken(:\n", r"locustfile.py:1: SyntaxError"),
        ("import no_such_module\n", r"locustfile.py:1: ModuleNotFoundError"),
        ("x = 1\n", "has no User class with tasks"),
        ("import sys\nsys.exit('enough')\n", "ended itself with 'enough'"),
    ],
)
def test_a_locustfile_that_is_none_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = write_locustfile(tmp_path, text)
    with pytest.raises(LoadTestError, match=said) as raised:
        measure(plan("http://127.0.0.1:1", locustfile=path))
    assert "\n" not in str(raised.value)


@pytest.mark.alone
def test_bursts_make_the_same_rate_harder_to_serve(tmp_path: Path) -> None:
    """M/D/1 with 5 ms of service at 100 requests/s: bursts of three times that rate are more than it can serve."""
    trace = tmp_path / "rates.csv"
    trace.write_text("time,rate\n0,100\n1,300\n1.5,50\n3,50\n", encoding="utf-8")
    with serving_queue() as url:
        even, bursts, traced = (
            measure(plan(url, 200, rates_qps=(100,), rate_s=6, **asked)).probes[0].p95_ms or 0
            for asked in ({}, {"arrivals": "bursty"}, {"arrivals": "trace", "trace": str(trace)})
        )
    assert even < 30
    assert bursts > 2 * even
    assert traced > 2 * even
