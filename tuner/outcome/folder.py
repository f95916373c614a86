"""The output folder: what lies in it, and how an earlier run's files are kept when another begins."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from results import StudySummary, write_recommendation, write_report, write_trials
from tuner import __version__
from tuner.errors import UnfitEnvironmentError, UsageError
from tuner.launch.runner import table_digest
from tuner.outcome.summary import summarise
from tuner.spec.reading import LoadedSpec
from tuner.study.storage.archive import Archive

# What is compiled (`cache`) stays, for the next run to find.
_OURS = (
    "recommendation.json", "trials.csv", "trials.parquet", "trials", "report.html", "report.md", "study.db",
    "reference", "plan.json", "plan.csv", "plan.svg", "gate", "verify", "shared",
)  # fmt: skip


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """While this lasts, no other run writes there: two would move each other's files aside. It ends with its process,
    however that ends. Where a file system knows no locks, nothing is held.

    Raises UsageError where another run holds it, and as `prepare_output`.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"`output` {folder} is a file; name a folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)  # answers and the ends of logs stand in what is written here
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(place)
        raise UsageError(
            f"another run works in {folder} now; wait for its end, or name another folder by `output`"
        ) from None
    except OSError:  # no locks there
        pass
    try:
        yield
    finally:
        os.close(place)


def _unwritable(folder: Path, error: OSError) -> UnfitEnvironmentError:
    return UnfitEnvironmentError(f"cannot write to {folder}: {error.strerror}; `output` names another folder")


def prepare_output(folder: Path, *, resume: bool) -> str | None:
    """Move an earlier run's files aside, unless this run goes on with them. Returns what was done. The folder is held.

    Raises UnfitEnvironmentError where it cannot be written.
    """
    try:
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
        earlier = [folder / name for name in _OURS if (folder / name).exists()]
        if resume or not earlier:
            return None
        kept = _unused(folder / "earlier" / f"{datetime.datetime.now(tz=datetime.UTC):%Y%m%dT%H%M%SZ}")
        kept.mkdir(parents=True)
        for path in earlier:
            shutil.move(path, kept / path.name)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return f"an earlier run's files were moved to {kept} (`resume` would have gone on with it)"


def _unused(path: Path) -> Path:
    return next(
        candidate for number in range(1, 1000)
        if not (candidate := path if number == 1 else path.with_name(f"{path.name}-{number}")).exists()
    )  # fmt: skip


def provenance(loaded: LoadedSpec, seed: int) -> dict[str, str]:
    """Where, when and with what a study is begun."""
    versions = {name: _version(name) for name in ("tune-inference", "optuna", "locust")}
    table = table_digest(loaded)
    return {
        "spec": str(loaded.file.path.resolve()),
        **({} if table is None else {"table": table}),
        "seed": str(seed),
        "started": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "study": secrets.token_hex(8),  # its own, wherever its folder is moved to
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu cores": str(len(os.sched_getaffinity(0))),
        **_gpus(),
        "python": platform.python_version(),
        **versions,
    }


def _version(package: str) -> str:
    """The version of an installed package, or of this product, which may run from its source tree."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return f"{__version__}, not installed" if package == "tune-inference" else "not installed"


def _processor() -> str:
    """The CPU's model as the kernel names it; Python's platform.processor() is empty on Debian."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpus() -> dict[str, str]:
    """This machine's GPUs and their driver, as NVIDIA's own tool names them; nothing where it is absent."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    asked = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    found = [line.rsplit(", ", 1) for line in lines if ", " in line]
    return {"gpus": ", ".join(name for name, _ in found), "driver": found[0][1]} if found else {}


def write_outputs(folder: Path, loaded: LoadedSpec, archive: Archive) -> StudySummary:
    """Every file of the contract, from what is stored. Raises OSError when the disk is full."""
    summary = summarise(loaded, archive)
    write_trials(folder, summary.records, loaded.space.names)
    write_recommendation(folder, summary.recommendation)
    write_report(folder, summary)
    return summary
