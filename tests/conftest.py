"""What many tests need: the command line as a user runs it, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Tune = Callable[..., "subprocess.CompletedProcess[str]"]
SERVER = Path(__file__).parent / "servers" / "misbehaving.py"


def tune_command(*arguments: object) -> list[str]:
    """The command line in this environment, without relying on PATH."""
    return [sys.executable, "-m", "tuner.cli", *map(str, arguments)]


def tune_environment(folder: Path) -> dict[str, str]:
    """Leases of the tests' runs go to a folder of their own, so that no test cleans up after another."""
    return os.environ | {"XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200"}


@pytest.fixture
def tune(tmp_path: Path) -> Tune:
    """Run `tune` in an empty folder; standard output and error come back as text."""

    def run(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            tune_command(*arguments), cwd=tmp_path, env=tune_environment(tmp_path), capture_output=True, text=True,
            timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return run


def recommendation(folder: Path) -> dict[str, Any]:
    """The run's recommendation.json."""
    content: dict[str, Any] = json.loads((folder / "recommendation.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a certificate for 127.0.0.1 that nobody signed, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key, made = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", made],
        check=True, capture_output=True,
    )  # fmt: skip
    made.write_bytes(made.read_bytes() + key.read_bytes())
    return made
