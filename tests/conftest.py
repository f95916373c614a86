"""What many tests need: the command line, as a process or in this one, and the markers by what a test needs.

A test that asks for the fixture `needs_machine`, itself or through another fixture, starts processes or real load: it
is marked `machine`. One that asks for `needs_engine` needs Docker, a cluster, PostgreSQL, a browser or Go: it is marked
`engine`. All others stay in this process and run side by side: `make check`.

Tests of real servers mostly wait, so `make machine` runs two files of them at a time. A test that fails may have lacked
the time that its neighbour took: it is run once more, by itself, and what it says then counts. A test that says `alone`
measures the machine itself, or starves it, and never has a neighbour.
"""

from __future__ import annotations

import contextlib
import functools
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

from search_spaces import masking
from tests.needs import needed
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
    """Mark each test by what its fixtures ask for, and else by what its code and theirs would start."""
    for item in items:
        if isinstance(item, pytest.Function):
            fixtures = [one for named in item._fixtureinfo.name2fixturedefs.values() for one in named]
            found = needed((item.obj, *(one.func for one in fixtures)))
            if "needs_engine" in item.fixturenames or found == "engine":
                item.add_marker("engine")
            elif "needs_machine" in item.fixturenames or found == "machine":
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


@pytest.fixture(autouse=True)
def _secrets_of_one_test() -> Iterator[None]:
    """What a test made this process mask is no secret to the next one."""
    known, pattern = set(masking._known), masking._pattern
    yield
    masking._known.clear()
    masking._known.update(known)
    masking._pattern = pattern


def run_tune(folder: Path, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run `tune` in that folder, as a process; a test that calls it asks for `needs_machine`."""
    return subprocess.run(
        tune_command(*arguments), cwd=folder, env=tune_environment(folder), capture_output=True, text=True,
        timeout=timeout, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture
def tune_process(tmp_path: Path, needs_machine: None) -> Tune:
    """Run `tune` in an empty folder as a process; standard output and error come back as text."""
    return functools.partial(run_tune, tmp_path)


@pytest.fixture
def tune(tune_process: Tune) -> Tune:
    """The command line as a process, unless a module says that the process is not what it tests."""
    return tune_process


def call_tune(folder: Path, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run `tune` in that folder, in this process: all but the process is as users have it. No time is kept."""
    words = ["tune", *map(str, arguments)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    shown, errors, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.setenv("COLUMNS", "200")
        patch.chdir(folder)
        try:
            with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(errors):
                cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return subprocess.CompletedProcess(words, code, shown.getvalue(), errors.getvalue())


@pytest.fixture
def tune_in_process(tmp_path: Path) -> Tune:
    """Run `tune` in an empty folder, in this process."""
    return functools.partial(call_tune, tmp_path)


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
