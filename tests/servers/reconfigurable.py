"""A small real server that can be told something while it runs, and whose answers depend on how it was started.

POST /predict {"x": 3} answers {"y": 6, "slots": 1}: after `--service-ms`, as many at a time as it was told by PUT
/config {"slots": 2}. Started with --precision int8, y is off by a half. Only the standard library is imported.
"""

from __future__ import annotations

import argparse
import asyncio
import json


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.off = 0.5 if options.precision == "int8" else 0.0
        self.service_s, self.free_at = options.service_ms / 1e3, [0.0]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
                body = await reader.readexactly(length) if length else b""
                path = head.split(b" ")[1].decode()
                status, answer = await self.answer(path, body)
                text = json.dumps(answer).encode()
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def answer(self, path: str, body: bytes) -> tuple[str, object]:
        if path == "/healthz":
            return "200 OK", "ok"
        if path == "/config":
            slots = json.loads(body)["slots"]
            if not isinstance(slots, int) or not 0 < slots <= 8:
                return "422 Unprocessable", f"slots must be from 1 to 8, not {slots!r}"
            self.free_at = [0.0] * slots
            print(f"told: {slots} slots", flush=True)
            return "200 OK", "told"
        now = asyncio.get_running_loop().time()
        slot = min(range(len(self.free_at)), key=lambda index: self.free_at[index])
        self.free_at[slot] = max(self.free_at[slot], now) + self.service_s
        await asyncio.sleep(self.free_at[slot] - now)
        return "200 OK", {"y": 2 * json.loads(body)["x"] + self.off, "slots": len(self.free_at)}


async def serve(options: argparse.Namespace) -> None:
    server = await asyncio.start_server(Server(options).handle, "127.0.0.1", options.port, backlog=1024)
    print(f"started with {options.precision}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--service-ms", type=float, default=10.0)
    parser.add_argument("--precision", default="fp32")
    asyncio.run(serve(parser.parse_args()))
