"""Makes an environment smaller for an image: `python3 prune.py tune|load ENVIRONMENT`.

It removes what no run of ours ever imports: the packages' own tests, C headers, alternative clients. Then it imports
every module of ours and runs what the image is for. That writes the byte code of exactly those modules that are used,
and fails here, when the image is built, where something is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_TEMPORARY = "/tmp"  # noqa: S108 (of the stage that builds the image)
# Removed from both images. `numpy/_core/tests` stays: numpy.testing imports it, and scipy imports numpy.testing.
_EVERYWHERE = (
    "pip",
    "pip-*",
    "setuptools",
    "setuptools-*",
    "pkg_resources",
    "_distutils_hack",
    "distutils-precedence.pth",
)
_TESTS = ("pandas", "pyarrow", "scipy", "greenlet", "gevent", "psutil")
_UNUSED = {
    "pyarrow": ("include", "src", "libarrow_flight*", "libarrow_python_flight*", "_flight*", "libarrow_s3*", "_s3fs*"),
    "kubernetes": ("aio", "e2e_test", "docs"),  # `aio` is the same client once more, for asyncio
    "plotly": ("labextension",),
    "scipy": ("io/_test*",),
}
# The load test imports scipy.special alone.
_UNUSED_BY_LOAD = tuple(
    f"scipy/{part}"
    for part in ("cluster", "integrate", "interpolate", "io", "ndimage", "optimize", "signal", "spatial", "stats")
)
_OURS = {"tune": ("tuner", "loadtest", "search_spaces", "runners", "results"), "load": ("loadtest", "search_spaces")}
_USED = {
    "tune": (("-m", "tuner.cli", "demo", "--replay", "--output", f"{_TEMPORARY}/demo"), ("-m", "tuner.cli", "--help")),
    "load": (),
}
_IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith(("__main__", ".testing", ".locustfile")):
            importlib.import_module(module.name)
"""


def main() -> None:
    """Exits with what went wrong."""
    image, environment = sys.argv[1], Path(sys.argv[2])
    [packages] = environment.glob("lib/python3*/site-packages")
    patterns = [*_EVERYWHERE, *(f"{name}/{part}" for name, parts in _UNUSED.items() for part in parts)]
    patterns += [f"{name}/**/tests" for name in _TESTS] + ["**/*.js.map", "**/*.pyx", "**/*.pxd", "**/*.a", "**/*.lib"]
    patterns += _UNUSED_BY_LOAD if image == "load" else ()
    patterns += [name for name in _OURS["tune"] if name not in _OURS[image]]
    for pattern in patterns:
        for path in list(packages.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    python = environment / "bin" / "python3"
    for arguments in (("-c", _IMPORT_ALL, *_OURS[image]), ("-P", "-m", "loadtest", "--schema"), *_USED[image]):
        done = subprocess.run(
            [python, *arguments], cwd=_TEMPORARY, env=_env(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{' '.join(arguments)[:200]}: exit code {done.returncode}\n{done.stderr[-2000:]}")


def _env() -> dict[str, str]:
    return {**os.environ, "HOME": _TEMPORARY, "XDG_STATE_HOME": _TEMPORARY, "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    main()
