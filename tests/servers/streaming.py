"""A real server that streams answers as a language model's does, with gaps that are known.

POST /v1/completions answers `max_tokens` events of one token each (8 where the request names none): the first after
`--ttft-ms`, the others `--gap-ms` apart, and one of them after `--stall-ms` where that is given. `usage` closes the
stream, with the words of the prompt as its tokens. Every `--hang-every`-th answer never comes, and every
`--long-every`-th has forty times as many tokens.
With `--spin N`, so many processes keep a core busy each, wherever they may run. GET /metrics counts as vLLM's prefix
cache does, which POST /reset_prefix_cache empties. Only the standard library is imported.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.seen: set[tuple[str, ...]] = set()
        self.queries = self.hits = self.answered = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
                body = await reader.readexactly(length) if length else b""
                if head.startswith(b"POST /reset_prefix_cache "):
                    self.seen.clear()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                elif head.startswith(b"GET"):
                    text = self.metrics() if b" /metrics " in head else b"ok"
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
                else:
                    await self.stream(json.loads(body or b"{}"), writer)
                await writer.drain()
        writer.close()

    async def stream(self, asked: dict[str, object], writer: asyncio.StreamWriter) -> None:
        options, loop = self.options, asyncio.get_running_loop()
        count, words = int(str(asked.get("max_tokens", 8))), str(asked.get("prompt", "")).split()
        self.count_cache(words)
        self.answered += 1
        writer.write(HEAD)
        if options.hang_every and self.answered % options.hang_every == 0:
            await asyncio.sleep(3600)
        if options.long_every and self.answered % options.long_every == 0:
            count *= 40
        due = loop.time() + options.ttft_ms / 1e3
        for number in range(count):
            if number:
                due += (options.stall_ms if options.stall_ms and number == count // 2 else options.gap_ms) / 1e3
            await asyncio.sleep(due - loop.time())
            finish = "length" if number == count - 1 else None
            event(writer, {"choices": [{"index": 0, "text": " token", "finish_reason": finish}]})
        event(writer, {"choices": [], "usage": {"completion_tokens": count, "prompt_tokens": len(words)}})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def count_cache(self, words: list[str]) -> None:
        """Blocks of 16 words that a prompt begins with, as an engine with a prefix cache counts them."""
        self.queries += len(words)
        for end in range(16, len(words) + 1, 16):
            block = tuple(words[:end])
            self.hits += 16 * (block in self.seen)
            self.seen.add(block)

    def metrics(self) -> bytes:
        counted = (
            ("vllm:request_success_total", self.answered),
            ("vllm:prefix_cache_queries_total", self.queries),
            ("vllm:prefix_cache_hits_total", self.hits),
        )
        return "".join(f'{name}{{model_name="m"}} {value}\n' for name, value in counted).encode()


def event(writer: asyncio.StreamWriter, value: object) -> None:
    text = b"data: " + json.dumps(value).encode() + b"\n\n"
    writer.write(b"%x\r\n" % len(text) + text + b"\r\n")


def spin() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        sum(range(100_000))


async def serve(options: argparse.Namespace) -> None:
    server = await asyncio.start_server(Server(options).handle, "127.0.0.1", options.port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft-ms", type=float, default=20.0)
    parser.add_argument("--gap-ms", type=float, default=10.0)
    parser.add_argument("--stall-ms", type=float, default=0.0)
    parser.add_argument("--hang-every", type=int, default=0)
    parser.add_argument("--long-every", type=int, default=0)
    parser.add_argument("--spin", type=int, default=0)
    given = parser.parse_args()
    for _ in range(given.spin):
        if os.fork() == 0:
            spin()
            os._exit(0)
    asyncio.run(serve(given))
