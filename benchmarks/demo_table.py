"""Measure the table that `tune demo --replay` replays: every configuration of a small space of examples/minilm.

    python -m benchmarks.demo_table [--output FILE] [--seconds N] [--minutes M]
    python -m benchmarks.demo_table --made        # by a formula, where there is no quiet machine; it says so

Each configuration is launched and measured once, for its whole time and never pruned, by the code that measures a
trial. Rows that the file holds already are kept, so it may be interrupted, and `--minutes` ends it early. The head of
the file says where and when it was measured. The package's own table was made by this command; see its head.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from runners import ProcessRunner
from search_spaces import Configuration
from tuner.commands.opening import request_sources, trial_setup
from tuner.spec.reading import LoadedSpec, load_spec
from tuner.trial.trial import Question, run_trial

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "tuner" / "demo" / "minilm.csv"
SPACE = """\
space:
  parameters:
    cpu_cores: {choices: [1, 2], role: cpu_cores}
    memory: {choices: [768Mi, 1536Mi], role: memory}
    workers: {choices: [1, 2], role: workers}
    threads: {choices: [1, 2], role: threads}
    batch_size: {choices: [1, 4, 16], role: batch_size}
    batch_delay_ms: {choices: [0, 20], role: batch_delay}
  constraints:
    - threads * workers <= 2 * cpu_cores
    - batch_size > 1 or batch_delay_ms == 0
    - (workers == 1 and memory == "768Mi") or (workers == 2 and memory == "1536Mi")
"""
FIGURES = ("capacity_qps", "capacity_low_qps", "capacity_high_qps", "saturated_qps", "p99_ms", "status", "trial_s")


def example(seconds: float, folder: Path) -> LoadedSpec:
    """The example's spec with the small space."""
    text = (ROOT / "examples" / "minilm" / "spec.yaml").read_text(encoding="utf-8")
    before, rest = text.split("space:\n", 1)
    after = rest[rest.index("prices:") :]
    after = after.replace("max_trial: 20s", f"max_trial: {seconds:g}s").replace("max_warmup: 5s", "max_warmup: 3s")
    text = (before + SPACE + "\n" + after).split("# What one might deploy", 1)[0]
    for name in ("server.py", "model.py", "sentences.jsonl"):
        (folder / name).symlink_to(ROOT / "examples" / "minilm" / name)
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return load_spec(path)


def measured(path: Path, names: tuple[str, ...]) -> set[tuple[str, ...]]:
    """The configurations that the file has."""
    if not path.is_file():
        return set()
    with path.open(newline="", encoding="utf-8") as file:
        return {tuple(row[name] for name in names) for row in csv.DictReader(file)}


def made(configuration: Configuration, limit_s: float = 0.3) -> tuple[float, float]:
    """Requests/s and p99 in ms by a formula: a queue with deterministic service in batches, whose wait is exponential
    in the idle share; a stand-in that has the shape of a measurement and is none.
    """
    cores, workers, threads = (float(configuration[name]) for name in ("cpu_cores", "workers", "threads"))
    batch, delay_s = float(configuration["batch_size"]), float(configuration["batch_delay_ms"]) / 1e3
    busy = min(cores, workers * threads)
    fighting = max(1.0, workers * threads / cores) ** 0.35
    each_s = 0.012 + 0.011 * batch**0.82
    per_worker = batch / each_s * (threads if workers * threads <= cores else cores / workers) ** 0.85
    saturated = workers * per_worker / fighting * min(1.0, busy / workers) ** 0.1
    room = limit_s - delay_s - 2 * each_s * fighting
    if room <= 0:
        return 0.0, 0.0
    share = max(0.05, 1 - 2.3 * each_s / room)
    p99 = 1e3 * (delay_s + 2 * each_s * fighting + 2.3 * each_s / (1 - share))
    return saturated * share, p99


def write_made(path: Path, loaded: LoadedSpec) -> None:
    """All of the space by the formula."""
    path.unlink(missing_ok=True)
    for configuration in loaded.space:
        capacity, p99 = made(configuration)
        row = {
            **configuration, "capacity_qps": f"{capacity:.4g}", "capacity_low_qps": "", "capacity_high_qps": "",
            "saturated_qps": "", "p99_ms": f"{p99:.4g}", "status": "ok", "trial_s": "30",
        }  # fmt: skip
        write(path, row, configuration)
    path.with_suffix(".provenance.txt").write_text(
        "Made up by `python -m benchmarks.demo_table --made`, not measured: a sentence-embedding service on two cores, "
        "by a formula.\n",
        encoding="utf-8",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--seconds", type=float, default=8.0, help="of load per configuration")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--made", action="store_true", help="by a formula instead")
    options = parser.parse_args()
    ends = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as name, contextlib.closing(ProcessRunner()) as runner:
        loaded = example(options.seconds, Path(name))
        if options.made:
            write_made(options.output, loaded)
            return
        names = tuple(loaded.space.names)
        setup = trial_setup(loaded, request_sources(loaded), runner, Path(name), seed=0)
        done = measured(options.output, names)
        todo = [one for one in loaded.space.sample(1000, seed=1) if tuple(str(one[key]) for key in names) not in done]
        print(f"{len(done)} configurations are measured, {len(todo)} are to come")
        for number, configuration in enumerate(todo):
            if time.monotonic() >= ends:
                break
            record = run_trial(setup, Question(number, configuration), lambda *_: None)
            if record.state == "failed":  # it says something about this machine only: the next run measures it again
                print(f"{dict(configuration)}: {record.reason}", flush=True)
                continue
            held = record.capacity_qps
            row = {
                **configuration,
                "capacity_qps": f"{held.value:.4g}" if held else "",
                "capacity_low_qps": f"{held.low:.4g}" if held else "",
                "capacity_high_qps": f"{held.high:.4g}" if held else "",
                "saturated_qps": f"{record.saturated_qps:.4g}" if record.saturated_qps else "",
                "p99_ms": f"{record.p99_ms.value:.4g}" if held and record.p99_ms else "",
                "status": "ok",
                "trial_s": f"{record.wall_s or 0:.1f}",
            }  # fmt: skip
            write(options.output, row, configuration)
            print({key: str(value) for key, value in row.items()}, record.reason or "", flush=True)


def write(path: Path, row: Mapping[str, object], configuration: Configuration) -> None:
    """Add a row; a new file gets its columns, and beside it a note of where it was measured."""
    fresh = not path.is_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*configuration, *FIGURES])
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    if fresh:
        path.with_suffix(".provenance.txt").write_text(
            f"Measured by `python -m benchmarks.demo_table` on {datetime.date.today().isoformat()}: all-MiniLM-L6-v2 "
            f"behind LitServe (examples/minilm),\nas processes of a machine with {os.cpu_count()} cores, "
            f"{platform.machine()}, Python {platform.python_version()}. Each row is one launch and one load test.\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
