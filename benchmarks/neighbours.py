"""Are neighbours blamed on the server? Real servers, real neighbours: `python -m benchmarks.neighbours --trials 40`.

A neighbour burns the server's core for 0.3 s of every second, or fills the memory's bandwidth, or everything runs in a
cgroup whose CPU quota is too small. Each trial's capacity must be within 5% of the quiet one, or be marked as
disturbed; none may fail, none may be low in silence. Quiet trials are taken too: they are the reference, where they
really were quiet. A trial takes about 25 s; `--keep FILE` adds to what earlier calls have measured: pieces will do.
Needs two cores; the quota needs the right to make a cgroup (version 1, or version 2 with the cpu controller).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.truth.queues import capacity_qps
from loadtest import LatencyLimit, LoadGenerator, LoadPlan, Measurement, RequestPlan, ServerProcesses, Slo

SERVICE_MS, LIMIT_MS, SERVER_CORE = 4.0, 50.0, 0
CLOSE = 0.05
SERVERS = {
    "timer": ["benchmarks.truth.server", "--kind", "M/D/1", "--service-ms", str(SERVICE_MS)],
    "compute": ["benchmarks.truth.working_server", "--kind", "compute", "--service-ms", str(SERVICE_MS)],
    "copy": ["benchmarks.truth.working_server", "--kind", "copy", "--copies", "6"],
}
BURSTS = """
import os, time
os.sched_setaffinity(0, {0})
parent = os.getppid()
print("ready", flush=True)
while os.getppid() == parent:
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        pass
    time.sleep(0.7)
"""
MEMORY = """
import os
one, two, parent = bytearray(64 * 2**20), bytearray(64 * 2**20), os.getppid()
print("ready", flush=True)
while os.getppid() == parent:
    two[:] = one
"""
QUOTA_SHARE = 0.6  # of one core, for the server and the load generator together


@dataclass(frozen=True)
class Result:
    """One load test. `others_cores` are of the server's one core, all the time together."""

    server: str
    neighbour: str
    outcome: str
    reason: str
    value: float | None
    low: float | None
    high: float | None
    others_cores: float | None
    disturbed: int
    probes: int
    work_ms: float | None
    seconds: float


