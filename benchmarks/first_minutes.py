"""How long three people's first results take: each path is carried out by commands, in an environment made for it.

    python -m benchmarks.first_minutes [demo] [tutorial] [vllm]

`demo`: README to a first result without a server (goal 60 s after the install). `tutorial`: the files and commands of
docs/tutorial.md (10 min). `vllm`: examples/vllm with its install, which is 3.5 GB (15 min). By default the first two.
The install of tune is timed apart, since it is the network's and pip's cache's. Times are of commands alone; reading
comes on top.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOALS_S = {"demo": 60.0, "tutorial": 600.0, "vllm": 900.0}
_FILE = re.compile(r'```\w+ title="([^"]+)"\n(.*?)```', re.DOTALL)
_COMMANDS = re.compile(r"```sh\n(.*?)```", re.DOTALL)
_CANNOT_TELL = 6  # a gate on a noisy machine


def timed(command: list[str], folder: Path, venv: Path) -> float:
    """Seconds that it took; the benchmark ends where it failed."""
    path = os.pathsep.join((str(venv / "bin"), os.environ["PATH"]))
    begun = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begun
    print(f"  {seconds:6.1f} s  {' '.join(command)}", flush=True)
    if done.returncode not in (0, _CANNOT_TELL if "gate" in command else 0):
        sys.exit(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return seconds


def tutorial(folder: Path, venv: Path) -> float:
    """Its files as they stand on the page, then its commands."""
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for name, text in _FILE.findall(page):
        (folder / name).write_text(text, encoding="utf-8")
    seconds = timed(["pip", "install", "-q", "fastapi", "uvicorn"], folder, venv)
    lines = [line for block in _COMMANDS.findall(page) for line in block.splitlines() if line]
    return seconds + sum(timed(line.split(), folder, venv) for line in lines)


def vllm(checkout: Path, venv: Path) -> float:
    """What examples/vllm/spec.yaml says at its head."""
    seconds = timed(["examples/setup", "vllm"], checkout, venv)
    return seconds + timed(["tune", "--service", "examples/vllm/spec.yaml", "--budget", "6m"], checkout, venv)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", help="demo, tutorial, vllm")
    asked = parser.parse_args().paths or ["demo", "tutorial"]
    if unknown := set(asked) - set(GOALS_S):
        parser.error(f"there is no path {', '.join(sorted(unknown))}; there are {', '.join(GOALS_S)}")
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder, venv, checkout = Path(name), Path(name) / "venv", Path(name) / "checkout"
        (folder / "tutorial").mkdir()
        subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{ROOT}", str(checkout)], check=True)
        print("install:")
        install_s = timed([sys.executable, "-m", "venv", str(venv)], folder, venv)
        install_s += timed(["pip", "install", "-q", str(checkout)], folder, venv)
        for path in asked:
            print(f"{path}:")
            if path == "demo":
                results[path] = timed(["tune", "demo", "--replay"], folder, venv)
            else:
                results[path] = tutorial(folder / "tutorial", venv) if path == "tutorial" else vllm(checkout, venv)
    print(f"install: {install_s:.0f} s")
    for path, seconds in results.items():
        print(f"{path}: {seconds:.0f} s after the install (goal {GOALS_S[path]:.0f} s)")


if __name__ == "__main__":
    main()
