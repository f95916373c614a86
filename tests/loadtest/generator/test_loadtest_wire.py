"""What a server does wrong on the wire is named, counted against it, and never costs more time than was given."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtest import LatencyLimit, LoadGenerator, LoadPlan, Measurement, RequestPlan, Slo

pytestmark = pytest.mark.usefixtures("needs_machine")

SERVER = Path(__file__).parent.parent / "timed_server.py"


@contextmanager
def serving(mode: str = "ok", service_ms: float = 5, after: int = 0) -> Iterator[str]:
    command = [sys.executable, str(SERVER), "--mode", mode, "--service-ms", str(service_ms), "--after", str(after)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def measure(url: str, limit_ms: float = 50, *, method: str = "POST", **options: Any) -> Measurement:
    error_rate = options.pop("error_rate", None)
    plan = LoadPlan(
        url=url, request=RequestPlan(method=method, path="/predict", body="{}"),
        slo=Slo(latency=(LatencyLimit(percentile=99, limit_ms=limit_ms),), error_rate=error_rate),
        request_timeout_s=options.pop("request_timeout_s", 1.0), max_warmup_s=3, **options,
    )  # fmt: skip
    with LoadGenerator() as generator:
        return generator.measure(plan, lambda _: None)


@pytest.mark.parametrize(
    ("mode", "method", "said"),
    [
        ("close", "GET", "connection closed"),
        ("reset", "POST", "connection closed"),
        ("broken-off", "POST", "broken answer"),
        ("hints-broken-off", "POST", "broken answer"),
        ("redirect", "POST", "http 307"),
    ],
)
def test_an_answer_that_is_none_is_named(mode: str, method: str, said: str) -> None:
    begun = time.monotonic()
    with serving(mode, service_ms=1) as url:
        found = measure(url, method=method, max_s=6)
    assert found.outcome == "infeasible"
    assert said in found.reason
    assert time.monotonic() - begun < 5


def test_an_answer_that_never_ends_is_given_up_after_the_timeout() -> None:
    with serving("dribble") as url:
        found = measure(url, max_s=6, request_timeout_s=0.5)
    assert found.outcome == "infeasible"
    assert "timeout" in found.reason


def test_a_server_that_stops_answering_under_load_costs_no_more_than_the_time_given() -> None:
    with serving("hang-after", after=400) as url, LoadGenerator() as generator:
        plan = LoadPlan(
            url=url, request=RequestPlan(), slo=Slo(latency=(LatencyLimit(percentile=99, limit_ms=50),)), max_s=5
        )
        time.sleep(1)  # until it has started
        begun = time.monotonic()
        found = generator.measure(plan, lambda _: None)
        assert time.monotonic() - begun < 6.5
    assert found.outcome in ("infeasible", "invalid")
    assert found.capacity_qps is None


def test_an_answer_counts_from_its_end_and_not_from_the_hints_before_it() -> None:
    with serving("hints", service_ms=1) as url:
        found = measure(url, rates_qps=(10,), rate_s=2, max_s=16)
    assert found.probes[0].errors == 0
    assert (found.probes[0].p50_ms or 0) > 20


def test_connections_are_used_again() -> None:
    """The server serves 200 connections, and thousands of requests."""
    with serving("few-connections", service_ms=1, after=200) as url:
        found = measure(url, max_s=12, first_rate_qps=200)
    assert found.probes[0].errors == 0
    assert found.probes[0].completed > 20


def test_failures_over_their_own_limit_are_missed_although_the_latency_holds() -> None:
    with serving("some-500", service_ms=2) as url:
        found = measure(url, 100, max_s=9, error_rate=0.001, first_rate_qps=100)
    assert found.outcome in ("pruned", "infeasible")
    assert "http 500" in found.reason
    assert found.probes[0].error_kinds.keys() == {"http 500"}


@pytest.mark.alone
def test_the_latency_at_a_known_rate_is_that_of_theory() -> None:
    """M/D/1 with 5 ms of service at 100 requests/s: p99 is 21.7 ms (an eighth is allowed for a short probe here)."""
    with serving() as url:
        found = measure(url, 150, max_s=10, first_rate_qps=100)
    first = found.probes[0]
    assert first.verdict in ("met", "undecided")
    assert first.p50_ms == pytest.approx(7.5, abs=2.5)
    assert first.p99_ms is not None
    assert first.p99_ms.low * 0.8 <= 21.7 <= first.p99_ms.high * 1.6
