"""Is what `tune` recommends right, on real servers over HTTP whose every configuration's capacity is known?

    python -m benchmarks.live_decision [--services 10] [--budget 20] [--at-once 2] [--neighbour] [--csv FILE]

Each service (`benchmarks.truth.knobs`) is drawn at random: batches of workers, with threads that contend for cores and
memory that may not suffice, 459 configurations; what each of them truly serves within 300 ms at the 99th percentile is
simulated. `tune --service spec.yaml` runs as a user would run it, with a seed of its own. Each launch is off by 5%.

- regret: what the recommended configuration truly costs over the best of the whole space.
- against current: what it truly costs over today's (two cores, 2 GiB, a worker for each core, no batches).
- capacity: each complete trial's over the truth; covered: its 95% interval, widened by the launch's 5%, holds that.
- wrongly lost: trials that were pruned, infeasible or failed though they truly are within the SLO and cost less than
  what is recommended.

`--neighbour` burns half a core beside it all. Goals: regret at most 5% in nine of ten, never dearer than today's.

`--tables FOLDER` runs nothing and writes what is true of each service as a replay table, for
`python -m benchmarks.decision --families "" --sources FOLDER`. The search's constants were chosen on those from 200 on.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.truth import knobs
from results import TrialRecord
from training.servers.arrivals import Pattern
from training.servers.server import ENGINES, SERVICES, Server
from training.servers.truth import capacity_qps, curve
from tuner import load_study

LAUNCH_NOISE = 0.05
REPOSITORY = Path(__file__).parent.parent
CURRENT: dict[str, Any] = {
    "cpu_cores": 2, "memory": "2Gi", "workers": 2, "threads": 1, "batch_size": 1, "batch_delay_ms": 0,
}  # fmt: skip
CONSTRAINTS = ["threads * workers <= 2 * cpu_cores", "batch_size > 1 or batch_delay_ms == 0"]
SPEC = """\
version: 1
service:
  name: knobs
  command: [{python}, -m, benchmarks.truth.knobs, --service, "{service}", --port, "{{port}}", --cpu-cores,
    "{{cpu_cores}}", --memory, "{{memory}}", --workers, "{{workers}}", --threads, "{{threads}}", --batch-size,
    "{{batch_size}}", --batch-delay-ms, "{{batch_delay_ms}}", --launch-noise, "{noise}"]
  env: {{PYTHONPATH: "{repository}"}}
  ready: {{path: /, timeout: 20s}}
request: {{path: /}}
slo: {{p99: {limit}ms, error_rate: 0.1%}}
space:
  parameters:
    cpu_cores: {{choices: {cores}, role: cpu_cores}}
    memory: {{choices: {memory}, role: memory}}
    workers: {{choices: {workers}, role: workers}}
    threads: {{choices: {threads}, role: threads}}
    batch_size: {{choices: {batches}, role: batch_size}}
    batch_delay_ms: {{choices: {delays}, role: batch_delay}}
  constraints: {constraints}
