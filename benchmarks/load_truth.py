"""Does the load test tell the truth? Against servers whose answer is known: `python -m benchmarks.load_truth`.

`--only` picks sections, `--write` keeps what they print in docs/load-truth.md. All of it takes more than an hour, on
two cores. The throughput section needs nginx and wrk (`apt-get install nginx-light wrk`), the field section hey and
GuideLLM (`apt-get install hey`; GUIDELLM is the path of its command).
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.truth import queues, searches
from benchmarks.truth.clear import clear
from benchmarks.truth.field import other_tools
from benchmarks.truth.least import least
from benchmarks.truth.real import real
from benchmarks.truth.sequential import simulated_probe
from loadtest import LatencyLimit, LoadGenerator, LoadPlan, Measurement, RequestPlan, Slo
from loadtest.arrivals.arrivals import Arrivals
from loadtest.judge.percentile import percentile_ms

SERVICE_S, LIMIT_S = 0.004, 0.050
# Limits in seconds that bring every server to its edge where such servers are run: 77 to 85% of what they can do.
REAL = {"M/D/1": 0.050, "M/D/4": 0.050, "M/M/1": 0.100, "batch": 0.100}
DOCUMENT = Path(__file__).parent.parent / "docs" / "load-truth.md"
BEGIN, END = "<!-- {} begins -->", "<!-- {} ends -->"
Table = list[list[str]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """A server whose answer is known."""

    url: str
    process: subprocess.Popen[str]

    def drawn_s(self) -> Floats:
        """End it; the service times that it drew, in order."""
        return np.array(json.loads(self.process.communicate()[0]))


@contextlib.contextmanager
def server(kind: str) -> Iterator[Known]:
    """A known server on the first core."""
    command = [sys.executable, "-m", "benchmarks.truth.server", "--kind", kind, "--service-ms", str(SERVICE_S * 1e3)]
    process = subprocess.Popen([*command, "--core", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Known(f"http://127.0.0.1:{process.stdout.readline().strip()}", process)
    finally:
        process.kill()
        process.wait()


def measure(url: str, *, limit_s: float = LIMIT_S, **asked: Any) -> tuple[Measurement, float]:
    """One load test from the second core, and how many seconds it took, process start included."""
    slo = Slo(latency=(LatencyLimit(percentile=99, limit_ms=limit_s * 1e3),))
    begun = time.monotonic()
    with LoadGenerator() as generator:
        plan = LoadPlan(url=url, request=RequestPlan(method="GET", path="/"), slo=slo, **({"cores": (1,)} | asked))
        return generator.measure(plan, lambda _: None), time.monotonic() - begun


def stock(url: str, users: int, rate: float, seconds: float, kind: str = "fast") -> dict[str, float]:
    """What ordinary Locust users report."""
    command = [sys.executable, "-m", "benchmarks.truth.stock_locust", url, str(users), str(rate), str(seconds), kind]
    found = subprocess.run(["taskset", "-c", "1", *command], capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return answer


def percentiles(runs: int) -> Table:
    """p99 at fixed rates: by us, by theory for these very arrivals, by theory in the long run, by stock users."""
    table = [["server", "utilisation", "theory, these arrivals", "ours", "off", "theory, long run", "stock, 50 users"]]
    seconds = 60.0 * runs / 40
    for kind in REAL:
        for busy in (0.5, 0.8, 0.9):
            rate = busy / SERVICE_S
            with server(kind) as known:
                usual = stock(known.url, 50, rate, min(seconds, 20.0))
                found, _ = measure(known.url, rates_qps=(rate,), rate_s=seconds, max_s=seconds + 30, limit_s=0.2)
                probe, drawn_s = found.probes[0], known.drawn_s()
            ours = probe.p99_ms
            assert ours is not None
            here = _these_arrivals_ms(kind, rate, seconds, drawn_s[-round(probe.achieved_qps * probe.duration_s) :])
            off = f"{ours.value - here:+.1f} ms ({ours.value / here - 1:+.1%})"
            long_run = queues.quantile_s(kind, rate, SERVICE_S) * 1e3
            row = [kind, f"{busy:.0%}", f"{here:.1f} ms", f"{ours.value:.1f} ms ({ours.low:.1f} to {ours.high:.1f})"]
            table.append([*row, off, f"{long_run:.1f} ms", f"{usual['p99_ms']:.0f} ms"])
    return table


def _these_arrivals_ms(kind: str, rate: float, seconds: float, drawn_s: Floats) -> float:
    """The p99 that the queue makes of the arrivals that were sent, which the plan's seed says, and of `drawn_s`."""
    slo = Slo(latency=(LatencyLimit(percentile=99, limit_ms=1000),))
    arrivals = Arrivals(LoadPlan(url="http://x", request=RequestPlan(), slo=slo), None)
    times = np.array(list(islice(arrivals.schedule(rate, 1), int(rate * seconds * 1.2) + 1000)))
    if len(drawn_s):
        times = times[: len(drawn_s)]
        sojourn_s = queues.one_server_s(times, drawn_s[: len(times)])
    else:
        sojourn_s = queues.sojourn_s(kind, times, SERVICE_S, 0)
    counted = (times > 0.6) & (times <= seconds)  # as the probe does: three limits of 0.2 s are not counted
    return float(np.quantile(sojourn_s[counted], 0.99)) * 1e3


