"""What many tests need: the command line, as a process or in this one, and the markers by what a test needs.

A test that asks for the fixture `needs_machine`, itself or through another fixture, starts processes or real load: it
is marked `machine` and runs alone. One that asks for `needs_engine` needs Docker, a cluster, PostgreSQL, a browser or
Go: it is marked `engine`. All others stay in this process and run side by side: `make check`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.started import Started
from tuner import cli

Tune = Callable[..., "subprocess.CompletedProcess[str]"]
SERVER = Path(__file__).parent / "servers" / "misbehaving.py"


def tune_command(*arguments: object) -> list[str]:
    """The command line in this environment, without relying on PATH."""
    return [sys.executable, "-m", "tuner.cli", *map(str, arguments)]


def tune_environment(folder: Path) -> dict[str, str]:
    """Leases of the tests' runs go to a folder of their own, so that no test cleans up after another."""
    return os.environ | {"XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200"}


@pytest.fixture(scope="session")
def needs_machine() -> None:
    """For a test that starts processes or real load: the machine is its own meanwhile."""


@pytest.fixture(scope="session")
def needs_engine(needs_machine: None) -> None:
    """For a test that needs Docker, a cluster, PostgreSQL, a browser or Go, and is skipped where that is absent."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what its fixtures need."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "needs_engine" in fixtures:
            item.add_marker("engine")
        elif "needs_machine" in fixtures:
            item.add_marker("machine")


STARTED = Started()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that is not marked and starts a process fails: it would disturb what is measured beside it."""
    STARTED.watched = not any(item.iter_markers("machine")) and not any(item.iter_markers("engine"))
    try:
        return (yield)
    finally:
        STARTED.watched = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Say it where the test ends, so that what it asserts is seen first."""
    yield
    if places := STARTED.taken():
        pytest.fail(
            f'it starts a process ({places[0]}): mark it with @pytest.mark.usefixtures("needs_machine")', pytrace=False
        )


@pytest.fixture
def tune_process(tmp_path: Path, needs_machine: None) -> Tune:
    """Run `tune` in an empty folder as a process; standard output and error come back as text."""

    def run(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            tune_command(*arguments), cwd=tmp_path, env=tune_environment(tmp_path), capture_output=True, text=True,
            timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return run


@pytest.fixture
def tune(tune_process: Tune) -> Tune:
    """The command line as a process, unless a module says that the process is not what it tests."""
    return tune_process


@pytest.fixture
def tune_in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tune:
    """Run `tune` in an empty folder, in this process: all but the process is as users have it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["tune", *words])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        shown, errors = io.StringIO(), io.StringIO()
        try:
            with contextlib.chdir(tmp_path), contextlib.redirect_stdout(shown), contextlib.redirect_stderr(errors):
                cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return subprocess.CompletedProcess(words, code, shown.getvalue(), errors.getvalue())

    return run


def recommendation(folder: Path) -> dict[str, Any]:
    """The run's recommendation.json."""
    content: dict[str, Any] = json.loads((folder / "recommendation.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory, needs_machine: None) -> Path:
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
