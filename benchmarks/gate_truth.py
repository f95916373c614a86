"""The gate on real servers: how often it fails without a reason, and how often it finds a server that is 10% slower.

    python -m benchmarks.gate_truth [--same 40] [--slower 20]

Each time a small server (a queue whose service time is known: about 200 requests/s within its SLO) is tuned, which
gives the baseline, and gated with the same server, or with one whose service time is a tenth longer. Goals: at most 2
false alarms of 40 at the 5% setting, at least 19 of 20 slower servers found, a median gate under 3 minutes. It takes
about 90 s each, on a machine where nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERVER = Path(__file__).parent.parent / "tests" / "servers" / "misbehaving.py"
SERVICE_MS, SLOWER = 4.4, 1.10
SPEC = """\
version: 1
service:
  name: gated
  command: [PYTHON, SERVER, --port, "{port}", --service-ms, "MILLISECONDS", --workers, "{workers}"]
  ready: {path: /healthz, timeout: 20s}
request: {path: /predict, json: {x: 1}}
slo: {p99: 50ms}
objective: {maximize: capacity_qps}
space: {parameters: {cpu_cores: [1], workers: [1]}}
load: {max_trial: 30s, max_warmup: 5s}
"""


def write_spec(path: Path, service_ms: float) -> None:
    text = SPEC.replace("PYTHON", sys.executable).replace("SERVER", str(SERVER))
    path.write_text(text.replace("MILLISECONDS", f"{service_ms:g}"), encoding="utf-8")


def tune(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tuner.cli", *words], cwd=folder, capture_output=True, text=True, check=False
    )


def once(slower: bool) -> tuple[str, float, float, float]:
    """The gate's outcome, how long it took, its change of the capacity, and its noise floor."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_spec(folder / "before.yaml", SERVICE_MS)
        write_spec(folder / "now.yaml", SERVICE_MS * (SLOWER if slower else 1.0))
        made = tune(folder, "--service", "before.yaml", "--budget", "1", "--output", "out")
        assert made.returncode == 0, made.stderr
        begun = time.monotonic()
        words = ("gate", "out", "--baseline", "out/recommendation.json", "--service", "now.yaml", "--json")
        gated = tune(folder, *words)
        seconds = time.monotonic() - begun
        assert gated.returncode in (0, 5), gated.stderr
        document = json.loads(gated.stdout)
        [capacity] = [one for one in document["metrics"] if one["metric"] == "capacity_qps"] or [None]
        change, floor = (capacity["change"]["value"], capacity["noise_floor"]) if capacity else (-1.0, 0.0)
        return document["outcome"], seconds, change, floor


def series(what: str, count: int, *, slower: bool) -> tuple[int, list[float]]:
    """How many failed, and how long each took."""
    failed, times = 0, []
    for number in range(count):
        outcome, seconds, change, floor = once(slower)
        failed += outcome == "regressed"
        times.append(seconds)
        print(f"  {what} {number + 1}: {outcome}, {change:+.1%}, floor {floor:.1%}, {seconds:.0f} s", flush=True)
    return failed, times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--same", type=int, default=40)
    parser.add_argument("--slower", type=int, default=20)
    options = parser.parse_args()
    alarms, same = series("same", options.same, slower=False)
    found, slower = series("slower", options.slower, slower=True)
    middle = statistics.median([*same, *slower])
    print(f"same server: {alarms} false alarms of {options.same} (goal: at most 2 of 40)")
    print(f"10% slower: {found} of {options.slower} found (goal: at least 19 of 20)")
    print(f"a gate took {middle:.0f} s (median; goal: under 180 s)")
    good = alarms <= 0.05 * options.same and found >= 0.95 * options.slower and middle < 180
    sys.exit(not good)


if __name__ == "__main__":
    main()
