"""How fast the command line answers: `tune --help`, the first launch of a server, and a whole replayed study of 700
configurations with budget 20.

    python -m benchmarks.startup [--runs N]

Goals: `tune --help` under 0.5 s; the first server's process 5 s after the command; the replayed study, start-up
included, under 15 s. All are timed from outside, start-up included.
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

# The "server" only says when it was launched.
FIRST_LAUNCH = """\
version: 1
service: {name: first, command: [touch, LAUNCHED, "{port}"], ready: {path: /, timeout: 5s}}
request: {path: /, json: {}}
slo: {p99: 50ms}
space: {parameters: {cpu_cores: {choices: [1], role: cpu_cores}, batch_size: {choices: [1, 2, 4, 8], role: batch_size},
                     workers: {choices: [1, 2, 3, 4], role: workers}}}
prices: {cpu_core_hour: 0.04}
"""


def to_first_launch(tune: str, folder: Path, run: int) -> float:
    launched, spec = folder / f"launched{run}", folder / f"first{run}.yaml"
    spec.write_text(FIRST_LAUNCH.replace("LAUNCHED", str(launched)), encoding="utf-8")
    begun = time.perf_counter()
    command = [tune, "--service", str(spec), "--budget", "1", "--output", f"first-out{run}"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not launched.exists() and process.poll() is None:
            time.sleep(0.01)
        seconds = time.perf_counter() - begun
        process.terminate()
    if not launched.exists():
        sys.exit(f"`{' '.join(command)}` ended before it launched anything")
    return seconds


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
        launches = [to_first_launch(tune, folder, run) for run in range(runs)]
        replayed = [
            timed(
                [tune, "--service", "spec.yaml", "--budget", "20", "--seed", str(seed), "--output", f"out{seed}"],
                folder,
            )
            for seed in range(runs)
        ]
    for what, goal, times in (
        ("tune --help", 0.5, asked),
        ("first launch", 5.0, launches),
        ("replay of 700, budget 20", 15.0, replayed),
    ):
        median, worst = statistics.median(times), max(times)
        print(f"{what}: median {median:.2f} s, worst {worst:.2f} s of {runs} runs (goal {goal:g} s)")


if __name__ == "__main__":
    main()
