"""Overhead of a trial: its wall time less server start, warm-up and load.

    python -m benchmarks.overhead [SPEC] [--trials N] [--runner process|docker|kubernetes]

The goals are medians of at most 0.5 s for processes, 2 s for Docker and 5 s for Kubernetes. A container's start counts
too, less the server's own: what the small server takes to answer as a process is taken off its launch.

Runs the real loop (`tune --service SPEC`) in a temporary folder and reads the times from its trials. Without SPEC it
tunes the small server that the tests use. The time to stop the server is part of the overhead, and is shown apart too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

SERVER = Path(__file__).parent.parent / "tests" / "servers" / "misbehaving.py"
GOALS_S = {"process": 0.5, "docker": 2.0, "kubernetes": 5.0}

SMALL = """\
version: 1
service:
  name: overhead
  image: small:1
  command: [PYTHON, SERVER, --mode, ok, --host, "{host}", --port, "{port}", --service-ms, "{service_ms}"]
  ready: {path: /healthz, timeout: 30s}
request: {path: /predict, json: {x: 1}}
slo: {p99: 200ms}
objective: {maximize: capacity_qps}
space: {parameters: {cpu_cores: [1], service_ms: {low: 1, high: 40}}}
load: {max_trial: 8s}
"""


def run(runner: str, spec: Path | None, count: int) -> pd.DataFrame:
    """The trials of a run."""
    with tempfile.TemporaryDirectory() as folder:
        if spec is None:
            spec = Path(folder) / "spec.yaml"
            python, server = (sys.executable, str(SERVER)) if runner == "process" else ("python3", SERVER.name)
            spec.write_text(SMALL.replace("PYTHON", python).replace("SERVER", server), encoding="utf-8")
        command = [sys.executable, "-m", "tuner.cli", "--service", str(spec), "--budget", str(count)]
        command += ["--runner", runner, "--output", f"{folder}/out"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return pd.read_parquet(f"{folder}/out/trials.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spec", nargs="?", type=Path)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--runner", choices=list(GOALS_S), default="process")
    options = parser.parse_args()
    trials = run(options.runner, options.spec, options.trials)
    own_start_s = 0.0
    if options.runner != "process":
        own_start_s = float(run("process", options.spec, 3)["cold_start_s"].median())
        print(f"the server's own start, as a process: {own_start_s:.3f} s")
    measured = trials[trials["load_s"].notna()]
    overhead = measured["wall_s"] - measured["warmup_s"] - measured["load_s"]
    overhead -= measured["launch_s"] if options.runner == "process" else own_start_s
    for number, seconds, stop in zip(measured["number"], overhead, measured["teardown_s"], strict=True):
        print(f"trial {number}: overhead {seconds:.3f} s, of which stopping the server {stop:.3f} s")
    median = statistics.median(overhead)
    print(
        f"{options.runner}: median {median:.3f} s, worst {max(overhead):.3f} s over {len(overhead)} trials "
        f"(goal: median <= {GOALS_S[options.runner]} s)"
    )


if __name__ == "__main__":
    main()
