"""The servers of examples/chain for its benchmark: launched, asked by users in turns, and timed."""

from __future__ import annotations

import http.client
import json
import os
import queue
import random
import socket
import statistics
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

EXAMPLE = Path(__file__).parent.parent / "examples" / "chain"
PYTHON = EXAMPLE / ".venv" / "bin" / "python"
_READY_S = 60.0


@dataclass(frozen=True)
class Standing:
    """A server that answers at `url`; all of its processes' ids."""

    url: str
    processes: tuple[int, ...]

    def cpu_s(self) -> float:
        """The CPU time of all of them so far."""
        spent = 0
        for pid in self.processes:
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()
            spent += int(fields[11]) + int(fields[12])
        return spent / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Spent:
    """What one round showed of one server."""

    qps: float
    p99_ms: float
    cpu_ms: float


def images() -> list[bytes]:
    """The example's requests."""
    return [one.read_bytes() for one in sorted((EXAMPLE / "made" / "images").iterdir())]


def launched(stack: ExitStack, stage: str, following: str | None, threads: int = 1, **flags: int) -> Standing:
    """One process of the example, ready; the stack ends it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(PYTHON), "serve.py", "--stage", stage, "--port", str(port)]
    command += [] if following is None else ["--next", following]
    command += [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    server = subprocess.Popen(command, cwd=EXAMPLE, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    stack.callback(server.wait)
    stack.callback(server.terminate)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + _READY_S
    while True:
        try:
            times(url)
        except urllib.error.URLError:
            if time.monotonic() > end or server.poll() is not None:
                raise
            time.sleep(0.1)
        else:
            return Standing(url, (server.pid,))


def times(url: str) -> dict[str, float]:
    """What the process there says of its requests."""
    with urllib.request.urlopen(f"{url}/times", timeout=10) as answer:
        found: dict[str, float] = json.load(answer)
        return found


def in_turns(
    servers: Mapping[str, Standing], rounds: int, seconds: float, users: int, seed: int
) -> dict[str, list[Spent]]:
    """What each showed in each round."""
    generator, found = random.Random(seed), {name: list[Spent]() for name in servers}
    for server in servers.values():
        _asked(server, 1.0, users)  # warm-up
    for _ in range(rounds):
        for name in generator.sample(list(servers), len(servers)):
            found[name].append(_asked(servers[name], seconds, users))
    return found


def _asked(server: Standing, seconds: float, users: int) -> Spent:
    """Users who each ask again as soon as they have an answer."""
    bodies, where, found = images(), urlsplit(server.url), list[float]()
    end = time.monotonic() + seconds

    def user(generator: random.Random) -> None:
        connection = _connected(where.hostname or "", where.port)
        while time.monotonic() < end:
            found.append(_asked_once(connection, generator.choice(bodies)))
        connection.close()

    threads = [threading.Thread(target=user, args=(random.Random(number),)) for number in range(users)]
    begun, before = time.monotonic(), server.cpu_s()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed_s, cpu_s = time.monotonic() - begun, server.cpu_s() - before
    p99_ms = statistics.quantiles(found, n=100)[98]
    return Spent(len(found) / passed_s, p99_ms, 1e3 * cpu_s / len(found))


def mean_ms(url: str, bodies: list[bytes], rate_qps: float, seconds: float, seed: int) -> tuple[float, int]:
    """The mean time of Poisson requests, a thread for each, and how many there were."""
    generator, found, threads = random.Random(seed), list[float](), list[threading.Thread]()
    idle: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
    where = urlsplit(url)

    def ask(body: bytes) -> None:
        try:
            connection = idle.get_nowait()
        except queue.Empty:
            connection = _connected(where.hostname or "", where.port)
        found.append(_asked_once(connection, body))
        idle.put(connection)

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        threads.append(threading.Thread(target=ask, args=(generator.choice(bodies),)))
        threads[-1].start()
        time.sleep(generator.expovariate(rate_qps))
    for thread in threads:
        thread.join()
    return statistics.mean(found), len(found)


def _connected(host: str, port: int | None) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(host, port, timeout=_READY_S)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _asked_once(connection: http.client.HTTPConnection, body: bytes) -> float:
    """The time of one request, in milliseconds."""
    begun = time.perf_counter()
    connection.request("POST", "/", body)
    answer = connection.getresponse()
    answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise RuntimeError(f"the server answered {answer.status}")
    return 1e3 * (time.perf_counter() - begun)
