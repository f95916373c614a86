"""Does `make demo` decide right? Its runs, judged by what their configurations serve when they are measured long.

    python -m benchmarks.demo_truth run --times 5 [--neighbour] --keep FOLDER
    python -m benchmarks.demo_truth measure --configurations 40 --launches 3 --seconds 60 --keep FOLDER
    python -m benchmarks.demo_truth judge --keep FOLDER

`run` tunes examples/minilm as `make demo` does, each time with another seed; `--neighbour` burns half a core beside it.
`measure` launches configurations again, in turns, and measures each for that long: today's (`current:`), those that
a run recommended or launched twice, and others at random, up to the number asked. Memory changes the price and not the
capacity, so it is measured with the most there is. `judge` prints both: what was recommended truly costs, over the best
that was measured and over today's. What was not measured long is judged by all launches of all runs together, where
there are three at least, less what the machine added to all launches of a run. All three go on with what the folder
holds: `runs.jsonl` and `truth.csv`.

Goals: within 5% of the best in nine runs of ten, and never dearer than today's. A run of 14 trials took 8.7
to 9.8 minutes. Measure where nothing else runs.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from benchmarks.live_decision import neighbour
from tuner import load_spec, load_study
from tuner.launch.price import price_per_hour
from tuner.spec.reading import LoadedSpec

EXAMPLE = Path(__file__).parent.parent / "examples" / "minilm"
BUDGET = 14  # as `make demo`
KNOBS = ("cpu_cores", "workers", "threads", "batch_size", "batch_delay_ms")
SWEEPS = 30
FEWEST = 3  # launches in runs, for a configuration that was not measured long
COLUMNS = (*KNOBS, "launch", "state", "capacity_qps", "low", "high", "disturbed")
Knobs = tuple[Any, ...]


def knobs(configuration: Mapping[str, Any]) -> Knobs:
    """What decides the capacity: everything but the memory."""
    return tuple(configuration[name] for name in KNOBS)


def tune(spec: Path, budget: int, seed: int, output: Path) -> subprocess.CompletedProcess[str]:
    """The product, as a user runs it."""
    command = [sys.executable, "-m", "tuner.cli", "--service", str(spec), "--budget", str(budget)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the example's python is this one
    return subprocess.run(
        [*command, "--seed", str(seed), "--output", str(output)],
        capture_output=True, text=True, check=False, env=os.environ | {"PATH": path},
    )  # fmt: skip


def run(folder: Path, seed: int, *, beside: bool) -> dict[str, Any]:
    """One run of the demo: what it decided, and what it launched more than once."""
    output = folder / f"seed-{seed}"
    begun = time.monotonic()
    with neighbour(0.5) if beside else nullcontext():
        done = tune(EXAMPLE / "spec.yaml", BUDGET, seed, output)
    if done.returncode != 0:
        sys.exit(f"seed {seed} ended with {done.returncode}: {done.stderr[-2000:]}")
    minutes = round((time.monotonic() - begun) / 60, 1)
    return {"seed": seed, "neighbour": beside, "minutes": minutes} | decided(output)


def decided(output: Path) -> dict[str, Any]:
    """What the run in that folder decided, and what its launches and probes showed, those of the final included."""
    told = json.loads((output / "recommendation.json").read_text(encoding="utf-8"))
    summary = load_study(output).summary
    records = [*summary.records, *(one for again in summary.launches.confirmations.values() for one in again)]
    launches = Counter(knobs(one.configuration) for one in records)
    files = [json.loads(file.read_text(encoding="utf-8")) for file in output.glob("trials/*/probes.json")]
    probes = [probe for file in files for probe in file["probes"]]
    capacities = [file["capacity_qps"] for file in files if file["capacity_qps"]]
    return {
        "decision": told["decision"], "probability_best": told["probability_best"], "saving": told["saving"],
        "configuration": told["configuration"], "launches": len(records), "probes": len(probes),
        "disturbed": sum(bool((probe["neighbours"] or {}).get("reason")) for probe in probes),
        "undecided": sum(probe["verdict"] == "undecided" for probe in probes),
        "interval": round(statistics.median(one["high"] / max(1e-9, one["low"]) for one in capacities), 2),
        "served": [[*knobs(one.configuration), one.capacity_qps.value] for one in records if one.capacity_qps],
        "finalists": [list(one) for one, count in launches.items() if count > 1],
    }  # fmt: skip


def kept_runs(folder: Path) -> list[dict[str, Any]]:
    file = folder / "runs.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def measured(folder: Path) -> dict[Knobs, list[dict[str, str]]]:
    """The launches of each configuration so far."""
    found: dict[Knobs, list[dict[str, str]]] = defaultdict(list)
    if (file := folder / "truth.csv").exists():
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                found[tuple(int(row[name]) for name in KNOBS)].append(row)
    return found


def measure(folder: Path, chosen: Knobs, launch: int, seconds: float) -> dict[str, Any]:
    """One launch under load for at most that long, by a spec with this one configuration."""
    spec = yaml.safe_load((EXAMPLE / "spec.yaml").read_text("utf-8"))
    for name, value in zip(KNOBS, chosen, strict=True):
        spec["space"]["parameters"][name]["choices"] = [value]
    memory = spec["space"]["parameters"]["memory"]
    memory["choices"] = memory["choices"][-1:]
    spec["objective"]["final"] = "0%"
    spec["load"]["max_trial"] = f"{seconds:g}s"
    del spec["space"]["constraints"], spec["current"]
    output = folder / "measured" / f"{'-'.join(map(str, chosen))}-{launch}"
    written = EXAMPLE / f".truth-{'-'.join(map(str, chosen))}.yaml"  # beside the server, which the command names
    written.write_text(yaml.safe_dump(spec), encoding="utf-8")
    try:
        done = tune(written, 1, launch, output)
    finally:
        written.unlink()
    if not (output / "study.db").exists():
        sys.exit(f"{chosen} ended with {done.returncode}: {done.stderr[-2000:]}")
    record = load_study(output).summary.records[0]
    capacity = record.capacity_qps
    return dict(zip(KNOBS, chosen, strict=True)) | {
        "launch": launch, "state": record.state, "capacity_qps": capacity and capacity.value,
        "low": capacity and capacity.low, "high": capacity and capacity.high,
        "disturbed": record.machine.disturbed if record.machine else "",
    }  # fmt: skip


def to_measure(folder: Path, most: int, seed: int) -> list[Knobs]:
    """Today's, what runs recommended or launched twice, and others at random, up to that number."""
    loaded = load_spec(EXAMPLE / "spec.yaml")
    assert loaded.spec.current is not None
    runs = kept_runs(folder)
    wanted = [knobs(loaded.spec.current), *(knobs(one["configuration"]) for one in runs)]
    wanted += [tuple(one) for run in runs for one in run["finalists"]]
    wanted += sorted(measured(folder))
    others = sorted({knobs(one) for one in loaded.space} - set(wanted))
    random.Random(seed).shuffle(others)
    return list(dict.fromkeys([*wanted, *others]))[:most]


