"""A real HTTP server that behaves as one of `benchmarks.truth.models`. It answers by timer, so it costs little CPU.

Prints its port; ends when standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable

from benchmarks.truth import models
from benchmarks.truth.server import ANSWER, at


class _Clock:
    """asyncio's, but what is due is told the moment at which it was, so that a late timer delays nothing else."""

    def at(self, moment: float, call: Callable[[float], None]) -> None:
        """See `models.Clock`."""
        at(moment, call, moment)


class _Connection(asyncio.Protocol):
    """Counts blank lines: requests have no body here."""

    def __init__(self, model: models.Model) -> None:
        self._model = model

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        now = asyncio.get_running_loop().time()
        for _ in range(data.count(b"\r\n\r\n")):
            self._model.take(now, lambda _: self._transport.write(ANSWER))


async def _serve(kind: str, speed: float, seed: int) -> None:
    loop = asyncio.get_running_loop()
    model = models.make(kind, speed, _Clock(), seed)
    server = await loop.create_server(lambda: _Connection(model), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=models.KINDS, default="constant")
    parser.add_argument("--speed", type=float, default=50.0, help="requests a second, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--core", type=int)
    asked = parser.parse_args()
    if asked.core is not None:
        os.sched_setaffinity(0, {asked.core})
    asyncio.run(_serve(asked.kind, asked.speed, asked.seed))


if __name__ == "__main__":
    main()
