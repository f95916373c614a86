"""Where the engine is: one that is on another machine is refused, since its containers cannot be loaded from here."""

from __future__ import annotations

import json
import platform
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from runners import RunnerUnavailable
from runners.docker.engine import Engine


@contextmanager
def engine(name: str) -> Iterator[int]:
    """The port of an engine that says of itself what Docker's says, and that it runs on that machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = (
                {"ApiVersion": "1.44"} if self.path.endswith("/version") else {"Name": name, "NCPU": 2, "MemTotal": 1}
            )
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def test_an_engine_of_another_machine_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with engine("another-machine") as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://0.0.0.0:{port}")  # which leads here, and is no address of here alone
        with pytest.raises(RunnerUnavailable, match=r"the Docker engine is on 0\.0\.0\.0") as refused:
            Engine()
        assert 1 <= len(str(refused.value).splitlines()) <= 3


@pytest.mark.parametrize(("name", "host"), [("a-virtual-machine", "127.0.0.1"), (platform.node(), "0.0.0.0")])
def test_an_engine_that_publishes_ports_here_is_taken(monkeypatch: pytest.MonkeyPatch, name: str, host: str) -> None:
    with engine(name) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{host}:{port}")
        with closing(Engine()) as found:
            assert found.is_here is (name == platform.node())
            assert found.cores == (0, 1)
