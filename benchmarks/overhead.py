"""Overhead of a trial: its wall time less server start, warm-up and load. The goal is a median of at most 0.5 s.

    python -m benchmarks.overhead [SPEC] [--trials N]

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
GOAL_S = 0.5

SMALL = f"""\
version: 1
service:
  name: overhead
  command: [{sys.executable}, {SERVER}, --mode, ok, --port, "{{port}}", --service-ms, "{{service_ms}}"]
  ready: {{path: /healthz, timeout: 30s}}
request: {{path: /predict, json: {{x: 1}}}}
slo: {{p99: 50ms}}
objective: {{maximize: capacity_qps}}
space: {{parameters: {{cpu_cores: [1], service_ms: {{low: 1, high: 40}}}}}}
load: {{max_trial: 8s}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spec", nargs="?", type=Path)
    parser.add_argument("--trials", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spec = options.spec
        if spec is None:
            spec = Path(folder) / "spec.yaml"
            spec.write_text(SMALL, encoding="utf-8")
        command = [sys.executable, "-m", "tuner.cli", "--service", str(spec), "--budget", str(options.trials)]
        subprocess.run([*command, "--output", f"{folder}/out"], check=True, stdout=subprocess.DEVNULL)
        trials = pd.read_parquet(f"{folder}/out/trials.parquet")
    measured = trials[trials["load_s"].notna()]
    overhead = measured["wall_s"] - measured["launch_s"] - measured["warmup_s"] - measured["load_s"]
    for number, seconds, stop in zip(measured["number"], overhead, measured["teardown_s"], strict=True):
        print(f"trial {number}: overhead {seconds:.3f} s, of which stopping the server {stop:.3f} s")
    median = statistics.median(overhead)
    print(
        f"median {median:.3f} s, worst {max(overhead):.3f} s over {len(overhead)} trials (goal: median <= {GOAL_S} s)"
    )


if __name__ == "__main__":
    main()