prices: {{cpu_core_hour: {core_hour}, memory_gib_hour: {gib_hour}}}
load: {{max_trial: {seconds}s, max_warmup: 5s}}
runner: {{type: process}}
current: {current}
"""


@dataclass(frozen=True)
class Tuned:
    """One run. Shares are of the true cost or capacity; `said` is the probability to be the best that was stated."""

    service: int
    exit_code: int
    decision: str = ""
    said: float = math.nan
    regret: float = math.inf
    regret_measured: float = math.inf
    against_current: float = math.inf
    trials: int = 0
    complete: int = 0
    errors: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()
    covered: int = 0
    probes: int = 0
    undecided: int = 0
    load_s: float = math.nan
    lost: int = 0
    seconds: float = math.nan


def spec(service: int, seconds: float) -> str:
    """What a user would write for it."""
    return SPEC.format(
        python=sys.executable, service=service, noise=LAUNCH_NOISE, repository=REPOSITORY, limit=knobs.LIMIT_MS,
        cores=list(knobs.CORES), memory=list(knobs.MEMORY), workers=list(knobs.WORKERS), threads=list(knobs.THREADS),
        batches=list(knobs.BATCHES), delays=list(knobs.DELAYS_MS), core_hour=knobs.CORE_HOUR,
        gib_hour=knobs.GIB_HOUR, seconds=f"{seconds:g}", current=json.dumps(CURRENT),
        constraints=json.dumps(CONSTRAINTS),
    )  # fmt: skip


def key(configuration: dict[str, Any]) -> tuple[Any, ...]:
    """The values in the order of the parameters."""
    return tuple(configuration[name] for name in CURRENT)


def truth(number: int) -> dict[tuple[Any, ...], float]:
    """What each configuration that has the memory serves, in requests a second; 0 where no rate holds."""
    service = knobs.Service.drawn(number)
    found = {}
    for configuration in knobs.configurations():
        if service.fits(configuration):
            found[key(configuration)] = _capacity_qps(service.times(configuration))
    return found


def write_table(number: int, folder: Path) -> None:
    """What is true of a service, as a table to be replayed, in a folder of its kind."""
    service, capacities = knobs.Service.drawn(number), truth(number)
    with (folder / "knobs" / f"service-{number}-{knobs.LIMIT_MS}ms.csv").open(
        "w", newline="", encoding="utf-8"
    ) as file:
        writer = csv.writer(file)
        writer.writerow([*CURRENT, "capacity_qps", "status", "price_per_hour"])
        for one in knobs.configurations():
            status = "ok" if service.fits(one) else "oom"
            writer.writerow([*key(one), capacities.get(key(one), 0.0), status, knobs.price_per_hour(one)])


def write_tables(services: Sequence[int], folder: Path) -> None:
    """Of all of them, with the roles and constraints that the spec gives."""
    (folder / "knobs").mkdir(parents=True, exist_ok=True)
    stems = [f"service-{number}-{knobs.LIMIT_MS}ms" for number in services]
    meta = {"roles": {"batch_delay_ms": "batch_delay"}, "constraints": dict.fromkeys(stems, CONSTRAINTS)}
    (folder / "knobs" / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    with multiprocessing.Pool() as pool:
        pool.map(partial(write_table, folder=folder), services, chunksize=1)


def _capacity_qps(times: knobs.Times) -> float:
    server = Server(
        ENGINES["batches"], times.workers, SERVICES["lognormal"], shape=times.sigma, batch=times.batch_size,
        delay=times.delay_s, fixed=times.fixed_s, item=times.item_s,
    )  # fmt: skip
    random = np.random.default_rng(1)
    known = curve(server, Pattern(), "latency", random)
    return 0.0 if known is None else capacity_qps(known, knobs.LIMIT_MS / 1e3, 0.01, random) or 0.0


def cost(configuration: dict[str, Any], capacities: dict[tuple[Any, ...], float]) -> float:
    """US dollars per million requests, in truth."""
    capacity = capacities.get(key(configuration), 0.0)
    return knobs.price_per_hour(configuration) / capacity / 3600 * 1e6 if capacity else math.inf


def tuned(service: int, asked: argparse.Namespace) -> Tuned:
    """One run of the product, and what is true of it."""
    capacities = truth(service)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) if asked.output is None else asked.output / f"{service:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spec.yaml").write_text(spec(service, asked.seconds), encoding="utf-8")
        begun = time.monotonic()
        command = [
            sys.executable, "-m", "tuner.cli", "--service", "spec.yaml", "--budget", str(asked.budget), "--seed",
            str(service + asked.first_seed), "--output", "out",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - begun
        written = folder / "out" / "recommendation.json"
        if not written.exists():
            print(done.stderr[-2000:], file=sys.stderr)
            return Tuned(service, done.returncode, seconds=seconds)
        recommendation = json.loads(written.read_text(encoding="utf-8"))
        records = load_study(folder / "out").summary.records
        files = sorted((folder / "out" / "trials").glob("[0-9]*[0-9]/probes.json"))
        verdicts = [probe["verdict"] for file in files for probe in _probes(file)]
    return _judged(service, done.returncode, recommendation, records, verdicts, capacities, seconds)


def _probes(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["probes"]
    return found


def _judged(
    service: int, exit_code: int, recommendation: dict[str, Any], records: Sequence[TrialRecord],
    verdicts: Sequence[str], capacities: dict[tuple[Any, ...], float], seconds: float,
) -> Tuned:  # fmt: skip
    best = min(cost(one, capacities) for one in knobs.configurations())
    chosen = cost(recommendation["configuration"], capacities)
    measured = min(cost(dict(one.configuration), capacities) for one in records)
    complete = [(one, one.capacity_qps, capacities.get(key(dict(one.configuration)), 0.0)) for one in records]
    known = [(one, seen, true) for one, seen, true in complete if one.state == "complete" and seen and true]
    slack = math.exp(1.96 * LAUNCH_NOISE)
    others = [cost(dict(one.configuration), capacities) for one in records if one.state != "complete"]
    decision = recommendation["decision"], recommendation["probability_best"]
    return Tuned(
        service, exit_code, *decision,
        chosen / best - 1, chosen / measured - 1, chosen / cost(CURRENT, capacities) - 1, len(records), len(known),
        tuple(seen.value / true - 1 for _, seen, true in known),
        tuple(seen.high / max(1e-9, seen.low) for _, seen, true in known),
        sum(seen.low / slack <= true <= seen.high * slack for _, seen, true in known),
        len(verdicts), verdicts.count("undecided"),
        float(np.median([one.timing.load_s for one in records if one.timing.load_s])),
        sum(one < 0.95 * chosen for one in others), seconds,
    )  # fmt: skip


HEAD = [
    "service", "decision", "said", "regret", "of the decision", "against current", "complete", "capacity: bias", "sd",
    "high/low", "covered", "undecided probes", "load, s a trial", "wrongly lost", "minutes",
]  # fmt: skip


def row(name: str, found: Sequence[Tuned]) -> list[str]:
    """Medians over runs; errors, intervals and probes over all their trials."""
    errors = [error for one in found for error in one.errors]
    ratios = [ratio for one in found for ratio in one.ratios]
    complete = sum(one.complete for one in found)

    def median(values: Sequence[float]) -> float:
        return float(np.median(values)) if values else math.nan

    return [
        name, ", ".join(sorted({one.decision or f"exit {one.exit_code}" for one in found})),
        f"{median([one.said for one in found]):.0%}", f"{median([one.regret for one in found]):.1%}",
        f"{median([one.regret_measured for one in found]):.1%}",
        f"{median([one.against_current for one in found]):+.0%}", f"{complete} of {sum(one.trials for one in found)}",
        f"{np.mean(errors) if errors else math.nan:+.1%}", f"{np.std(errors) if errors else math.nan:.1%}",
        f"{median(ratios):.2f}", f"{sum(one.covered for one in found)} of {complete}",
        f"{sum(one.undecided for one in found) / max(1, sum(one.probes for one in found)):.0%}",
        f"{median([one.load_s for one in found]):.1f}", str(sum(one.lost for one in found)),
        f"{median([one.seconds for one in found]) / 60:.1f}",
    ]  # fmt: skip


@contextmanager
def neighbour(share: float) -> Iterator[None]:
    """A process that computes for that share of each tenth of a second, on whichever core it gets."""
    code = (
        "import time\nwhile True:\n"
        f"    end = time.perf_counter() + {share / 10}\n"
        "    while time.perf_counter() < end: pass\n"
        f"    time.sleep({(1 - share) / 10})\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            yield
        finally:
            process.kill()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10)
    parser.add_argument("--first", type=int, default=100, help="the first; those below 100 are for trying out")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="added to the service's number, for the search's seed"
    )
    parser.add_argument("--budget", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20, help="`load.max_trial`")
    parser.add_argument("--at-once", type=int, default=2, help="runs beside one another")
    parser.add_argument("--neighbour", action="store_true", help="burn half a core beside them")
    parser.add_argument("--output", type=Path, help="keep every run's folder there")
    parser.add_argument("--csv", type=Path, help="a file for every run")
    parser.add_argument("--tables", type=Path, metavar="FOLDER", help="write what is true as tables, and run nothing")
    asked = parser.parse_args()
    services = range(asked.first, asked.first + asked.services)
    if asked.tables is not None:
        write_tables(services, asked.tables)
        return
    found: list[Tuned] = []
    with neighbour(0.5 if asked.neighbour else 0.0), ThreadPool(asked.at_once) as pool:
        print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}", flush=True)
        for one in pool.imap(lambda service: tuned(service, asked), services):
            found.append(one)
            print(f"| {' | '.join(row(str(one.service), [one]))} |", flush=True)
    print(f"| {' | '.join(row('all', found))} |")
    within = sum(one.regret <= 0.05 for one in found)
    dearer = sum(one.against_current > 0 for one in found)
    print(f"\nWithin 5% of the best: {within} of {len(found)}; dearer than today's: {dearer}.")
    if asked.csv:
        with asked.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([field.name for field in fields(Tuned)])
            writer.writerows(astuple(one) for one in found)


if __name__ == "__main__":
    main()
