"""The product on one real NVIDIA GPU: NVML's figures against torch's, a measured table of configurations, a real run.

    python -m benchmarks.gpu [--minutes 9] [--output DIR] [--device cuda|cpu] [--commit HASH]

Needs torch, no network, and no package beside this product's own. Writes, as it goes, `gpu.md` (all that is printed),
`results.json`, `gpu-vision.csv` and `gpu-encode.csv` (tables that the replay runner reads) with their specs, and the
recommendation and trials of the real run. A section that fails says why, and the next one goes on. `--device cpu` runs
the same with a tiny model, to prove the benchmark where there is no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.on_gpu import mps
from benchmarks.on_gpu.design import design
from benchmarks.on_gpu.run import PYTHON, ROOT, Run, environment, table
from benchmarks.on_gpu.table import Row, fleet, measure
from benchmarks.on_gpu.tuning import replayed, tuned

_BUDGET = 20
_TUNE_S = 270.0  # that the real run has at least, once as many rows as are wanted stand in the table
_MIN_TUNE_S = 200.0


def _provenance(run: Run, commit: str | None) -> None:
    from runners.host.gpu import gpu_names

    smi = ["nvidia-smi", "--query-gpu=name,driver_version,compute_mode,mig.mode.current", "--format=csv,noheader"]
    about: dict[str, Any] = {
        "date": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]]),
        "commit": commit or _said(["git", "-C", str(ROOT), "rev-parse", "HEAD"]) or "not known",
        "gpu": ", ".join(gpu_names()) or "none",
        "nvidia-smi (name, driver, compute mode, MIG)": _said(smi) or "not there",
        "torch": metadata.version("torch"),
        "python": platform.python_version(),
        "cpu cores": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "limit": f"p99 {run.limit_ms:g} ms, from the scheduled arrival, Poisson arrivals",
    }
    run.say(table(("what", "value"), list(about.items())))
    run.note("provenance", about)


def _said(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _checks(run: Run) -> None:
    if not run.on_gpu:
        run.say("No GPU in this run: nothing to check.")
        return
    done = subprocess.run(
        [PYTHON, "-m", "benchmarks.on_gpu.checks"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"code {done.returncode}")
    found = json.loads(done.stdout)
    rows = [(*row[:3], "yes" if row[3] else "NO") for row in found["rows"]]
    run.say(table(("quantity", "runners (NVML)", "torch", "holds"), rows))
    run.say(f"\n{sum(row[3] == 'yes' for row in rows)} of {len(rows)} hold.")
    run.note("checks", found)


def _mps(run: Run, stack: contextlib.ExitStack) -> dict[str, str]:
    """The variables of MPS, which then runs until the stack ends; none where it does not work."""
    if not run.on_gpu:
        run.say("No GPU in this run: no slices.")
        return {}
    inner = contextlib.ExitStack()
    try:
        env = inner.enter_context(mps.service())
        whole, part = run.notes.get("checks", {}).get("device", {}), mps.measured(env, 25)
        run.note("mps", part)
        rows = [("all (no MPS)", whole.get("multiprocessors"), whole.get("tflops"))]
        rows += [("25%", part["multiprocessors"], part["tflops"])]
        run.say(table(("active threads", "multiprocessors", "TFLOPS (bf16, 8192 x 8192)"), rows))
        if part["tflops"] > 0.5 * whole.get("tflops", math.inf):
            raise mps.NoMps("a process of 25% has more than half of the GPU's speed")
    except mps.NoMps as error:
        inner.close()
        run.say(
            f"MPS gives no slices here: {error}. Slices by memory alone are not priced: they have all of the speed."
        )
        run.note("mps", str(error))
        return {}
    except BaseException:
        inner.close()
        raise
    stack.push(inner)
    run.say("\nA slice is a share of the memory (by the server's own limit) and of the multiprocessors (by MPS).")
    return env


def _tables(run: Run, env: dict[str, str]) -> tuple[Any, list[Row]]:
    plan = design(on_gpu=run.on_gpu, shares=bool(env))
    rows: list[Row] = []
    with run.section("Tables of configurations"), fleet(run, plan, env) as servers:
        run.say(f"{len(servers)} servers are ready after {time.monotonic() - run.begun:.0f} s.\n")
        rows = measure(run, plan, servers, run.ends - _TUNE_S, run.ends - _MIN_TUNE_S)["vision"]
    return plan, rows


def _gpu_type(run: Run) -> str | None:
    """A word of the device's name that the process runner knows it by: `H100` of `NVIDIA H100 80GB HBM3`."""
    from runners.host.gpu import gpu_names

    words = [word for name in gpu_names()[:1] for word in name.split() if word not in ("NVIDIA", "Tesla")]
    return words[0] if run.on_gpu and words else None


def _sections(run: Run, commit: str | None) -> None:
    with run.section("Where and with what"):
        _provenance(run, commit)
    with run.section("NVML's figures, as the runners read them, against torch's"):
        _checks(run)
    with contextlib.ExitStack() as stack:
        env: dict[str, str] = {}
        with run.section("Slices"):
            env = _mps(run, stack)
        plan, rows = _tables(run, env)
    with run.section(f"tune with the process runner, budget {_BUDGET}"):
        tuned(run, plan, "vision", rows, _gpu_type(run), _BUDGET)
    with run.section("tune on the tables, by replay"):
        for model in ("vision", "encode"):
            if (run.output / f"gpu-{model}.yaml").is_file():
                replayed(run, model, _BUDGET, seeds=5, reserve_s=14)


def _terminated(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it")
    parser.add_argument("--output", type=Path, default=Path("gpu-benchmark"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--limit-ms", type=float, default=50.0, help="the p99 that a configuration has to hold")
    parser.add_argument("--commit", help="of this repository, where there is no git to ask")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminated)
    output = options.output.resolve()
    (output / "logs").mkdir(parents=True, exist_ok=True)
    (output / "gpu.md").unlink(missing_ok=True)
    begun = time.monotonic()
    run = Run(options.device, output, begun, begun + 60 * options.minutes, options.limit_ms)
    run.say("# The product on a GPU" if run.on_gpu else "# The benchmark of a GPU, proved on a CPU with a tiny model")
    try:
        _sections(run, options.commit)
    except KeyboardInterrupt:
        run.say("\nInterrupted: what is written so far counts.")
        sys.exit(130)


if __name__ == "__main__":
    main()
