"""From a rendered container to a running process: its files, its environment, its program."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from runners.host.cores import affinity
from runners.protocol import Container, ServerFailed

CONTAINER_PORT = 8000  # inside a container of its own, where nothing else listens
CONTAINER_FILES = "/tune/files"  # where a container has its rendered files
_OURS_ALONE = ("TUNE_STORAGE",)  # a database's password is no server's business
_NICE = 10  # a tenth of the processor time that a process at 0 gets beside it
_LEAST_NICE = 19
_OOM_SCORE = "800"  # when memory runs out the kernel should take the server, not the tuner


def write_files(files: Mapping[str, str], folder: Path) -> None:
    """Write the rendered files below the folder. Raises ServerFailed for a path that leads elsewhere."""
    for name, text in files.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ServerFailed(f"the file {name} would lie outside the trial's folder; use a relative path")
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise ServerFailed(f"the file {name} cannot be written: a file and a folder have one name") from error


def opened_private(path: Path) -> int:
    """A new, empty file that its owner alone can read; its descriptor. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def environment(container: Container, marks: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """Ours, the container's over it, and the marks over both."""
    return inherited_environment({"TMPDIR": str(temporary)} | dict(container.env) | dict(marks))


def inherited_environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program that we start: ours without what is our business alone, and `more` over it."""
    whole = {name: value for name, value in os.environ.items() if name not in _OURS_ALONE} | dict(more)
    # So that `python` can be had where this product's own environment is all there is.
    whole["PATH"] = os.pathsep.join((whole.get("PATH", os.defpath), str(Path(sys.executable).parent)))
    return whole


def start(container: Container, environ: Mapping[str, str], cores: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Run the command on these cores, in a session of its own. Raises ServerFailed where it cannot be run."""
    if not container.workdir.is_dir():
        raise ServerFailed(f"there is no folder {container.workdir} to run the command in")
    if not container.command:
        raise ServerFailed("there is no command to run")
    program = program_path(container.command[0], container.workdir, environ["PATH"])
    with os.fdopen(opened_private(container.folder / "server.log"), "wb") as log, affinity(cores):
        try:
            process = subprocess.Popen(
                [program, *container.command[1:]],
                cwd=container.workdir,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ServerFailed(f"cannot run {container.command[0]!r}: {why}") from error
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    return process


def yield_cores(process: subprocess.Popen[bytes]) -> None:
    """The server runs on a core only when the load generator does not want it. A user may lower the priority of what is
    theirs, not raise their own. The kernel may group sessions before it looks at processes (autogroup), so the group
    is told too.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, process.pid, _NICE)
        Path(f"/proc/{process.pid}/autogroup").write_text(str(_NICE), encoding="ascii")


def take_leftovers(process: subprocess.Popen[bytes]) -> None:
    """The server runs on a core only while nobody else wants it: Linux' idle class, and the least weight where the
    kernel groups sessions first (autogroup). Its later children inherit it, and it needs no right.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, process.pid, _LEAST_NICE)
        os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
        Path(f"/proc/{process.pid}/autogroup").write_text(str(_LEAST_NICE), encoding="ascii")


def program_path(program: str, workdir: Path, path: str) -> str:
    """The file of a command's first word. Raises ServerFailed where there is none."""
    if os.sep in program:
        return str(workdir / program)
    found = shutil.which(program, path=path)
    if found is None:
        raise ServerFailed(f"there is no program {program!r} on the PATH")
    return found