def _capacities(kind: str, runs: int) -> list[tuple[float, float, float, float]]:
    found = []
    with server(kind) as known:
        for seed in range(runs):
            one, seconds = measure(known.url, max_s=42, seed=seed, limit_s=REAL[kind])
            capacity = one.capacity_qps
            assert capacity is not None, one.reason
            found.append((capacity.value, capacity.low, capacity.high, seconds))
    return found


def capacity(runs: int) -> Table:
    """Whole searches under a p99 limit. The servers are searched at the same time: each costs a tenth of a core."""
    head = [
        "server",
        "p99 limit",
        "truth",
        "median",
        "off",
        "within 3%",
        "interval covers",
        "variation",
        "seconds, median",
    ]
    table = [head]
    with multiprocessing.Pool(len(REAL)) as pool:
        results = pool.starmap(_capacities, [(kind, runs) for kind in REAL])
    for kind, result in zip(REAL, results, strict=True):
        truth = queues.capacity_qps(kind, SERVICE_S, REAL[kind])
        values = [value for value, *_ in result]
        within = statistics.fmean(abs(value / truth - 1) <= 0.03 for value in values)
        covers = statistics.fmean(low <= truth <= high for _, low, high, _ in result)
        middle = statistics.median(values)
        variation = statistics.stdev(values[:20]) / statistics.fmean(values[:20]) if runs > 1 else 0.0
        row = [
            kind,
            f"{REAL[kind] * 1e3:.0f} ms",
            f"{truth:.1f}/s",
            f"{middle:.1f}/s",
            f"{middle / truth - 1:+.1%}",
            f"{within:.0%}",
        ]
        table.append([*row, f"{covers:.0%}", f"{variation:.1%}", f"{statistics.median(r[3] for r in result):.0f}"])
    return table


