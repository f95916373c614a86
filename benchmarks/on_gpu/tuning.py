"""A real run of `tune` on this machine, and of `tune` on the measured table, both against the table's best."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.on_gpu.design import CORE_HOUR, CORES, GPU_HOUR, Design
from benchmarks.on_gpu.run import PYTHON, Run, environment, table
from benchmarks.on_gpu.servers import SERVER
from benchmarks.on_gpu.table import Row, server_arguments

_START_S, _BESIDE_S = 15.0, 1.2  # for the server's start; for what a trial takes beside its load
_FINAL = 8  # launches of the final at most: 40% of the budget
_KNOBS = ("workers", "threads", "precision", "batch_size")


def tuned(run: Run, plan: Design, model: str, rows: list[Row], gpu_type: str | None, budget: int) -> None:
    """`tune --budget N` with the process runner: one server, which is told each configuration."""
    folder = run.output / "tune"
    each_s = min(10.0, max(4.0, (run.left_s - _START_S - 10) / (budget + _FINAL) - _BESIDE_S))
    spec = run.output / "tune.yaml"
    spec.write_text(_spec(run, plan, model, gpu_type, each_s), encoding="utf-8")
    began = time.monotonic()
    code = _run_tune(run, spec, folder, budget, 0, run.left_s - 8)
    run.say(
        f"`tune --service tune.yaml --budget {budget}` ended with code {code} after {time.monotonic() - began:.0f} s."
    )
    if code:
        lines = (run.output / "logs" / "tune.log").read_text(encoding="utf-8", errors="replace").splitlines()
        run.say("\n".join(f"    {line}" for line in lines[-3:]))
    for name in ("recommendation.json", "trials.csv"):
        if (folder / name).is_file():
            shutil.copy(folder / name, run.output / f"tune-{name}")
    if (folder / "recommendation.json").is_file():
        _compare(run, json.loads((folder / "recommendation.json").read_text(encoding="utf-8")), folder, rows)


def _spec(run: Run, plan: Design, model: str, gpu_type: str | None, each_s: float) -> str:
    cores = CORES if run.on_gpu else 1
    command = [PYTHON, str(SERVER), *server_arguments(run, plan, plan.workers[-1]), "--models", model]
    gpu = f"    gpu: {{choices: [{gpu_type}], role: gpu_type}}\n" if gpu_type else ""
    gpu_price = f", gpu_hour: {{{gpu_type}: {GPU_HOUR}}}" if gpu_type else ""
    lines = [
        f"    {name}: {{choices: {json.dumps(list(values))}, role: {name}}}" for name, values in choices(plan).items()
    ]
    settings = ", ".join(f'{name}: "{{{name}}}"' for name in _KNOBS)
    return f"""\
version: 1
service:
  name: gpu-{model}
  command: {json.dumps([*command, "--port", "{port}"])}
  ready: {{path: /healthz, timeout: 120s}}
  manage: [{{method: PUT, path: /config, json: {{{settings}}}}}]
