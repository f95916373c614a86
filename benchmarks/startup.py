"""How fast the command line answers: `tune --help`, and a whole replayed study of 700 configurations with budget 20.

    python -m benchmarks.startup [--runs N]

Goals: `tune --help` under 0.5 s; the replayed study, start-up included, under 15 s. Both are timed as whole processes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.tuner.test_replay_run import write_table


def timed(command: list[str], folder: Path) -> float:
    begun = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    tune = str(Path(sys.executable).parent / "tune")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder)
        asked = [timed([tune, "--help"], folder) for _ in range(runs)]
        replayed = [
            timed(
                [tune, "--service", "spec.yaml", "--budget", "20", "--seed", str(seed), "--output", f"out{seed}"],
                folder,
            )
            for seed in range(runs)
        ]
    for what, goal, times in (("tune --help", 0.5, asked), ("replay of 700, budget 20", 15.0, replayed)):
        median, worst = statistics.median(times), max(times)
        print(f"{what}: median {median:.2f} s, worst {worst:.2f} s of {runs} runs (goal {goal:g} s)")


if __name__ == "__main__":
    main()
