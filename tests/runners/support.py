"""Containers around the small server of the tests."""

from __future__ import annotations

import sys
from pathlib import Path

from runners import Container, Placement, Readiness, Resources, SampleRequest
from tests.conftest import SERVER


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
    )