def times(runs: int) -> Table:
    """How long a clear rate takes to be decided."""
    table = [["rate, M/D/1", "verdicts", "seconds, median", "seconds, most"]]
    truth = queues.capacity_qps("M/D/1", SERVICE_S, LIMIT_S)
    with server("M/D/1") as known:
        for share in (1.3, 0.7):
            probes = []
            for seed in range(max(3, runs // 4)):
                found, _ = measure(known.url, first_rate_qps=share * truth, max_s=14, seed=seed)
                probes.append(found.probes[0])
            verdicts = ", ".join(f"{n} {verdict}" for verdict, n in Counter(p.verdict for p in probes).items())
            seconds = [probe.duration_s for probe in probes]
            row = [f"{share:.0%} of capacity ({share * truth:.0f}/s)", verdicts]
            table.append([*row, f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}"])
    return table


def _wrong(case: tuple[str, float, int]) -> list[str]:
    kind, share, runs = case
    rate = share * queues.capacity_qps(kind, SERVICE_S, LIMIT_S)
    found = [simulated_probe(kind, SERVICE_S, LIMIT_S, rate, 20.0, seed) for seed in range(runs)]
    counts = Counter(verdict for verdict, *_ in found)
    wrong = counts["missed" if share < 1 else "met"] / runs
    decided = [seconds for verdict, seconds, _ in found if verdict != "undecided"]
    middle = f"{statistics.median(decided):.1f}" if decided else ""
    return [kind, f"{share:.0%}", f"{wrong:.2%}", f"{counts['undecided'] / runs:.0%}", middle]


def errors(runs: int) -> Table:
    """The sequential test on simulated queues, for at most 20 s a probe."""
    cases = [(kind, share, 50 * runs) for kind in queues.KINDS for share in (0.7, 0.97, 1.03, 1.3)]
    with multiprocessing.Pool(os.cpu_count()) as pool:
        rows = pool.map(_wrong, cases, chunksize=1)
    return [["queue", "rate over capacity", "wrong", "undecided after 20 s", "seconds to a verdict, median"], *rows]


def _covered(case: tuple[str, float, float, int]) -> list[str]:
    kind, busy, seconds, runs = case
    rate = busy / SERVICE_S
    truth_ms, covered, widths = queues.quantile_s(kind, rate, SERVICE_S) * 1e3, 0, []
    for seed in range(runs):
        arrivals = queues.poisson(rate, int(rate * seconds), seed)
        found = percentile_ms(queues.sojourn_s(kind, arrivals, SERVICE_S, seed + 1_000_000), 99, rate)
        assert found is not None
        covered += found.low <= truth_ms <= found.high
        widths.append(f"{found.low:.0f} to {found.high:.0f} ms")
    return [kind, f"{busy:.0%}", f"{seconds:.0f} s", f"{truth_ms:.1f} ms", f"{covered / runs:.0%}", widths[0]]


def intervals(runs: int) -> Table:
    """The 95% interval of a probe's p99, on simulated queues: how often it holds the p99 of the long run."""
    cases = [(kind, busy, s, 5 * runs) for kind in queues.KINDS for busy in (0.5, 0.8, 0.9) for s in (5.0, 20.0)]
    with multiprocessing.Pool(os.cpu_count()) as pool:
        rows = pool.map(_covered, cases, chunksize=1)
    return [["queue", "utilisation", "probe", "p99 in the long run", "covered", "the first interval"], *rows]


@contextlib.contextmanager
def _nginx() -> Iterator[str]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or shutil.which("wrk") is None:
        sys.exit("load_truth: the throughput section needs nginx and wrk: apt-get install nginx-light wrk")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "nginx.conf")
        config.write_text(
            f"worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; daemon off;\n"
            "events {worker_connections 20000;}\n"
            "http {access_log off; keepalive_requests 100000000; client_body_temp_path /tmp;\n"
            "server {listen 127.0.0.1:18080 backlog=4096; location / {return 200 ok;}}}\n"
        )
        process = subprocess.Popen(["taskset", "-c", "0", program, "-c", str(config)])
        try:
            time.sleep(1)
            yield "http://127.0.0.1:18080"
        finally:
            process.terminate()
            process.wait()


def throughput(runs: int) -> Table:
    """Requests per second from one core, against a server that does nothing; medians of turns."""
    seconds = 5.0
    taken: dict[str, list[float]] = {}
    with _nginx() as url:
        for _ in range(max(1, min(3, runs // 10))):
            taken.setdefault("ours, open loop, p99 under 5 ms", []).append(_fastest(url, seconds))
            closed: dict[str, Any] = {"arrivals": "closed", "users": 32, "max_s": 10, "max_warmup_s": 2}
            alone, _ = measure(url, **closed)
            both, _ = measure(url, workers=2, cores=(0, 1), **closed)
            taken.setdefault("ours, closed loop, 32 users", []).append(alone.probes[0].achieved_qps)
            name = "ours, closed loop, two processes, one of them on the server's core"
            taken.setdefault(name, []).append(both.probes[0].achieved_qps)
            taken.setdefault("stock FastHttpUser, 32 users", []).append(stock(url, 32, 0, seconds)["qps"])
            taken.setdefault("stock HttpUser, 32 users", []).append(stock(url, 32, 0, seconds, "http")["qps"])
            command = ["taskset", "-c", "1", "wrk", "-t1", "-c32", f"-d{seconds:.0f}s", url]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            taken.setdefault("wrk, 32 connections", []).append(float(printed.split("Requests/sec:")[1].split()[0]))
    rows = [[name, f"{statistics.median(found):,.0f}/s"] for name, found in taken.items()]
    return [["generator on one core", "requests per second"], *rows]


def _fastest(url: str, seconds: float) -> float:
    """The highest of a ladder of rates that is sent with a p99 under 5 ms."""
    best = 0.0
    for rate in range(8_000, 15_000, 1_000):
        found, _ = measure(url, rates_qps=(rate,), rate_s=seconds, max_s=seconds + 15, max_warmup_s=2, limit_s=0.5)
        probe = found.probes[0]
        if probe.p99_ms is not None and probe.p99_ms.value < 5.0 and probe.verdict != "invalid":
            best = max(best, probe.achieved_qps)
    return best


def _burn(seconds: float) -> None:
    os.sched_setaffinity(0, {1})
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def slowed(runs: int) -> Table:
    """A generator on a core that three other processes keep busy, at half the capacity."""
    rate = 0.5 * queues.capacity_qps("M/D/1", SERVICE_S, LIMIT_S)
    count, outcomes, verdicts = max(1, runs // 2), Counter[str](), Counter[str]()
    with server("M/D/1") as known:
        for seed in range(count):
            busy = [multiprocessing.Process(target=_burn, args=(60.0,), daemon=True) for _ in range(3)]
            for process in busy:
                process.start()
            found, _ = measure(known.url, first_rate_qps=rate, max_s=20, seed=seed)
            for process in busy:
                process.kill()
            outcomes[found.outcome] += 1
            # Rates above the capacity may well be missed; those below never.
            verdicts.update(p.verdict for p in found.probes if p.rate_qps <= 1.9 * rate)
    blamed = verdicts["missed"] + outcomes["pruned"] + outcomes["infeasible"]
    shown = ", ".join(f"{n} {name}" for name, n in (outcomes + verdicts).items())
    return [
        ["runs", "outcomes, and verdicts below the capacity", "against the server"],
        [str(count), shown, str(blamed)],
    ]


SECTIONS: dict[str, tuple[str, Callable[[int], Table]]] = {
    "unseen": ("Searches on simulated servers that nobody trained on", searches.unseen),
    "least": ("The least error that is possible", least),
    "real": ("Searches on real servers whose capacity is known", real),
    "field": ("Beside other tools, on servers whose capacity is known", other_tools),
    "clear": ("What is clear is decided soon", clear),
    "errors": ("The sequential test, in simulation", errors),
    "intervals": ("How sure a p99 is", intervals),
    "percentiles": ("p99 at fixed rates", percentiles),
    "times": ("Clear rates are decided soon", times),
    "capacity": ("Capacity under a p99 limit", capacity),
    "slowed": ("A slow generator does not blame the server", slowed),
    "throughput": ("How much one core can send", throughput),
}


def main() -> None:
    """Print the tables, and with --write put them into the document, each in its own place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between")
    parser.add_argument("--runs", type=int, default=40, help="less is quicker (default: 40)")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    for name in asked.only.split(","):
        title, section = SECTIONS[name]
        begun = time.monotonic()
        lines = _markdown(section(asked.runs))
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()  # fmt: skip
        machine = f"{psutil.cpu_count()} cores"
        note = f"`python -m benchmarks.load_truth --only {name} --runs {asked.runs}`, {machine}, commit {commit}"
        meaning = inspect.cleandoc(section.__doc__ or "")
        text = f"## {title}\n\n{lines}\n\n{meaning} ({note}, {time.monotonic() - begun:.0f} s)"
        print(text + "\n", flush=True)
        if asked.write:
            _keep(name, text)


def _markdown(table: Table) -> str:
    rows = [" | ".join(row) for row in table]
    return "\n".join(f"| {row} |" for row in [rows[0], " | ".join("---" for _ in table[0]), *rows[1:]])


def _keep(name: str, text: str) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = document.partition(BEGIN.format(name))
    _, _, after = rest.partition(END.format(name))
    DOCUMENT.write_text(f"{before}{BEGIN.format(name)}\n{text}\n{END.format(name)}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
