"""Does `tune verify` find what is slower, and leave alone what is not? 60 deployments on a real Prometheus.

    python -m benchmarks.verify [--seconds 72] [--seed 0]

Each deployment is a queue whose latencies are simulated, request by request, and exported as a histogram by a real
exporter (prometheus_client) that a real Prometheus (on the PATH, as Debian's package puts it) scrapes. Their latency
curves were measured on such queues before. 40 are as they were measured, 20 take 15% longer for each request. Goals: at
most two alarms among the 40, at least 19 of the 20 found.
"""

from __future__ import annotations

import argparse
import math
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Histogram, start_http_server

from results import Estimate
from results.gate import Setting, expected_curve, verified
from results.trial_parts import (
    ProbeRecord,
)
from tuner.commands.verify import VerifyOptions, Window, bounds_of, live_steps, queries_of
from tuner.outcome.prometheus import Prometheus

Floats = NDArray[np.float64]
HOLDING, SLOWER, FACTOR = 40, 20, 1.15
MAX_ALARMS, MIN_FOUND = 2, 19
STEP_S, TICK_S = 8.0, 0.25
BUCKETS_S = tuple(0.001 * 1.35**power for power in range(20))
PROBED = (0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
REQUESTS = 4000
LIMIT_S = 0.02
CONFIGURATION = """\
global: {{scrape_interval: 1s, scrape_timeout: 900ms}}
scrape_configs: [{{job_name: deployments, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""


@dataclass
class Deployment:
    """One queue: its mean service time, how that varies, its capacity, and the rate that comes."""

    name: str
    mean_s: float
    sigma: float
    capacity_qps: float
    rate_qps: float
    free_at: float = 0.0

    def latencies(self, generator: np.random.Generator, begin: float, length_s: float, rate_qps: float) -> Floats:
        count = generator.poisson(rate_qps * length_s)
        arrivals = np.sort(begin + length_s * generator.random(count))
        services = self.mean_s * generator.lognormal(-(self.sigma**2) / 2, self.sigma, count)
        if not count:
            return np.zeros(0)
        work = np.cumsum(services)
        done = work + np.maximum(self.free_at, np.maximum.accumulate(arrivals - (work - services)))
        self.free_at = float(done[-1])
        return np.asarray(done - arrivals)


def made(generator: np.random.Generator, number: int) -> Deployment:
    mean_s, sigma = float(generator.uniform(0.0012, 0.0024)), float(generator.uniform(0.05, 0.5))
    low, high = 0.3 / mean_s, 0.99 / mean_s
    for _ in range(12):
        middle = (low + high) / 2
        tried = Deployment("", mean_s, sigma, 0.0, middle).latencies(np.random.default_rng(7), 0.0, 120.0, middle)
        low, high = (middle, high) if np.quantile(tried, 0.99) <= LIMIT_S else (low, middle)
    return Deployment(f"d{number}", mean_s, sigma, low, low * float(generator.uniform(0.45, 0.8)))


def probes(one: Deployment, generator: np.random.Generator) -> list[ProbeRecord]:
    """What a trial would have stored of its curve."""
    found = []
    for part in PROBED:
        rate = part * one.capacity_qps
        fresh = Deployment(one.name, one.mean_s, one.sigma, one.capacity_qps, rate)
        seen = 1e3 * fresh.latencies(generator, 0.0, REQUESTS / rate, rate)
        blocks = [math.log(np.quantile(part, 0.99)) for part in np.array_split(seen, 8)]  # neighbours are alike
        p99, off = float(np.quantile(seen, 0.99)), math.exp(1.96 * float(np.std(blocks, ddof=1)) / math.sqrt(8))
        bounds = np.geomspace(0.5, 500, 400)
        counts, _ = np.histogram(seen, np.concatenate([[0], bounds]))
        found.append(
            ProbeRecord(
                rate_qps=rate, verdict="met", started_s=0.0, duration_s=REQUESTS / rate, requests=len(seen), misses=0,
                errors=0, p99_ms=Estimate(value=p99, low=p99 / off, high=p99 * off),
                histogram=tuple((float(bound), int(count)) for bound, count in zip(bounds, counts, strict=True)),
            )
        )  # fmt: skip
    return found


@contextmanager
def prometheus(port: int) -> Iterator[str]:
    """A real one, that scrapes the exporter at `port`."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        (Path(folder) / "prometheus.yml").write_text(CONFIGURATION.format(port=port), encoding="utf-8")
        command = [
            "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={address}",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            try:
                deadline = time.monotonic() + 30
                while time.monotonic() < deadline:
                    try:
                        if httpx.get(f"http://{address}/-/ready").is_success:
                            break
                    except httpx.HTTPError:
                        time.sleep(0.1)
                yield f"http://{address}"
            finally:
                running.terminate()


def serve(deployments: list[Deployment], histogram: Histogram, seconds: float, generator: np.random.Generator) -> None:
    """Requests come as time goes by."""
    begun, at = time.monotonic(), 0.0
    while at < seconds:
        time.sleep(TICK_S)
        length_s = time.monotonic() - begun - at  # on a busy machine longer than a tick: then more have come
        for one in deployments:
            child = histogram.labels(one.name)
            for latency in one.latencies(generator, at, length_s, one.rate_qps).tolist():
                child.observe(latency)
        at += length_s


def options(url: str, name: str, seconds: float, end_s: float) -> VerifyOptions:
    metric = f'request_seconds{{deployment="{name}"}}'
    window = Window(seconds, STEP_S, end_s)
    return VerifyOptions(
        Path(), url, metric, None, None, "1", window, Setting(0.02, 0.15, looks=1), None, as_json=False, storage=None,
        study=None,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=72.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generator = np.random.default_rng(given.seed)
    deployments = [made(generator, number) for number in range(HOLDING + SLOWER)]
    curves = [probes(one, generator) for one in deployments]
    for one in deployments[HOLDING:]:
        one.mean_s *= FACTOR
    registry = CollectorRegistry()
    histogram = Histogram("request_seconds", "of a deployment", ["deployment"], registry=registry, buckets=BUCKETS_S)
    exporter, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    outcomes: list[str] = []
    with prometheus(exporter.server_port) as url:
        serve(deployments, histogram, given.seconds, generator)
        end_s = time.time()
        for one, curve in zip(deployments, curves, strict=True):
            asked = options(url, one.name, given.seconds - STEP_S, end_s)
            queries, server = queries_of(asked), Prometheus(url)
            capacity = Estimate.exactly(one.capacity_qps)
            expected = expected_curve(curve, capacity, list(bounds_of(server, queries, end_s)))
            assert expected is not None
            steps = live_steps(server, queries, asked)
            found = verified(steps, expected, capacity, 1e3 * LIMIT_S, asked.setting)
            outcomes.append(found.outcome)
            change = "" if found.comparison is None else f"{found.comparison.change:+.1%}"
            print(f"{one.name:<4} x{FACTOR if len(outcomes) > HOLDING else 1:<5} {found.outcome:<13} {change}")
    exporter.shutdown()
    exporter.server_close()
    thread.join()
    alarms, hits = outcomes[:HOLDING].count("slower"), outcomes[HOLDING:].count("slower")
    print(
        f"of {HOLDING} that hold: {outcomes[:HOLDING].count('holds')} said to hold, {alarms} alarms, others open; "
        f"of {SLOWER} that are {FACTOR - 1:.0%} slower {hits} are found"
    )
    sys.exit(alarms > MAX_ALARMS or hits < MIN_FOUND)


if __name__ == "__main__":
    main()
