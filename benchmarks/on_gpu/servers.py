"""Starts `examples/gpu/server.py`, several at the same time, and ends what it started."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.on_gpu.run import PYTHON, ROOT, environment

SERVER = ROOT / "examples" / "gpu" / "server.py"


@dataclass(frozen=True)
class Launched:
    """A server's process, which may not answer yet."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def answers(self) -> bool:
        """Whether it is ready. Raises RuntimeError, with the end of its log, where it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the server ended with code {self.process.returncode}: {self.last_words()}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def last_words(self) -> str:
        """The last line that it printed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it printed nothing")


@contextlib.contextmanager
def launched(arguments: list[str], folder: Path, name: str, env: Mapping[str, str]) -> Iterator[Launched]:
    """Started, and ended with the block. Its log is `NAME.log` in the folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [PYTHON, str(SERVER), "--port", str(port), *arguments],
            stdout=file, stderr=subprocess.STDOUT, env={**environment(), **env}, start_new_session=True,
        )  # fmt: skip
    try:
        yield Launched(port, process, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
