"""A small real server that computes: it burns `--work-ms` of processor time on every request, one after the other.

Beside it, unlike beside `misbehaving.py`, another server on the same core is slower. Only the standard library is
imported.
"""

from __future__ import annotations

import argparse
import asyncio
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def handle(work_s: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            await reader.readexactly(next((int(one.split(b":")[1]) for one in lines if b"content-length" in one), 0))
            if b" /healthz " not in head:
                until = time.thread_time() + work_s
                while time.thread_time() < until:
                    pass
            writer.write(ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--work-ms", type=float, default=5.0)
    options = parser.parse_args()
    server = await asyncio.start_server(
        lambda reader, writer: handle(options.work_ms / 1e3, reader, writer), "127.0.0.1", options.port
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
