"""The generator as a program, against real servers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtest import (
    LatencyLimit,
    LoadGenerator,
    LoadPlan,
    LoadTestError,
    Measurement,
    Progress,
    RequestPlan,
    Slo,
    Stage,
    read_log,
)
from tests.conftest import SERVER

pytestmark = pytest.mark.usefixtures("needs_machine")


@contextmanager
def serving(mode: str = "ok", service_ms: float = 5, workers: int = 1) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(SERVER), "--port", str(port), "--mode", mode, "--service-ms", str(service_ms),
         "--workers", str(workers)], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def plan(url: str, limit_ms: float = 50, **options: Any) -> LoadPlan:
    return LoadPlan(
        url=url, request=RequestPlan(path="/predict", body="{}"),
        slo=Slo(latency=(LatencyLimit(percentile=99, limit_ms=limit_ms),), error_rate=options.pop("error_rate", None)),
        max_s=options.pop("max_s", 12), max_warmup_s=3, **options,
    )  # fmt: skip


def measure(asked: LoadPlan) -> Measurement:
    with LoadGenerator() as generator:
        return generator.measure(asked, lambda _: None)


def test_the_capacity_of_a_known_queue_is_found() -> None:
    """Four servers of 10 ms: 400 requests/s at most, and p99 within 60 ms until shortly below."""
    with serving(service_ms=10, workers=4) as url:
        found = measure(plan(url, 60, max_s=15))
    assert found.outcome == "measured"
    assert found.capacity_qps is not None
    assert 240 < found.capacity_qps.value < 420
    assert found.p99_ms is not None
    assert 10 <= found.p99_ms.value <= 60
    assert found.base_latency_ms == pytest.approx(11, abs=4)
    assert found.saturated_qps == pytest.approx(400, rel=0.3)
    assert all(probe.histogram for probe in found.probes)


def test_a_first_rate_that_cannot_be_held_prunes() -> None:
    with serving(service_ms=20) as url:
        found = measure(plan(url, first_rate_qps=100))
    assert found.outcome == "pruned", [(p.verdict, p.reason, p.requests, p.misses) for p in found.probes]
    assert found.bound_qps == 100
    assert found.saturated_qps == pytest.approx(50, rel=0.3)
    assert found.load_s < 6


def test_a_server_that_works_on_a_hundred_requests_at_once_is_not_understated() -> None:
    """150 servers of 400 ms: 375 requests/s at most. Bursts of up to 30 users are answered 75 times a second."""
    with serving(service_ms=400, workers=150) as url:
        found = measure(plan(url, 500, max_s=30, first_rate_qps=240))
    assert found.outcome == "measured", found.reason
    assert found.saturated_qps == pytest.approx(375, rel=0.3)
    assert found.capacity_qps is not None
    assert 240 < found.capacity_qps.value < 400


def test_a_server_too_slow_even_alone_is_infeasible_at_once() -> None:
    with serving(service_ms=80) as url:
        begun = time.monotonic()
        found = measure(plan(url, 50))
    assert found.outcome == "infeasible"
    assert "a lone request takes 8" in found.reason
    assert time.monotonic() - begun < 8


@pytest.mark.parametrize(("mode", "said"), [("error-500", "http 500"), ("hang", "timeout"), ("die-under-load", "")])
def test_what_the_server_does_wrong_is_its_fault_and_bounded_in_time(mode: str, said: str) -> None:
    with serving(mode) as url:
        begun = time.monotonic()
        found = measure(plan(url, max_s=6))
        assert time.monotonic() - begun < 12
    assert found.outcome in ("infeasible", "invalid")
    assert found.capacity_qps is None
    assert said in found.reason


def test_a_server_that_is_not_there_is_named() -> None:
    found = measure(plan("http://127.0.0.1:1", max_s=6))
    assert found.outcome == "infeasible"
    assert "connection refused" in found.reason


def test_a_trial_that_slow_answers_used_up_says_how_slow_they_were() -> None:
    with serving(service_ms=400) as url:
        found = measure(plan(url, 2000, max_s=4))
    said = "too short to tell: the time was over before the first probe, since a lone request takes 0.4 s"
    assert (found.outcome, found.reason) == ("invalid", said)


@pytest.mark.parametrize("service_ms", [600, 900, 1500])  # in each, the time is over within a request
def test_a_warm_up_that_is_about_as_short_as_an_answer_makes_no_server_silent(service_ms: float) -> None:
    with serving(service_ms=service_ms, workers=8) as url:
        found = measure(plan(url, 5000, max_s=6).model_copy(update={"max_warmup_s": 1.0}))
    assert found.outcome != "infeasible", found.reason
    assert found.base_latency_ms == pytest.approx(service_ms, rel=0.2)


def test_progress_is_reported_and_what_it_raises_ends_the_test() -> None:
    seen: list[Progress] = []

    def stop_at_the_first_probe(progress: Progress) -> None:
        seen.append(progress)
        if progress.phase == "probe":
            raise KeyboardInterrupt

    with serving() as url, pytest.raises(KeyboardInterrupt), LoadGenerator() as generator:
        generator.measure(plan(url), stop_at_the_first_probe)
    assert seen[0].phase == "warmup"
    assert not [child for child in psutil.Process().children() if "loadtest" in " ".join(child.cmdline())]


def shown(url: str, request: RequestPlan, *limits: LatencyLimit) -> Progress:
    """The first progress of a probe that has a latency."""
    seen: list[Progress] = []

    def stop_at_the_first_latency(progress: Progress) -> None:
        if progress.phase == "probe" and progress.p99_ms is not None:
            seen.append(progress)
            raise KeyboardInterrupt

    asked = plan(url).model_copy(update={"slo": Slo(latency=limits), "request": request})
    with pytest.raises(KeyboardInterrupt), LoadGenerator() as generator:
        generator.measure(asked, stop_at_the_first_latency)
    return seen[0]


def test_progress_has_the_percentile_that_the_slo_limits_beside_the_p99() -> None:
    limits = [LatencyLimit(percentile=percent, limit_ms=500) for percent in (50, 90)]
    with serving(service_ms=20, workers=8) as url:
        found = shown(url, RequestPlan(path="/predict", body="{}"), *limits)
    assert found.limited is not None
    assert found.p99_ms is not None
    assert (found.limited.metric, found.limited.percentile) == ("latency", 90)
    assert found.limited.ms is not None
    assert 20 <= found.limited.ms <= found.p99_ms


def run(document: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "loadtest"],
        input=document,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return done.returncode, answer


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("", "the plan"),
        ("{", "the plan"),
        ("[" * 100_000, "the plan"),
        ('{"url": "http://127.0.0.1:1"}', "request"),
        (plan("http://127.0.0.1:1").model_dump_json().replace('"max_s":12.0', '"max_s":-1'), "max_s"),
        (plan("http://127.0.0.1:1").model_dump_json().replace('"seed"', '"sede"'), "sede"),
    ],
)
def test_a_wrong_plan_is_answered_in_json(document: str, said: str) -> None:
    code, answer = run(document)
    assert code == 2
    assert said in answer["error"]


@pytest.mark.parametrize(
    ("content", "said"), [(None, "there is no such file"), ("", "is empty"), ('{"a":1}\n{\n', ":2 is not JSON")]
)
def test_a_wrong_data_set_is_named_with_its_line(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "data.jsonl"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    asked = plan("http://127.0.0.1:1").model_copy(update={"request": RequestPlan(dataset=str(path))})
    with LoadGenerator() as generator, pytest.raises(LoadTestError, match=said):
        generator.measure(asked, lambda _: None)


def test_the_generator_ends_when_its_caller_is_killed() -> None:
    code = (
        "import sys, time\nfrom loadtest import *\n"
        "p = LoadPlan.model_validate_json(sys.argv[1])\n"
        "with LoadGenerator() as g:\n    print(g._process.pid, flush=True)\n    g.measure(p, lambda _: None)\n"
    )
    with serving() as url:
        caller = subprocess.Popen(
            [sys.executable, "-c", code, plan(url, max_s=60).model_dump_json()], stdout=subprocess.PIPE, text=True
        )
        assert caller.stdout is not None
        generator = psutil.Process(int(caller.stdout.readline()))
        time.sleep(2)
        os.kill(caller.pid, signal.SIGKILL)
        caller.communicate()
        generator.wait(timeout=5)


def test_a_plan_is_utf_8_in_any_locale() -> None:
    asked = plan("http://127.0.0.1:1").model_copy(update={"request": RequestPlan(dataset="/nowhere/日本")})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "loadtest"], input=asked.model_dump_json().encode(), capture_output=True,
        check=False, timeout=60, env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert "/nowhere/日本" in json.loads(done.stdout.splitlines()[-1])["error"]


def test_rates_that_there_was_no_time_for_are_said() -> None:
    with serving(service_ms=2) as url:
        found = measure(plan(url, rates_qps=(20, 30, 40), rate_s=4, max_s=8))
    assert len(found.probes) < 3
    assert f"{3 - len(found.probes)} of 3 rates were not tried: max_s was over." in found.notes


def test_what_a_locustfile_prints_is_no_answer() -> None:
    lines = ["{'id': 7}", '{"id": 7}', '{"event":"progress","phase":"probe","elapsed_s":1,"fraction":0.5}']
    seen: list[Progress] = []
    with pytest.raises(LoadTestError, match="too bad"):
        read_log([*lines, '{"event":"answer","measurement":null,"error":"too bad"}'], seen.append)
    assert len(seen) == 1


def test_a_chains_stages_come_after_the_search_and_are_waited_for() -> None:
    alone = plan("http://127.0.0.1:1", max_s=40)
    stages = tuple(Stage(name=f"s{number}", plan=alone) for number in range(5))
    assert alone.longest_s == 40
    # Each of six endpoints: 2 s of lone requests, 1.5 s of a crowd and 5 s at most until that is answered.
    assert alone.model_copy(update={"stages": stages, "stages_s": 20}).longest_s > 40 + 20 + 6 * 8.5


def test_the_time_of_stages_is_a_part_of_the_loads() -> None:
    """What was used at a rate is looked up by when that was, counted back from the load's end."""
    with serving(service_ms=5) as url:
        stages = (Stage(name="second", plan=plan(url, 200)),)
        found = measure(plan(url, 200, max_s=15, stages=stages, stages_s=4))
    assert [one.name for one in found.stages] == ["", "second"]
    searched_s = max(one.started_s + one.duration_s for one in found.probes) - found.load_started_s
    assert found.load_s > searched_s + 4