request: {{method: POST, path: /{model}, json: {{item: 3}}}}
slo: {{p99: {run.limit_ms:g}ms, error_rate: 0.1%}}
space:
  parameters:
    cpu_cores: {{choices: [{cores}], role: cpu_cores}}
{gpu}{chr(10).join(lines)}
prices: {{cpu_core_hour: {CORE_HOUR}{gpu_price}}}
load: {{max_trial: {each_s:.1f}s, max_warmup: {min(1.0, each_s / 4):.2f}s}}
runner: {{type: process}}
"""


def choices(plan: Design) -> dict[str, tuple[Any, ...]]:
    """Of the knobs that a running server can be told: those of the whole GPU, which a process by itself has."""
    return {
        "workers": plan.workers, "threads": plan.threads, "precision": plan.precisions, "batch_size": plan.batches
    }  # fmt: skip


def _run_tune(run: Run, spec: Path, folder: Path, budget: int, seed: int, max_s: float) -> int:
    command = [PYTHON, "-P", "-m", "tuner.cli", "--service", str(spec), "--budget", str(budget), "--seed", str(seed)]
    with (run.output / "logs" / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--output", str(folder)], stdout=log, stderr=subprocess.STDOUT, env=environment()
        )
        try:
            return process.wait(max(5.0, max_s))
        except subprocess.TimeoutExpired:
            run.say("- the time is over: interrupted; what it has measured counts")
            process.send_signal(signal.SIGINT)
            return process.wait(20)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in _KNOBS)


def _compare(run: Run, found: dict[str, Any], folder: Path, rows: list[Row]) -> None:
    """The recommendation's row among those of the whole GPU, and both instruments on the same configurations."""
    whole = {_key(row): row for row in rows if float(row["gpu_share"]) == 1.0}
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        trials = [row for row in csv.DictReader(file) if row["state"] == "complete"]
    pairs = [
        (float(row["capacity_qps"]), float(whole[_key(row)]["capacity_qps"])) for row in trials
        if _key(row) in whole and float(whole[_key(row)]["capacity_qps"]) and row["capacity_qps"]
    ]  # fmt: skip
    run.note("tune", {"recommendation": found, "pairs": pairs})
    if pairs:
        off = [100 * (one / other - 1) for one, other in pairs]
        run.say(
            f"- {len(pairs)} configurations were measured by both: tune's load test against the table's quick "
            f"load: {statistics.median(off):+.1f}% in the median, from {min(off):+.1f}% to {max(off):+.1f}%"
        )
    if not found.get("configuration"):
        run.say(f"- no recommendation: {'; '.join(found.get('reasons', []))}")
        return
    best = max(whole.values(), key=lambda row: float(row["capacity_qps"]), default=None)
    ours = whole.get(_key(found["configuration"]))
    chosen = ", ".join(f"{name}={found['configuration'][name]}" for name in _KNOBS)
    capacity = found["capacity_qps"]
    run.say(
        f"- recommended: {chosen}: {capacity['value']:.0f} requests/s (95% sure of {capacity['low']:.0f} to "
        f"{capacity['high']:.0f}), p99 {found['p99_ms']['value']:.1f} ms, confirmed: {found['confirmed']}"
    )
    if best is None or ours is None:
        run.say("- the table has no row to compare it with")
        return
    ordered = sorted((float(row["capacity_qps"]) for row in whole.values()), reverse=True)
    rank, best_qps = 1 + ordered.index(float(ours["capacity_qps"])), float(best["capacity_qps"])
    run.say(
        table(
            ("by the table, of the whole GPU", *_KNOBS, "requests/s"),
            [
                (what, *(row[name] for name in _KNOBS), row["capacity_qps"])
                for what, row in (("recommended", ours), ("best", best))
            ],
        )
    )
    run.say(
        f"- it is number {rank} of {len(whole)}, "
        f"{100 * (1 - float(ours['capacity_qps']) / best_qps):.1f}% below the best"
    )


def replayed(run: Run, model: str, budget: int, seeds: int, reserve_s: float) -> None:
    """`tune` on the table, for as many seeds as there is time for: when it first came within 5% of the cheapest."""
    spec = run.output / f"gpu-{model}.yaml"
    first: list[int | None] = []
    for seed in range(seeds):
        if run.left_s < reserve_s:
            break
        folder = run.output / "logs" / f"replay-{model}-{seed}"
        _run_tune(run, spec, folder, budget, seed, run.left_s - 5)
        first.append(_first_within(folder / "trials.csv", run.output / f"gpu-{model}.csv"))
        shutil.rmtree(folder, ignore_errors=True)
    if first:
        within = [one for one in first if one is not None]
        run.say(
            f"`tune --service gpu-{model}.yaml --budget {budget}` with {len(first)} seeds: {len(within)} came within "
            f"5% of the cheapest row; trials until then: {', '.join('-' if one is None else str(one) for one in first)}"
        )
        run.note(f"replay {model}", first)


def _first_within(trials: Path, measured: Path) -> int | None:
    """The number of trials until one costs at most 1.05 times the table's cheapest; None where none does."""
    with measured.open(newline="", encoding="utf-8") as file:
        costs = [
            float(row["price_per_hour"]) / float(row["capacity_qps"]) for row in csv.DictReader(file)
            if float(row["capacity_qps"])
        ]  # fmt: skip
    with trials.open(newline="", encoding="utf-8") as file:
        for count, row in enumerate(csv.DictReader(file), 1):
            if row["state"] == "complete" and float(row["cost_per_hour"]) / float(row["capacity_qps"]) <= 1.05 * min(
                costs
            ):
                return count
    return None
