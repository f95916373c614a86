"""What an install weighs, part by part, and how long the command line and the load test take to import.

    python -m benchmarks.sizes

Sums the files of this environment's packages: those that `tune-inference` requires, and those that the load test alone
does. Images are listed where Docker has them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
GOALS_MB = {"tune:1": 1200.0, "tune-load:1": 350.0}
_SHOWN = 12


def weight_mb(name: str) -> float:
    """All files of an installed distribution."""
    files = metadata.files(name) or []
    sizes = [Path(str(one.locate())).stat().st_size for one in files if Path(str(one.locate())).is_file()]
    return sum(sizes) / 1e6


def needed(names: list[str]) -> set[str]:
    """Those, and all that they require here."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in found:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        wanted = [Requirement(one) for one in requires]
        left += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def direct() -> list[str]:
    """What pyproject.toml requires."""
    import tomllib

    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [Requirement(one).name for one in content["project"]["dependencies"]]


def load_test() -> list[str]:
    """What images/load.txt installs."""
    lines = (ROOT / "images" / "load.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def show(title: str, names: set[str]) -> None:
    weights = sorted(((weight_mb(name), name) for name in names), reverse=True)
    print(f"{title}: {sum(weight for weight, _ in weights):,.0f} MB in {len(weights)} packages")
    for weight, name in weights[:_SHOWN]:
        print(f"  {name:<24} {weight:8.1f} MB")


def seconds(code: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    return time.perf_counter() - begun


def main() -> None:
    show("tune", needed(direct()))
    show("the load test alone", needed(load_test()))
    for what, code in (("tuner.cli", "import tuner.cli"), ("tuner.commands.run", "import tuner.commands.run"),
                       ("loadtest.__main__", "import loadtest.__main__"),
                       ("tuner.search.surrogate.mixture", "import tuner.search.surrogate.mixture")):  # fmt: skip
        print(f"import {what}: {min(seconds(code) for _ in range(3)):.2f} s")
    if shutil.which("docker") is None:
        print("no Docker here: no images to weigh")
        return
    for image, goal in GOALS_MB.items():
        done = subprocess.run(["docker", "image", "inspect", image, "--format", "{{.Size}}"], capture_output=True,
                              text=True, check=False)  # fmt: skip
        size = f"{int(done.stdout) / 1e6:,.0f} MB (goal {goal:,.0f})" if done.returncode == 0 else "not built here"
        print(f"image {image}: {size}")


if __name__ == "__main__":
    main()
