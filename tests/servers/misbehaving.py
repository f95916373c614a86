"""A small real server for the tests, which can also do wrong what real servers do wrong.

`--mode ok` answers POST /predict after `--service-ms`, `--workers` requests at a time (the others wait in line), and
GET /healthz. The line is kept by a timer, so the server costs little CPU and its capacity is known: workers / service
time. Servers with the same `--device` FILE stand in one common line instead, as models on one GPU do. Only the standard
library is imported, so that it starts fast.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
import time

MODES = (
    "ok", "exit", "never-ready", "ready-but-500", "error-500", "hang", "hang-under-load", "die-under-load",
    "eat-memory", "ignore-sigterm", "orphan-child", "daemon", "slow-start", "late-health", "trickle",
    "children-at-work", "fork-storm", "lose-parent", "ever-slower", "flood-log", "fill-disk", "endless-headers",
    "changing-answers", "scatter",
)  # fmt: skip
CHANGES = (
    ("200 OK", b'{"ok": true}'), ("200 OK", b"<html>not what it was</html>"), ("503 Busy", b'{"error": "busy"}'),
    ("200 OK", b"\xff\xfe\x00" * 1000), ("204 No Content", b""),
)  # fmt: skip


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.mode, self.service_s = options.mode, options.service_ms / 1e3
        self.free_at = [0.0] * options.workers
        self.device = None if options.device is None else Device(options.device)
        self.answered, self.busy, self.first_at = 0, 0, 0.0
        self.hoard: list[bytearray] = []
        self.healthy_from = time.monotonic() + (1.0 if self.mode == "late-health" else 0.0)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
                if length:
                    await reader.readexactly(length)
                path = head.split(b" ")[1].decode()
                status, body = await (self.health() if path == "/healthz" else self.predict())
                if self.mode == "trickle" and path != "/healthz":
                    await trickle(writer)
                if self.mode == "endless-headers" and path != "/healthz" and self.answered > 30:
                    await endless_headers(writer)
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def health(self) -> tuple[str, bytes]:
        loading = self.mode == "never-ready" or time.monotonic() < self.healthy_from
        return ("503 Loading", b"loading") if loading else ("200 OK", b"ok")

    async def predict(self) -> tuple[str, bytes]:
        self.answered += 1
        under_load = self.answered > 60
        if self.mode == "ready-but-500" or (self.mode == "error-500" and self.answered > 1):
            return "500 Internal Server Error", b"the model is \x1b[31mbroken\x1b[0m <b>here</b>"
        if self.mode in ("hang", "lose-parent") or (self.mode == "hang-under-load" and under_load):
            await asyncio.sleep(3600)
        if self.mode == "die-under-load" and under_load:
            print("about to die", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mode == "eat-memory" and self.answered > 1:
            self.hoard.append(bytearray(os.urandom(1) * (16 * 2**20)))
        now = asyncio.get_running_loop().time()
        if self.mode == "changing-answers" and self.answered > 30:
            await asyncio.sleep(self.service_s)
            return CHANGES[self.answered % len(CHANGES)]
        if self.mode == "ever-slower":
            await self.grow_slower(now)
            return "200 OK", b'{"ok": true}'
        if self.device is not None:
            await asyncio.sleep(self.device.wait_s(self.service_s))
            return "200 OK", b'{"ok": true}'
        slot = min(range(len(self.free_at)), key=lambda index: self.free_at[index])
        self.free_at[slot] = max(self.free_at[slot], now) + self.service_s
        await asyncio.sleep(self.free_at[slot] - now)
        return "200 OK", b'{"ok": true}'

    async def grow_slower(self, now: float) -> None:
        """From the first request that meets another: however long the lone ones took, the warm-up sees it."""
        self.busy += 1
        if self.busy > 1:
            self.first_at = self.first_at or now
        await asyncio.sleep(min(0.15, 0.005 * 2.7 ** (now - (self.first_at or now))))
        self.busy -= 1


class Device:
    """A line that several processes stand in: when it is free again, on the machine's common clock."""

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_RDWR | os.O_CREAT)
        os.ftruncate(self.file, 8)
        self.free_at = mmap.mmap(self.file, 8)

    def wait_s(self, service_s: float) -> float:
        fcntl.flock(self.file, fcntl.LOCK_EX)
        try:
            now = time.monotonic()
            before: float = struct.unpack("d", self.free_at[:8])[0]
            free_at = max(before, now) + service_s
            self.free_at[:8] = struct.pack("d", free_at)
        finally:
            fcntl.flock(self.file, fcntl.LOCK_UN)
        return free_at - now


async def trickle(writer: asyncio.StreamWriter) -> None:
    """An answer that never ends, and never pauses long either."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.1)


async def endless_headers(writer: asyncio.StreamWriter) -> None:
    """A line of the heading after the other, as fast as they are read."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 4000 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)


def flood() -> None:
    """A log as fast as it can be written."""
    line = b"z" * 8191 + b"\n"
    while True:
        os.write(1, line)


def fill(folder: str) -> None:
    """A file that grows until the disk is full, and again when there is room."""
    with open(os.path.join(folder, "filler"), "ab", buffering=0) as file:  # noqa: PTH118, PTH123
        while True:
            try:
                file.write(b"x" * 65_536)
            except OSError:
                time.sleep(0.05)


def scatter() -> None:
    """Daemons, each in a session of its own and nobody's child, which ignore what is meant to end them."""
    for _ in range(8):
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(600)
            os._exit(0)
        os.wait()


def storm() -> None:
    """Processes that each start the next in a session of its own, and live for a tenth of a second."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(5):
        if os.fork() == 0:
            while os.fork() == 0:
                os.setsid()
                time.sleep(0.1)
            os._exit(0)


async def serve(options: argparse.Namespace) -> None:
    server = await asyncio.start_server(Server(options).handle, options.host, options.port, backlog=1024)
    print(f"listening on {options.port}", flush=True)
    await server.serve_forever()


def misbehave_at_start(mode: str) -> None:
    begun = {"fork-storm": storm, "scatter": scatter}
    if mode in begun:
        begun[mode]()
    if mode == "exit":
        print("error: no model here", file=sys.stderr)
        sys.exit(3)
    if mode == "slow-start":
        time.sleep(1.0)
    if mode == "ignore-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "orphan-child" and os.fork():
        # The parent ends on SIGTERM; the child, which serves, is in a session of its own and ignores it.
        signal.pause()
    elif mode == "orphan-child":
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "children-at-work":
        # One short-lived child after the other keeps a core busy; none lives long enough to be looked at.
        work = [sys.executable, "-S", "-E", "-c", "for _ in range(500000): pass"]
        threading.Thread(target=lambda: [subprocess.run(work, check=False) for _ in iter(int, 1)], daemon=True).start()
    if mode == "lose-parent" and os.fork():
        time.sleep(0.7)
        os._exit(5)
    if mode == "daemon":
        if os.fork():
            time.sleep(0.1)
            os._exit(0)
        os.setsid()
        if os.fork():
            os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--mode", choices=MODES, default="ok")
    parser.add_argument("--service-ms", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device")
    parser.add_argument("--fill", default=".")
    options = parser.parse_args()
    misbehave_at_start(options.mode)
    if options.mode == "flood-log":
        threading.Thread(target=flood, daemon=True).start()
    if options.mode == "fill-disk":
        threading.Thread(target=fill, args=(options.fill,), daemon=True).start()
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
