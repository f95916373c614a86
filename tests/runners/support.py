"""Containers around the small server of the tests."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from runners import Container, Placement, Readiness, Resources, SampleRequest
from runners.leftovers.ownership import OWNER, marks_of
from tests.conftest import SERVER


@contextlib.contextmanager
def lost_run(module: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has launched a server, by `launched` of that test module; to be killed."""
    script = (
        f"import sys, time; from pathlib import Path; from {module} import *\n"
        "with launched(Path(sys.argv[1])): print('up', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True) as lost:
        assert lost.stdout is not None
        assert lost.stdout.readline() == "up\n"
        try:
            yield lost
        finally:
            lost.kill()


def container(
    placement: Placement,
    folder: Path,
    mode: str = "ok",
    *,
    timeout_s: float = 20.0,
    resources: Resources | None = None,
    command: tuple[str, ...] | None = None,
    files: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
    secrets: tuple[str, ...] = (),
) -> Container:
    """The server in one of its modes, answering POST /predict."""
    return Container(
        study="tests",
        trial=7,
        folder=folder,
        workdir=folder,
        parameters={"mode": mode},
        resources=resources or Resources(),
        placement=placement,
        readiness=Readiness("/healthz", timeout_s, SampleRequest("POST", "/predict", {}, b"{}")),
        command=command or (sys.executable, str(SERVER), "--mode", mode, "--port", str(placement.port)),
        files=files or {},
        env=env or {},
        secrets=secrets,
    )


def listens(placement: Placement) -> bool:
    """Whether anything answers there."""
    with socket.socket() as probe:
        return probe.connect_ex((placement.host, placement.port)) == 0


def marked() -> list[psutil.Process]:
    """Every running process that carries this test process's mark."""
    mine = f"{os.getpid()}-"
    return [
        process for process in psutil.process_iter()
        if marks_of(process.pid).get(OWNER, "").startswith(mine) and process.status() != psutil.STATUS_ZOMBIE
    ]  # fmt: skip
