"""How long the dashboard takes: to paint what is meant to be read, to draw everything, to show a new trial.

    python -m benchmarks.dashboard [--runs 5]

Studies of 1,000 and of 10,000 trials are written as the tuner writes them; then Chromium opens the page, in a fresh
browser each time. Goals: the recommendation painted within 1.5 s with 1,000 trials, a study of 10,000 open within 4 s
(its pictures drawn), a new trial on the page within 2 s of its end. Needs Chromium, and an idle machine:
the load average at the end says how idle it was. `cpu` is what the server itself computed until then, which neighbours
do not lengthen much.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
from playwright.sync_api import sync_playwright

from results import (
    Estimate,
    Latencies,
    Timing,
    TrialRecord,
    Use,
)
from tuner.study.storage.keys import BUDGET, RECORD, SPEC

GOALS = {"painted, 1,000 trials": 1.5, "open, 10,000 trials": 4.0, "a new trial": 2.0}
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run")
CORES, THREADS, BATCH = (1, 2, 4, 8), tuple(range(1, 51)), tuple(range(1, 51))


def record(number: int, generator: np.random.Generator) -> TrialRecord:
    configuration: dict[str, bool | int | float | str] = {
        "cpu_cores": int(generator.choice(CORES)), "threads": int(generator.choice(THREADS)),
        "batch": int(generator.choice(BATCH)),
    }  # fmt: skip
    capacity = float(50 * int(configuration["cpu_cores"]) ** 0.8 * generator.lognormal(0, 0.4))
    price = 0.04 * int(configuration["cpu_cores"])
    return TrialRecord(
        number=number, state="complete", configuration=configuration,
        capacity_qps=Estimate(value=capacity, low=0.95 * capacity, high=1.05 * capacity), cost_per_hour=price,
        latency=Latencies(
            base_latency_ms=6.0, p50_ms=8.0, p95_ms=20.0, error_rate=0.0,
            p99_ms=Estimate(value=float(generator.uniform(20, 50)), low=19, high=51),
        ),
        cost_per_million_requests=price / capacity / 3600 * 1e6, bottleneck="cpu",
        timing=Timing(cold_start_s=3.0, load_s=30.0, wall_s=40.0),
        use=Use(cpu_cores_used=0.9, memory_peak_bytes=2**28), saturated_qps=1.2 * capacity,
    )  # fmt: skip


def write_study(folder: Path, count: int) -> None:
    """Optuna makes the study, as in a run; its trials are copied in by SQL, since one by one takes minutes."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir()
    study = optuna.create_study(storage=f"sqlite:///{folder / 'study.db'}", study_name=f"many-{count}")
    study.set_user_attr(SPEC, {
        "version": 1, "service": {"name": f"many-{count}"}, "slo": {"p99": "50ms"},
        "runner": {"type": "replay", "table": "x"},
        "space": {"parameters": {"cpu_cores": list(CORES), "threads": list(THREADS), "batch": list(BATCH)}},
        "prices": {"cpu_core_hour": 0.04},
    })  # fmt: skip
    study.set_user_attr(BUDGET, count)
    generator = np.random.default_rng(0)
    with contextlib.closing(sqlite3.connect(folder / "study.db")) as database, database:
        append(database, [record(number, generator) for number in range(count)])


def append(database: sqlite3.Connection, records: list[TrialRecord]) -> None:
    for one in records:
        cursor = database.execute(
            "INSERT INTO trials (number, study_id, state, datetime_complete)"
            " VALUES (?, 1, 'COMPLETE', datetime('now'))",
            (one.number,),
        )
        database.execute(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)",
            (cursor.lastrowid, RECORD, json.dumps(one.model_dump(mode="json"))),
        )


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Its address, and the process that serves it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-m", "tuner.cli", "dashboard", str(folder), "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield f"http://127.0.0.1:{port}/", psutil.Process(process.pid)
        finally:
            process.terminate()


@contextlib.contextmanager
def page() -> Iterator[Any]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        shown = browser.new_page(viewport={"width": 1280, "height": 900})
        shown.set_default_timeout(120_000)  # a busy machine gives a figure all the same
        yield shown
        browser.close()


# When the largest text so far was painted: the first words, and later the recommendation, which is larger.
_PAINTED = """new Promise(done => requestAnimationFrame(() => setTimeout(() => new PerformanceObserver((seen, self) => {
    self.disconnect(); done(seen.getEntries().at(-1).startTime / 1000)
}).observe({type: 'largest-contentful-paint', buffered: true}), 50)))"""


def opened(address: str) -> tuple[float, float, float, float]:
    """Seconds until anything is painted, until the recommendation is, until the page works, until all is drawn."""
    with page() as shown:
        begun = time.monotonic()
        shown.goto(address, wait_until="commit")
        shown.wait_for_selector(".first p, .sentence")
        first = shown.evaluate(_PAINTED)
        shown.wait_for_selector(".first.known p, #hero .sentence")
        painted = shown.evaluate(_PAINTED)
        shown.wait_for_selector("#hero .sentence")
        working = time.monotonic() - begun
        for picture in ("#cost-p99", "#cost-capacity", "#search"):
            shown.wait_for_selector(f"{picture} .main-svg")
        return float(first), float(painted), working, time.monotonic() - begun


def new_trial(folder: Path, address: str, count: int) -> float:
    """Seconds from a trial's end until the page shows it."""
    generator = np.random.default_rng(1)
    with page() as shown:
        shown.goto(address)
        shown.wait_for_selector("#cost-p99 .main-svg")
        with contextlib.closing(sqlite3.connect(folder / "study.db")) as database, database:
            append(database, [record(count, generator)])
        begun = time.monotonic()
        while not shown.inner_text("#state").startswith(f"{count + 1} "):
            time.sleep(0.02)
        return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for count in (1_000, 10_000):
            folder = Path(name) / str(count)
            write_study(folder, count)
            for _ in range(runs):  # served anew each time: nothing is known yet
                with served(folder) as (address, server):
                    before = sum(server.cpu_times()[:2])
                    first, painted, working, drawn = opened(address)
                    cpu = sum(server.cpu_times()[:2]) - before
                found.setdefault(f"cpu, {count:,} trials", []).append(cpu)
                found.setdefault(f"first words, {count:,} trials", []).append(first)
                found.setdefault(f"painted, {count:,} trials", []).append(painted)
                found.setdefault(f"working, {count:,} trials", []).append(working)
                found.setdefault(f"open, {count:,} trials", []).append(drawn)
        folder = Path(name) / "1000"
        with served(folder) as (address, _):
            found["a new trial"] = [new_trial(folder, address, 1_000 + number) for number in range(runs)]
    missed = False
    for what, seconds in found.items():
        middle, goal = statistics.median(seconds), GOALS.get(what)
        missed |= goal is not None and middle > goal
        print(f"{what:<24} median {middle:.2f} s, worst {max(seconds):.2f} s" + (f", goal {goal} s" if goal else ""))
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"load average {load} on {os.cpu_count()} cores")
    sys.exit(missed)


if __name__ == "__main__":
    main()