def measure_all(folder: Path, most: int, launches: int, seconds: float, seed: int) -> None:
    """The first launch of each, then the second of each, so that a slow hour meets all alike."""
    for launch in range(launches):
        for chosen in to_measure(folder, most, seed):
            if len(measured(folder).get(chosen, ())) > launch:
                continue
            row = measure(folder, chosen, launch, seconds)
            new = not (file := folder / "truth.csv").exists()
            with file.open("a", encoding="utf-8", newline="") as lines:
                writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(row)
            print(row, flush=True)


def capacity(launches: Sequence[Mapping[str, str]]) -> float:
    """Requests per second of the median launch; one that found no rate serves none."""
    return statistics.median(float(one["capacity_qps"] or 0) for one in launches)


def shown_in(runs: Sequence[Mapping[str, Any]]) -> list[tuple[int, Knobs, float]]:
    """Of each launch: its run, its configuration, and the logarithm of what it served."""
    return [
        (number, tuple(knob), math.log(served)) for number, one in enumerate(runs) for *knob, served in one["served"]
    ]


def known(folder: Path) -> dict[Knobs, tuple[int, float]]:
    """The launches and the capacity of every configuration of which that is known."""
    shown = shown_in(kept_runs(folder))
    launches = Counter(knob for _, knob, _ in shown)
    levels, _ = polished(shown)
    found = {one: (count, math.exp(levels[one])) for one, count in launches.items() if count >= FEWEST}
    return found | {one: (len(all_of), capacity(all_of)) for one, all_of in measured(folder).items()}


