"""Whole searches on real HTTP servers whose capacity is known (`benchmarks.truth.models`)."""

from __future__ import annotations

import contextlib
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool

from benchmarks.truth import models
from loadtest import LatencyLimit, LoadGenerator, LoadPlan, RequestPlan, Slo

SPEEDS = ((8.0, 60.0), (25.0, 30.0), (75.0, 20.0), (200.0, 10.0))  # capacities, about, and seconds
_OTHER, _OTHER_S = 75.0, 20.0  # where other percentiles than the 99th are bounded
_PERCENTILES = {50.0: 0.3, 90.0: 0.6, 99.9: 1.4}  # with their limits over that of the 99th
_AT_ONCE = 3  # each costs a tenth of a core


@dataclass(frozen=True)
class Job:
    """One search."""

    kind: str
    about_qps: float
    seconds: float
    percentile: float
    limit: float  # in mean service times
    seed: int

    @property
    def allowed(self) -> float:
        """The share of requests that may miss the limit."""
        return 1 - self.percentile / 100

    @property
    def share(self) -> float:
        """The capacity, as a share of the speed."""
        return models.capacity_qps(self.kind, self.allowed, self.limit)

    @property
    def speed_qps(self) -> float:
        """What the server does at most."""
        return self.about_qps / self.share

    @property
    def limit_s(self) -> float:
        """The limit of the percentile."""
        return self.limit / self.speed_qps


@dataclass(frozen=True)
class Searched:
    """What came out. `error` is relative to the truth, infinite where no capacity was found."""

    job: Job
    error: float
    ratio: float
    covered: bool
    probes: int
    undecided: int
    wrong: int
    sure: bool
    text: str


@contextlib.contextmanager
def served(kind: str, speed: float, seed: int) -> Iterator[str]:
    """The URL of such a server on the first core."""
    command = [sys.executable, "-m", "benchmarks.truth.serve", "--kind", kind, "--speed", str(speed), "--core", "0"]
    with subprocess.Popen(
        [*command, "--seed", str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def search(job: Job) -> Searched:
    """From a server that just began."""
    speed, limit_ms = job.speed_qps, job.limit_s * 1e3
    slo = Slo(latency=(LatencyLimit(percentile=job.percentile, limit_ms=limit_ms),))
    request = RequestPlan(method="GET", path="/")
    with served(job.kind, speed, job.seed) as url, LoadGenerator() as generator:
        plan = LoadPlan(url=url, request=request, slo=slo, max_s=job.seconds, seed=job.seed, cores=(1,))
        found = generator.measure(plan, lambda _: None)
    verdicts = [probe.verdict for probe in found.probes]
    wrong = sum(
        (probe.verdict == "met" and probe.rate_qps > 1.03 * job.about_qps)
        or (probe.verdict == "missed" and probe.rate_qps < 0.97 * job.about_qps)
        for probe in found.probes
    )
    capacity = found.capacity_qps
    saturated = "-" if found.saturated_qps is None else f"{found.saturated_qps / speed:.2f}"
    text = f"{job.kind} {job.about_qps:g}/s p{job.percentile:g}: {found.outcome} {found.reason} burst {saturated}; " + (
        ", ".join(f"{p.rate_qps / job.about_qps:.2f} {p.verdict} {p.misses}/{p.requests}" for p in found.probes)
    )
    counts = (len(verdicts), verdicts.count("undecided"), wrong, found.certainty == "sure", text)
    if capacity is None:
        return Searched(job, math.inf, math.inf, False, *counts)
    covered = capacity.low <= job.about_qps <= capacity.high
    return Searched(job, capacity.value / job.about_qps - 1, capacity.high / max(1e-9, capacity.low), covered, *counts)


def _row(name: str, found: Sequence[Searched]) -> list[str]:
    known = [one for one in found if math.isfinite(one.error)]
    if not known:
        return [name, f"0 of {len(found)}", *[""] * 8]
    errors, ratios = [one.error for one in known], sorted(one.ratio for one in known)
    probes = max(1, sum(one.probes for one in found))
    return [
        name, f"{len(known)} of {len(found)}", f"{statistics.fmean(errors):+.1%}", f"{statistics.pstdev(errors):.1%}",
        f"{statistics.median(abs(error) for error in errors):.1%}", f"{statistics.median(ratios):.2f}",
        f"{ratios[math.ceil(0.9 * len(ratios)) - 1]:.2f}", f"{sum(one.covered for one in known) / len(known):.0%}",
        f"{sum(one.undecided for one in found) / probes:.0%}", f"{sum(one.wrong for one in found)} of {probes}",
    ]  # fmt: skip


def jobs(runs: int, kinds: Sequence[str] = models.KINDS) -> list[Job]:
    """Each kind at each speed, `runs` times, and each other percentile at one speed."""
    asked = [(qps, seconds, 99.0, 1.0) for qps, seconds in SPEEDS]
    asked += [(_OTHER, _OTHER_S, percentile, limit) for percentile, limit in _PERCENTILES.items()]
    return [
        Job(kind, qps, seconds, percentile, limit * models.LIMITS[kind], seed)
        for seed in range(runs)
        for qps, seconds, percentile, limit in asked
        for kind in kinds
    ]


def real(runs: int) -> list[list[str]]:
    """Whole searches over HTTP on real servers whose capacity a simulation of the same server says, each one just
    started; three at once. Limits are 12 to 30 mean service times at the 99th percentile.
    """
    asked = jobs(max(1, runs // 10))
    for job in asked:
        _ = job.share  # minutes of simulation, which must not run beside servers that are measured
    with ThreadPool(_AT_ONCE) as pool:
        found = pool.map(search, asked, chunksize=1)
    head = ["servers", "found", "bias", "sd", "median error", "high/low, median", "at the 90th percentile", "covered",
            "undecided probes", "wrong verdicts"]  # fmt: skip
    table = [head]
    for qps, seconds in SPEEDS:
        table.append(_row(f"{qps:g}/s, p99, {seconds:g} s", [o for o in found if _is(o.job, qps, 99.0)]))
    for percentile in _PERCENTILES:
        name = f"{_OTHER:g}/s, p{percentile:g}, {_OTHER_S:g} s"
        table.append(_row(name, [o for o in found if _is(o.job, _OTHER, percentile)]))
    table += [_row(kind, [one for one in found if one.job.kind == kind]) for kind in models.KINDS]
    return [*table, _row("all", found)]


def _is(job: Job, qps: float, percentile: float) -> bool:
    return (job.about_qps, job.percentile) == (qps, percentile)
