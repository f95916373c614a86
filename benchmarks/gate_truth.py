"""The gate on real servers: how often it fails without a reason, and how often it finds a server that is 10% slower.

    python -m benchmarks.gate_truth [--same 40] [--slower 20] [--record FILE]

A small server (a queue whose service time is known: about 200 requests/s within its SLO) is tuned, which gives a
baseline; against it the same server is gated, and one whose service time is a tenth longer: twice and once, then comes
the next baseline. Goals: at most 2 false alarms of 40 at the 5% setting, at least 19 of 20 slower servers found, a
median gate under 3 minutes. That takes about an hour on a machine where nothing else runs; with `--record` it goes on
where it was interrupted.
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
from typing import Any

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


def baseline(folder: Path) -> None:
    """Tunes the server as it is; the spec of the slower one is beside it."""
    write_spec(folder / "same.yaml", SERVICE_MS)
    write_spec(folder / "slower.yaml", SERVICE_MS * SLOWER)
    made = tune(folder, "--service", "same.yaml", "--budget", "1", "--output", "out")
    assert made.returncode == 0, made.stderr


def gate(folder: Path, kind: str) -> dict[str, Any] | None:
    """What the gate said of it, and how long that took; None where this machine could not say."""
    begun = time.monotonic()
    words = ("gate", "out", "--baseline", "out/recommendation.json", "--service", f"{kind}.yaml", "--json")
    gated = tune(folder, *words)
    seconds = time.monotonic() - begun
    if gated.returncode == 4:
        print(f"  {kind}: no decision: {gated.stderr.strip().splitlines()[-2:]}", flush=True)
        return None
    assert gated.returncode in (0, 5, 6), gated.stderr
    document = json.loads(gated.stdout)
    capacity = next((one for one in document["metrics"] if one["metric"] == "capacity_qps"), None)
    return {
        "kind": kind, "outcome": document["outcome"], "seconds": round(seconds, 1),
        "measurements": document["measurements"], "reason": document.get("reason"),
        "change": capacity and capacity["change"]["value"], "floor": capacity and capacity["noise_floor"],
    }  # fmt: skip


def wanted(found: list[dict[str, Any]], kind: str, max_runs: int) -> bool:
    return len([one for one in found if one["kind"] == kind]) < max_runs


def run(max_runs: dict[str, int], record: Path | None) -> list[dict[str, Any]]:
    """Gates until there are so many of each kind, those on record included."""
    found = [json.loads(line) for line in record.read_text().splitlines()] if record and record.exists() else []
    while any(wanted(found, kind, count) for kind, count in max_runs.items()):
        with tempfile.TemporaryDirectory() as name:
            baseline(Path(name))
            for kind in ("same", "slower", "same"):
                if not wanted(found, kind, max_runs[kind]):
                    continue
                if (one := gate(Path(name), kind)) is None:
                    continue
                found.append(one)
                shown = "no capacity" if one["change"] is None else f"{one['change']:+.1%}, floor {one['floor']:.1%}"
                print(f"  {kind}: {one['outcome']}, {shown}, {one['seconds']:.0f} s", flush=True)
                if record:
                    with record.open("a") as file:
                        file.write(json.dumps(one) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--same", type=int, default=40)
    parser.add_argument("--slower", type=int, default=20)
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep every gate here, and go on with those in it")
    options = parser.parse_args()
    found = run({"same": options.same, "slower": options.slower}, options.record)
    failed = {
        kind: [one["outcome"] == "regressed" for one in found if one["kind"] == kind] for kind in ("same", "slower")
    }
    alarms, caught = sum(failed["same"]), sum(failed["slower"])
    middle = statistics.median(one["seconds"] for one in found)
    blind = sum(one["outcome"] == "inconclusive" for one in found)
    print(f"inconclusive: {blind} of {len(found)}")
    print(f"same server: {alarms} false alarms of {len(failed['same'])} (goal: at most 2 of 40)")
    print(f"10% slower: {caught} of {len(failed['slower'])} found (goal: at least 19 of 20)")
    print(f"a gate took {middle:.0f} s (median; goal: under 180 s)")
    good = alarms <= 0.05 * len(failed["same"]) and caught >= 0.95 * len(failed["slower"]) and middle < 180
    sys.exit(not good)


if __name__ == "__main__":
    main()
