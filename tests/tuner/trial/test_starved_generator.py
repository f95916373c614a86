"""A server whose threads take every core that they may leaves the load generator its own."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import psutil
import pytest

from loadtest import LatencyLimit, LoadGenerator, LoadPlan, RequestPlan, Slo
from runners import Container, Readiness, Resources, RunsHere
from runners.process import ProcessRunner

SERVER = Path(__file__).parents[2] / "servers" / "streaming.py"
pytestmark = [pytest.mark.usefixtures("needs_machine"), pytest.mark.alone]


def container(runner: ProcessRunner, folder: Path, spin: int) -> Container:
    placement = runner.place(folder)
    command = ("python", str(SERVER), "--port", str(placement.port), "--spin", str(spin))
    return Container(
        "starved", 0, folder, folder, {}, Resources(), placement, Readiness("/healthz", 30.0, None), command=command
    )


def plan(url: str, cores: tuple[int, ...], *, shares_cores: bool) -> LoadPlan:
    body = json.dumps({"prompt": "a b c", "max_tokens": 10})
    limits = (
        LatencyLimit(metric="ttft", percentile=99, limit_ms=2000),
        LatencyLimit(metric="tpot", percentile=99, limit_ms=1000),
    )
    return LoadPlan(
        url=url, request=RequestPlan(path="/v1/completions", body=body, stream="openai"), slo=Slo(latency=limits),
        rates_qps=(20,), rate_s=3, max_s=12, max_warmup_s=2, cores=cores, shares_cores=shares_cores,
    )  # fmt: skip


def test_without_a_number_of_cores_the_generator_is_not_starved(tmp_path: Path) -> None:
    """The server keeps as many processes spinning as there are cores."""
    runner = ProcessRunner()
    cores = len(os.sched_getaffinity(0))
    with runner.launch(container(runner, tmp_path, cores)) as endpoint, LoadGenerator() as generator:
        assert isinstance(endpoint, RunsHere)
        assert endpoint.processes is not None
        assert endpoint.shares_cores == (cores == 1)
        assert any("the load generator" in note for note in endpoint.notes)
        asked = plan(endpoint.url, endpoint.client_cores, shares_cores=endpoint.shares_cores)
        (probe,) = generator.measure(asked, lambda _: None).probes
        port = str(endpoint.url).rsplit(":", 1)[1]
        spinning = [one for one in psutil.process_iter(["cmdline"]) if port in (one.info["cmdline"] or ())]
        assert len(spinning) == cores + 1
        assert all(set(one.cpu_affinity()) == set(endpoint.processes.cores) for one in spinning)
    # On the spinning processes' core it would wait for most of the time, however quiet the machine is otherwise.
    assert probe.generator_starved < 0.4


def test_a_starved_generator_reports_no_times_of_tokens_and_calls_nothing_met(tmp_path: Path) -> None:
    """On the spinning server's own core, and its processes come first: among equals the one that sleeps would."""
    if os.geteuid() != 0:
        pytest.skip("only root may raise a priority")
    runner = ProcessRunner()
    with runner.launch(container(runner, tmp_path, 3)) as endpoint, LoadGenerator() as generator:
        (core, *_) = sorted(set(os.sched_getaffinity(0)) - set(endpoint.client_cores)) or [0]
        assert isinstance(endpoint, RunsHere)
        assert endpoint.processes is not None
        leader = psutil.Process(endpoint.processes.pids[0])
        for one in (leader, *leader.children(recursive=True)):
            one.cpu_affinity([core])
            one.nice(-20)
        with contextlib.suppress(OSError):  # where sessions are weighed before their processes
            Path(f"/proc/{leader.pid}/autogroup").write_text("-20", encoding="ascii")
        asked = plan(endpoint.url, (core,), shares_cores=True)
        measured = generator.measure(asked, lambda _: None)
    (probe,) = measured.probes
    assert probe.generator_starved > 0.1
    assert probe.verdict == "invalid"
    assert "no time of a token is known" in probe.reason
    assert probe.streaming == {}
