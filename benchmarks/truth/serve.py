"""A real HTTP server that behaves as one of `benchmarks.truth.models`. It answers by timer, so it costs little CPU.

Prints its port; ends when standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable

from benchmarks.truth import models
from benchmarks.truth.server import Connection, at

# What OpenAI's completions answer: other tools read it, and ours reads anything.
_BODY = json.dumps({
    "id": "1", "object": "text_completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "text": "a", "finish_reason": "length"}],
    "usage": {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5},
}).encode()  # fmt: skip
_HEAD = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n\r\n".encode()
ANSWER = _HEAD + _BODY


class _Clock:
    """asyncio's, but what is due is told the moment at which it was, so that a late timer delays nothing else."""

    def at(self, moment: float, call: Callable[[float], None]) -> None:
        """See `models.Clock`."""
        at(moment, call, moment)


async def _serve(kind: str, speed: float, seed: int) -> None:
    loop = asyncio.get_running_loop()
    model = models.make(kind, speed, _Clock(), seed)

    def take(now: float, transport: asyncio.Transport) -> None:
        model.take(now, lambda _: transport.write(ANSWER))

    server = await loop.create_server(lambda: Connection(take), "127.0.0.1", 0, backlog=4096)
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
