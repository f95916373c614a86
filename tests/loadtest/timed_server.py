"""A real HTTP server whose queueing is known: M/D/1 under Poisson arrivals. It answers by timer and costs little CPU.

`--service-ms` is the service time of its one virtual queue; `--mode` makes it do wrong on the wire. It prints its port
when it listens. Only the standard library is imported, so that it starts fast.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import struct

MODES = (
    "ok",
    "close",
    "reset",
    "broken-off",
    "dribble",
    "redirect",
    "hang-after",
    "few-connections",
    "some-500",
    "hints",
    "hints-broken-off",
)
ANSWER = b"\r\nContent-Length: 2\r\n\r\nok"


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.mode, self.service_s, self.after = options.mode, options.service_ms / 1e3, options.after
        self.free_at = 0.0
        self.seen = self.connections = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self.answer(reader, writer):
                await writer.drain()
        writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """False when the connection is done for."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, found, rest = head.partition(b"content-length:")
        if found:
            await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
        self.seen += 1
        loop = asyncio.get_running_loop()
        self.free_at = max(self.free_at, loop.time()) + self.service_s
        await asyncio.sleep(self.free_at - loop.time())
        return await self.write(writer, head)

    async def write(self, writer: asyncio.StreamWriter, head: bytes) -> bool:
        status = b"200 OK"
        if self.mode == "hang-after" and self.seen > self.after:
            await asyncio.sleep(3600)
        if self.mode == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if self.mode in ("close", "reset") or (self.mode == "few-connections" and self.connections > self.after):
            return False
        if self.mode in ("hints", "hints-broken-off"):
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)
        if self.mode in ("broken-off", "dribble", "hints-broken-off"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\nhalf of it")
            while self.mode == "dribble":
                writer.write(b"x")
                await asyncio.sleep(0.1)
            return False
        if self.mode == "redirect" and not head.startswith(b"get /elsewhere"):
            status = b"307 Temporary Redirect\r\nLocation: /elsewhere"
        if self.mode == "some-500" and self.seen % 20 == 0:
            status = b"500 Internal Server Error"
        writer.write(b"HTTP/1.1 " + status + ANSWER)
        return True


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=MODES, default="ok")
    parser.add_argument("--service-ms", type=float, default=5.0)
    parser.add_argument("--after", type=int, default=0, help="requests or connections that are served before it fails")
    server = await asyncio.start_server(Server(parser.parse_args()).handle, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
