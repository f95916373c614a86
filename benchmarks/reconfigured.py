"""What it saves to tell a running server what differs: trials per hour with one server for all, and with one for each.

    examples/setup triton torchserve ray-serve
    python -m benchmarks.reconfigured [triton torchserve ray-serve] [--budget 6] [--turns 3]

The examples' own servers and models, with short trials (3 s of load at most) over the parameters that a running server
can be told; both ways in turns, and medians of the turns. The goal is three times as many on one of them. The time is
that of whole trials, the first launch included; confirmations, which are launched afresh either way, do not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

EXAMPLES = Path(__file__).parent.parent / "examples"
LIVE = {
    "triton": {"batch_size": [2, 4, 8, 16], "batch_delay_ms": {"choices": [0, 1], "role": "batch_delay"}},
    "torchserve": {"batch_size": [2, 4, 8, 16], "batch_delay_ms": {"choices": [1, 5], "role": "batch_delay"}},
    "ray-serve": {"batch_size": [2, 4, 8, 16], "batch_delay_ms": {"choices": [1, 5], "role": "batch_delay"}},
}


def spec(server: str, *, reuse: bool) -> dict[str, Any]:
    """The example's, with paths that hold from anywhere."""
    folder = EXAMPLES / server
    content: dict[str, Any] = YAML(typ="safe", pure=True).load((folder / "spec.yaml").read_text(encoding="utf-8"))
    service = content["service"]
    service["venv"] = str(folder / ".venv")
    if (folder / service["model"]["path"]).exists():  # else it is a module, found by the environment
        service["model"]["path"] = str(folder / service["model"]["path"])
    service["env"] = {"PYTHONPATH": str(folder)}
    if "request" in content:
        content["request"]["dataset"] = str(folder / content["request"]["dataset"])
    del content["quality"]
    content["space"] = {"parameters": {"cpu_cores": [1], **LIVE[server]}}
    content["load"] = {"max_trial": "3s", "max_warmup": "1s"}
    content["slo"] = {"p99": "500ms"}
    content["runner"] = {"type": "process", "reuse": reuse}
    return content


def measured(server: str, budget: int, *, reuse: bool) -> tuple[float, float]:
    """Trials per hour, and the median time until a trial's server served."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spec.yaml").write_text(json.dumps(spec(server, reuse=reuse)), encoding="utf-8")
        words = ["--service", "spec.yaml", "--budget", str(budget), "--output", "out"]
        subprocess.run([sys.executable, "-m", "tuner.cli", *words], cwd=folder, capture_output=True, check=False)
        paths = [path for path in folder.glob("out/trials/*/trial.json") if not path.parent.name.endswith("again")]
        records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        served = [one for one in records if one["launch_s"] is not None]
        assert len(served) == budget, [one["reason"] for one in records]
        assert reuse == any(one["reused_from"] is not None for one in served)
        return 3600 * budget / sum(one["wall_s"] for one in records), statistics.median(o["launch_s"] for o in served)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("servers", nargs="*", default=list(LIVE), choices=list(LIVE))
    parser.add_argument("--budget", type=int, default=6)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    best = 0.0
    for server in options.servers:
        found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for _ in range(options.turns):
            for reuse in (False, True):
                found[reuse].append(measured(server, options.budget, reuse=reuse))
        alone, shared = (statistics.median(rate for rate, _ in found[reuse]) for reuse in (False, True))
        waits = [statistics.median(wait for _, wait in found[reuse]) for reuse in (False, True)]
        print(f"{server}: {alone:.0f} trials an hour with a server each, {shared:.0f} told: {shared / alone:.1f} times")
        print(f"  a server serves after {waits[0]:.1f} s and {waits[1]:.1f} s (medians)")
        best = max(best, shared / alone)
    sys.exit(best < 3)


if __name__ == "__main__":
    main()
