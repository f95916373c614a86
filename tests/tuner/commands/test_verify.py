"""A deployment beside its recommendation, on a real Prometheus that scrapes real servers."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from results import Estimate
from results.gate import LiveStep, Setting, expected_curve, verified
from results.percentiles import P99, Percentile
from results.trial_parts import (
    ProbeRecord,
    TrialEvidence,
)
from runners.host.ports import Ports
from tests.conftest import Tune
from tuner.commands.verify import VerifyOptions, Window, queries_of, verify_document
from tuner.outcome.prometheus import read_recorded_rates
from tuner.study.storage.keys import EVIDENCE

SERVER = Path(__file__).parent.parent.parent / "servers" / "metered.py"
SPEC = """\
version: 1
service: {name: metered}
slo: {p99: 150ms}
objective: {maximize: capacity_qps, final: 0%}
space: {parameters: {cpu_cores: [1]}}
runner: {type: replay, table: table.csv}
"""
MEASURED_S = 0.014  # so that a server that takes 10 ms is not slower on a busy machine either
SCRAPED = """\
global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}
scrape_configs:
  - job_name: same
    static_configs: [{{targets: ["127.0.0.1:{same}"]}}]
  - job_name: slower
    static_configs: [{{targets: ["127.0.0.1:{slower}"]}}]
