"""A server that is there already is measured, told what it can be told, and left as it was found."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runners import Container, Infeasible, Placement, SampleRequest, ServerFailed
from runners.attach import AttachRunner
from runners.host.ports import Ports
from runners.remote import WrongUrl, address_of
from runners.testing import RunnerCase, RunnerContract
from tests.conftest import SERVER
from tests.runners.support import container, listens

pytestmark = pytest.mark.usefixtures("needs_machine")


@contextlib.contextmanager
def serving(mode: str = "ok") -> Iterator[tuple[AttachRunner, subprocess.Popen[bytes]]]:
    """Somebody's server, and a runner that is attached to it."""
    port = Ports().take()
    with subprocess.Popen(
        [sys.executable, SERVER, "--port", str(port), "--mode", mode], stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield AttachRunner(address_of(f"http://127.0.0.1:{port}")), server
        finally:
            server.kill()


def failing(placement: Placement, folder: Path) -> Container:
    """Its real request is answered with 404 or the like: what is asked is not there."""
    made = container(placement, folder, timeout_s=1.0)
    return replace(made, readiness=replace(made.readiness, request=SampleRequest("POST", "/predict", good=(418,))))


def impossible(placement: Placement, folder: Path) -> Container:
    def prepare(_url: str, container: Container) -> SampleRequest | None:
        assert container.running
        raise Infeasible("out of memory, it answered")

    return replace(container(placement, folder), prepare=prepare)


class TestAttachRunnerContract(RunnerContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> Iterator[RunnerCase]:
        with serving() as (attached, server):
            yield RunnerCase(attached, container, failing, impossible, listens, tmp_path, stays=True)
            assert server.poll() is None


def test_a_server_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    with serving() as (attached, server):
        with attached.launch(container(attached.place(tmp_path), tmp_path)) as endpoint:
            assert "there already" in endpoint.notes[0]
            endpoint.check()
            server.kill()
            server.wait()
            deadline = time.monotonic() + 10
            with pytest.raises(ServerFailed, match=r"nothing listens at http://127\.0\.0\.1:"):
                while time.monotonic() < deadline:
                    endpoint.check()
                    time.sleep(0.1)
        gone = container(attached.place(tmp_path), tmp_path, timeout_s=0.5)
        with pytest.raises(ServerFailed, match="connection refused"), attached.launch(gone):
            pass


def test_one_server_runs_one_configuration_at_a_time(tmp_path: Path) -> None:
    with serving() as (attached, _):
        at_once, most = 0, 0
        lock = threading.Lock()

        def trial() -> None:
            nonlocal at_once, most
            with attached.launch(container(attached.place(tmp_path), tmp_path)):
                with lock:
                    at_once += 1
                    most = max(most, at_once)
                time.sleep(0.2)
                with lock:
                    at_once -= 1

        threads = [threading.Thread(target=trial) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("10.0.0.7:8000", "is not a URL such as"),
        ("ftp://host", "is not a URL such as"),
        ("http://host:99999", "is not a URL"),
        ("http://host:8000/v1", "has a path"),
        ("http://user:secret@host", "holds a user or a password"),
    ],
)
def test_what_is_no_servers_address_is_refused_and_no_secret_is_repeated(url: str, reason: str) -> None:
    with pytest.raises(WrongUrl, match=reason) as caught:
        address_of(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "plain", "port"), [("http://h", "http://h:80", 80), ("https://[::1]/", "https://[::1]:443", 443)]
)
def test_an_address_is_complete(url: str, plain: str, port: int) -> None:
    assert (address_of(url).url, address_of(url).port) == (plain, port)