@contextlib.contextmanager
def running(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process, and the first line that it printed."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def quota() -> Iterator[None]:
    """This process, and what it starts, in a cgroup with a quota. Raises OSError where none can be made."""
    cgroups = Path("/sys/fs/cgroup")
    base = cgroups / "cpu" if (cgroups / "cpu").is_dir() else cgroups
    group = base / f"tune-neighbours-{os.getpid()}"
    group.mkdir()
    try:
        if base.name == "cpu":
            (group / "cpu.cfs_quota_us").write_text(str(round(QUOTA_SHARE * 100_000)))
        else:
            (group / "cpu.max").write_text(f"{round(QUOTA_SHARE * 100_000)} 100000")
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield
    finally:
        (base / "cgroup.procs").write_text(str(os.getpid()))
        remove(group)


def remove(group: Path) -> None:
    """Once its processes are gone, which takes the kernel a moment."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)


@contextlib.contextmanager
def beside(neighbour: str) -> Iterator[None]:
    """The neighbour is there as long as the block runs."""
    with contextlib.ExitStack() as stack:
        if neighbour == "quota":
            stack.enter_context(quota())
        elif neighbour != "none":
            code = {"bursts": BURSTS, "memory": MEMORY}[neighbour]
            stack.enter_context(running([sys.executable, "-c", code]))
        yield


def measure(server: str, neighbour: str, seed: int, max_s: float) -> Result:
    """One load test from the second core, of a server on the first."""
    begun = time.monotonic()
    command = [sys.executable, "-m", *SERVERS[server], "--core", str(SERVER_CORE)]
    with beside(neighbour), running(command) as (process, port), LoadGenerator() as generator:
        plan = LoadPlan(
            url=f"http://127.0.0.1:{port}", request=RequestPlan(method="GET", path="/"), cores=(1,), max_s=max_s,
            slo=Slo(latency=(LatencyLimit(percentile=99, limit_ms=LIMIT_MS),)), seed=seed, max_warmup_s=5.0,
            server=ServerProcesses(cores=(SERVER_CORE,), pids=(process.pid,)),
        )  # fmt: skip
        found = generator.measure(plan, lambda _: None)
    return result(server, neighbour, found, time.monotonic() - begun)


def result(server: str, neighbour: str, found: Measurement, seconds: float) -> Result:
    """What a trial would record."""
    capacity, seen, machine = found.capacity_qps, found.neighbours, found.machine
    return Result(
        server=server, neighbour=neighbour, outcome=found.outcome, reason=found.reason,
        value=capacity.value if capacity else None, low=capacity.low if capacity else None,
        high=capacity.high if capacity else None, others_cores=seen.others_cores if seen else None,
        disturbed=sum(one.neighbours is not None and one.neighbours.disturbed for one in found.probes),
        probes=len(found.probes), work_ms=machine.work_ms if machine else None, seconds=seconds,
    )  # fmt: skip


def references(results: Sequence[Result]) -> dict[str, tuple[float, str]]:
    """Of each server its quiet capacity: the median of the trials that really were quiet, else theory."""
    found: dict[str, tuple[float, str]] = {}
    for server in SERVERS:
        quiet = [
            one.value for one in results
            if one.server == server and one.neighbour == "none" and not one.disturbed and one.value is not None
        ]  # fmt: skip
        if quiet:
            found[server] = statistics.median(quiet), f"median of {len(quiet)} quiet trials"
        elif server != "copy":
            found[server] = capacity_qps("M/D/1", SERVICE_MS / 1e3, LIMIT_MS / 1e3), "theory of M/D/1"
    return found


def table(results: Sequence[Result]) -> list[str]:
    """Per server and neighbour, and the verdict over all that had a neighbour."""
    known = references(results)
    lines = [
        "| server | neighbour | trials | failed | marked disturbed | within 5% | low in silence | capacity over quiet, "
        "median (least to most) | interval covers it | others' cores |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for server, neighbour in dict.fromkeys((one.server, one.neighbour) for one in results):
        own = [one for one in results if (one.server, one.neighbour) == (server, neighbour)]
        lines.append(row(server, neighbour, own, known.get(server)))
    lines += [f"Quiet capacity of {server}: {qps:.1f} requests/s ({how})." for server, (qps, how) in known.items()]
    return lines


def row(server: str, neighbour: str, own: Sequence[Result], known: tuple[float, str] | None) -> str:
    """One line of the table."""
    failed = sum(one.outcome != "measured" for one in own)
    marked = sum(one.disturbed > 0 for one in own)
    others = f"{statistics.median(one.others_cores or 0.0 for one in own):.2f}"
    if known is None:
        return f"| {server} | {neighbour} | {len(own)} | {failed} | {marked} | ? | ? | ? | ? | {others} |"
    values = [(one, one.value / known[0]) for one in own if one.value is not None]
    close = sum(abs(ratio - 1) <= CLOSE for _, ratio in values)
    silent = sum(ratio < 1 - CLOSE and not one.disturbed for one, ratio in values)
    covered = sum((one.low or 0) <= known[0] <= (one.high or 0) for one, _ in values)
    ratios = [ratio for _, ratio in values] or [float("nan")]
    shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return (
        f"| {server} | {neighbour} | {len(own)} | {failed} | {marked} | {close} | {silent} | {shown} | "
        f"{covered} of {len(values)} | {others} |"
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--max-s", type=float, default=20.0, help="of one load test")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="add to these results, and print them all")
    parser.add_argument("--only", metavar="SERVER:NEIGHBOUR", action="append", help="such as compute:bursts")
    asked = parser.parse_args()
    kinds = ["timer", "compute", "copy"]
    pairs = [f"{server}:{how}" for how in ("none", "bursts", "memory", "quota") for server in kinds]
    pairs = asked.only or [*pairs, *pairs[3:]]  # with neighbours twice as often
    earlier = asked.keep.read_text(encoding="utf-8").splitlines() if asked.keep and asked.keep.exists() else []
    results = [Result(**json.loads(line)) for line in earlier]
    for _ in range(asked.trials):
        server, _, neighbour = pairs[len(results) % len(pairs)].partition(":")
        one = measure(server, neighbour, len(results), asked.max_s)
        results.append(one)
        print(json.dumps(asdict(one)), file=sys.stderr, flush=True)
        if asked.keep:
            with asked.keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(one)) + "\n")
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