"""
RATE_QPS, SECONDS = 35.0, 16.0


@contextlib.contextmanager
def serving(service_ms: float) -> Iterator[int]:
    port = Ports().take()
    command = [sys.executable, str(SERVER), "--port", str(port), "--service-ms", str(service_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield port
        finally:
            server.kill()


@contextlib.contextmanager
def prometheus(folder: Path, same: int, slower: int) -> Iterator[str]:
    if shutil.which("prometheus") is None:
        pytest.skip("there is no prometheus here: apt-get install prometheus")
    (folder / "prometheus.yml").write_text(SCRAPED.format(same=same, slower=slower), encoding="utf-8")
    address = f"127.0.0.1:{Ports().take()}"
    command = [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://{address}/-/ready", timeout=1).close()
                    break
                time.sleep(0.1)
            yield f"http://{address}"
        finally:
            running.terminate()


def load(ports: tuple[int, ...]) -> None:
    """Poisson arrivals, each in a thread of its own, at all the servers."""
    chance = random.Random(3)

    def ask(port: int) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", b"{}", method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    threads, at, begun = [], 0.0, time.monotonic()
    while at < SECONDS:
        at += chance.expovariate(RATE_QPS)
        time.sleep(max(0.0, begun + at - time.monotonic()))
        for port in ports:
            threads.append(threading.Thread(target=ask, args=(port,)))
            threads[-1].start()
    for thread in threads:
        thread.join()


def measured_probe(rate_qps: float) -> ProbeRecord:
    """What a probe of a server of that service time would have seen: a queue with fixed service, simulated."""
    generator = np.random.default_rng(1)
    arrivals = np.cumsum(generator.exponential(1 / rate_qps, 20_000))
    work = MEASURED_S * np.arange(1, len(arrivals) + 1)
    latencies = 1e3 * (work + np.maximum.accumulate(arrivals - work + MEASURED_S) - arrivals)
    p99 = float(np.quantile(latencies, 0.99))
    counts, bounds = np.histogram(latencies, np.geomspace(1, 2000, 300))
    return ProbeRecord(
        rate_qps=rate_qps, verdict="met", started_s=0, duration_s=1, requests=len(arrivals), misses=0, errors=0,
        p90_ms=float(np.quantile(latencies, 0.9)), p99_ms=Estimate(value=p99, low=0.96 * p99, high=1.04 * p99),
        histogram=tuple(zip(bounds[1:].tolist(), counts.tolist(), strict=True)),
    )  # fmt: skip


def finished(folder: Path, tune: Tune) -> None:
    """A run of a table, to whose one trial the probes of a real measurement are added."""
    (folder / "table.csv").write_text("cpu_cores,capacity_qps\n1,60\n", encoding="utf-8")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", "1", "--output", "out")
    assert done.returncode == 0, done.stderr
    evidence = TrialEvidence(probes=tuple(measured_probe(rate) for rate in (20.0, 30.0, 40.0, 50.0, 58.0)))
    with contextlib.closing(sqlite3.connect(folder / "out" / "study.db")) as database, database:
        database.execute(
            "INSERT OR REPLACE INTO trial_user_attributes (trial_id, key, value_json) VALUES (1, ?, ?)",
            (EVIDENCE, evidence.model_dump_json()),
        )


def test_the_percentile_that_the_slo_limits_is_asked_for_and_named() -> None:
    p90 = Percentile("latency", 90)
    window = Window(14.0, 2.0, 1.0)
    asked = VerifyOptions(
        Path(), "http://127.0.0.1:1", "request_seconds{job='a'}", None, None, "1", window, Setting(), None,
        as_json=False, storage=None, study=None,
    )  # fmt: skip
    queries = queries_of(asked, p90)
    assert queries.latency.startswith("histogram_quantile(0.9, sum by (le) (rate(request_seconds_bucket{job='a'}")
    assert queries.percentile == p90
    given = queries_of(replace(asked, p99="my:p99"), p90)
    assert (given.latency, given.percentile) == ("my:p99", P99), "a query for a p99 says nothing of a p90"
    in_ms = replace(asked, metric="request_ms{job='a'}")
    assert queries_of(in_ms, p90).to_ms == 1.0
    assert queries_of(replace(in_ms, p99="my:p99"), p90).to_ms == 1e3, "the p99 of a query is in seconds"
    probes = [measured_probe(rate) for rate in (20.0, 30.0, 40.0, 50.0, 58.0)]
    curve = expected_curve(probes, Estimate.exactly(60.0), [1.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0], p90)
    other = expected_curve(probes, Estimate.exactly(60.0), [1.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0])
    assert curve is not None
    assert other is not None
    assert (curve.latency_ms < other.latency_ms).all()
    steps = [LiveStep(60.0 * n, 40.0, float(curve.at(np.array([40.0]))[0])) for n in range(20)]
    found = verified(steps, curve, Estimate.exactly(60.0), 30.0, Setting(0.02, 0.15, looks=1, percentile=p90))
    document = verify_document("s", found, p90)
    assert (document["outcome"], document["percentile"], document["p99_ms"]) == ("holds", 90, None)
    assert document["latency_ms"]["live"] == pytest.approx(document["latency_ms"]["expected"])
    assert verify_document("s", found)["p99_ms"] == document["latency_ms"]


@pytest.mark.usefixtures("needs_engine")
def test_a_deployment_that_is_as_measured_holds_and_a_slower_one_is_found(tmp_path: Path, tune: Tune) -> None:
    finished(tmp_path, tune)
    with serving(10) as same, serving(25) as slower, prometheus(tmp_path, same, slower) as url:
        load((same, slower))
        end_s = time.time()
        window = ("--range", "14s", "--step", "2s", "--end", end_s, "--prometheus", url)
        held = tune("verify", "out", *window, "--metric", 'request_seconds{job="same"}')
        assert held.returncode == 0, held.stdout + held.stderr
        assert "metered holds: no slower than it was measured" in held.stdout
        assert "were probed" in held.stdout
        found = tune("verify", "out", *window, "--metric", 'request_seconds{job="slower"}', "--json")
        assert found.returncode == 5, found.stdout + found.stderr
        document = json.loads(found.stdout)
        assert document["outcome"] == "slower"
        assert document["p99_ms"]["change"]["low"] > 0
        assert 0.7 * RATE_QPS < document["traffic_per_replica"]["mean_qps"] < 1.3 * RATE_QPS
        nothing = tune("verify", "out", *window, "--metric", 'request_seconds{job="nobody"}')
        assert nothing.returncode == 2
        assert "gives no series for that time" in nothing.stderr
        many = tune("verify", "out", *window, "--rate", "rate(request_seconds_count[2s])", "--p99", "up")
        assert "wrap it in sum(...)" in many.stderr
        query = 'sum(rate(request_seconds_count{job="same"}[2s]))'
        idle = tune("verify", "out", *window, "--rate", f"0 * {query}", "--p99", "0 / (0 * sum(up))")
        assert idle.returncode == 6, idle.stdout + idle.stderr
        assert "there was no traffic at all" in idle.stdout, "of no request there is no p99"
        unserved = tune("verify", "out", *window, "--rate", query, "--p99", "sum(up)", "--replicas", "0 * sum(up)")
        assert unserved.returncode == 2, unserved.stdout
        assert "no moment of it has both a p99 (sum(up)) and a replica" in unserved.stderr
        wrong = tune("verify", "out", *window, "--rate", "sum(", "--p99", "up")
        assert "does not answer sum(" in wrong.stderr
        traffic = read_recorded_rates(f"prometheus:{url}?query={query}&range=14s&step=1s&end={end_s}")
        assert 0.5 * RATE_QPS < traffic.mean_qps < 1.5 * RATE_QPS
        assert traffic.name == query


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "--prometheus"),
        (("--prometheus", "http://127.0.0.1:1"), "which metric?"),
        (("--prometheus", "http://127.0.0.1:1", "--metric", "a b"), "is not NAME"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, tune_in_process: Tune, arguments: tuple[str, ...], reason: str
) -> None:
    finished(tmp_path, tune_in_process)
    done = tune_in_process("verify", "out", *arguments)
    assert done.returncode == 2
    assert reason in done.stderr


NOBODY = ("--prometheus", "http://127.0.0.1:1", "--metric", "request_seconds")


def test_a_study_without_anything_to_compare_with_is_refused_before_prometheus_is_asked(
    tmp_path: Path, tune_in_process: Tune
) -> None:
    (tmp_path / "table.csv").write_text("cpu_cores,capacity_qps,p99_ms\n1,,900\n", encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    done = tune_in_process("--service", "spec.yaml", "--budget", "1", "--output", "out")
    refused = tune_in_process("verify", "out", *NOBODY)
    assert refused.returncode == 2, done.stderr + refused.stderr
    assert "no configuration of metered held its SLO, so there is nothing to verify" in refused.stderr


def test_a_replayed_study_has_no_curve_and_says_so_before_prometheus_is_asked(
    tmp_path: Path, tune_in_process: Tune
) -> None:
    (tmp_path / "table.csv").write_text("cpu_cores,capacity_qps\n1,60\n", encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    assert tune_in_process("--service", "spec.yaml", "--budget", "1", "--output", "out").returncode == 0
    refused = tune_in_process("verify", "out", *NOBODY)
    assert refused.returncode == 2, refused.stderr
    assert "metered has no latency curve: the probes of its recommendation's trial are not stored" in refused.stderr