def polished(shown: Sequence[tuple[int, Knobs, float]]) -> tuple[dict[Knobs, float], dict[int, float]]:
    """Of the logarithms that launches showed: what is each configuration's, and what the machine added to all of a run,
    which may be fast one day and slow on another (the median polish: Tukey, Exploratory Data Analysis, 1977).
    """
    levels = {knob: 0.0 for _, knob, _ in shown}
    runs = {number: 0.0 for number, _, _ in shown}
    for _ in range(SWEEPS):
        for knob in levels:
            levels[knob] = statistics.median(log - runs[run] for run, one, log in shown if one == knob)
        for number in runs:
            runs[number] = statistics.median(log - levels[one] for run, one, log in shown if run == number)
        middle = statistics.median(runs.values())
        runs = {number: added - middle for number, added in runs.items()}
    return levels, runs


def cost(configuration: Mapping[str, Any], capacities: Mapping[Knobs, float], loaded: LoadedSpec) -> float:
    """Per million requests, in truth; infinite where it serves none, not a number where it was not measured."""
    hour = price_per_hour(loaded.space, configuration, loaded.spec.prices)
    assert hour is not None  # the example has prices
    serves = capacities.get(knobs(configuration), math.nan)
    return math.inf if serves == 0 else hour / serves / 3600 * 1e6


def judge(folder: Path) -> None:
    """The table of the runs, and the truth that they are judged by."""
    loaded = load_spec(EXAMPLE / "spec.yaml")
    assert loaded.spec.current is not None
    truth = known(folder)
    capacities = {one: served for one, (_, served) in truth.items()}

    def least(one: Knobs) -> dict[str, Any]:  # all start in the least memory
        return dict(zip(KNOBS, one, strict=True)) | {"memory": "1Gi"}

    costs = {one: cost(least(one), capacities, loaded) for one in truth}
    best, today = min(costs.values()), cost(loaded.spec.current, capacities, loaded)
    spread = [
        statistics.stdev(values) / statistics.mean(values)
        for launches in measured(folder).values()
        if len(values := [float(one["capacity_qps"]) for one in launches if one["capacity_qps"]]) > 1
    ]
    head = ["seed", "neighbour", "disturbed", "undecided", "interval", "decision", "recommended", "said to be the best",
            "true cost", "over the best", "against today's", "minutes"]  # fmt: skip
    print(f"| {' | '.join(head)} |\n|" + " --- |" * len(head))
    within = dearer = 0
    runs = kept_runs(folder)
    for one in runs:
        true = cost(one["configuration"], capacities, loaded)
        within += true <= 1.05 * best
        dearer += true > today
        said = " ".join(f"{name}={value}" for name, value in one["configuration"].items())
        row = [
            str(one["seed"]), "half a core" if one["neighbour"] else "none", f"{one['disturbed']} of {one['probes']}",
            f"{one['undecided']} of {one['probes']}", f"{one['interval']}", one["decision"], said,
            f"{one['probability_best']:.0%}", f"{true:.4f}", f"{true / best - 1:+.1%}", f"{true / today - 1:+.1%}",
            f"{one['minutes']:.1f}",
        ]  # fmt: skip
        print(f"| {' | '.join(row)} |")
    print(f"\nWithin 5% of the best: {within} of {len(runs)}; dearer than today's: {dearer}.\n")
    added = polished(shown_in(runs))[1].values()
    print(f"The slowest and the fastest run are a factor of {math.exp(max(added) - min(added)):.2f} apart.\n")
    print(f"| {' | '.join(KNOBS)} | launches | capacity, req/s | least cost per million |\n|" + " --- |" * 8)
    for knob, true in sorted(costs.items(), key=lambda pair: pair[1]):
        print(f"| {' | '.join(map(str, knob))} | {truth[knob][0]} | {capacities[knob]:.1f} | {true:.4f} |")
    if spread:
        print(f"\nLaunches of one configuration differ by {statistics.median(spread):.1%} (sd, median).")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "measure", "judge"))
    parser.add_argument("--keep", type=Path, required=True, metavar="FOLDER", help="what was found so far, and more")
    parser.add_argument("--times", type=int, default=5, help="runs of the demo")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--neighbour", action="store_true", help="burn half a core beside the runs")
    parser.add_argument("--configurations", type=int, default=40)
    parser.add_argument("--launches", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load, for each launch at most")
    asked = parser.parse_args()
    asked.keep.mkdir(parents=True, exist_ok=True)
    if asked.what == "run":
        for seed in range(asked.first_seed, asked.first_seed + asked.times):
            found = run(asked.keep, seed, beside=asked.neighbour)
            print(found, flush=True)
            with (asked.keep / "runs.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
    elif asked.what == "measure":
        measure_all(asked.keep, asked.configurations, asked.launches, asked.seconds, seed=0)
    else:
        judge(asked.keep)


if __name__ == "__main__":
    main()
