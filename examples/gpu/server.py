"""A small inference server with dynamic batching: the standard library and torch, nothing else.

    python server.py --port 8000 --workers 2 --batch-size 16 --batch-delay-ms 2 --precision fp16

POST /vision {"item": 3} answers the class of an image, POST /encode {"item": 3} three numbers of a text's vector;
GET /healthz answers 200 once every worker has its models. PUT /config {"batch_size": 16, "batch_delay_ms": 2,
"precision": "fp16", "threads": 4, "workers": 1} changes these while it runs (507: such a batch does not fit into the
GPU's memory); GET /device tells what each worker holds of the device.

This process takes requests and makes batches; each worker (`worker.py`) is a process with both models. A batch goes to
a free worker when it is full or when its first request has waited for the batch delay.

`--memory-fraction` is the part of the GPU's memory that all workers together may take. For a part of its
multiprocessors set CUDA_MPS_ACTIVE_THREAD_PERCENTAGE (per worker) where CUDA's MPS runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

_MODELS = ("vision", "encode")
_MAX_WAITING = 20_000  # beyond it a server in overload would only answer what nobody waits for any more
_TEXTS = {200: "OK", 400: "Bad Request", 404: "Not Found", 503: "Service Unavailable", 507: "Insufficient Storage"}
Reply = Callable[[int, Any], None]


@dataclass(frozen=True)
class Knobs:
    """What can be changed while it runs."""

    batch_size: int
    batch_delay_ms: float
    precision: str
    threads: int
    workers: int
    models: tuple[str, ...] = _MODELS

    def changed(self, asked: dict[str, Any], max_workers: int) -> Knobs:
        """Raises ValueError for what is no such knob, or out of bounds."""
        if unknown := sorted(set(asked) - set(self.__dataclass_fields__)):
            raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(self.__dataclass_fields__)}")
        new = replace(self, **(asked | ({"models": tuple(asked["models"])} if "models" in asked else {})))
        if not 1 <= new.workers <= max_workers or new.batch_size < 1 or new.batch_delay_ms < 0 or new.threads < 1:
            raise ValueError(f"counts are at least 1, and workers at most {max_workers}, as at the start")
        if new.precision not in ("fp32", "tf32", "fp16", "bf16"):
            raise ValueError(f"precision {new.precision!r} is none of fp32, tf32, fp16, bf16")
        return new


class Worker:
    """A model process, and the socket to it."""

    def __init__(self, options: argparse.Namespace) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable, str(Path(__file__).with_name("worker.py")), "--socket", str(theirs.fileno()),
                    "--device", options.device, "--size", options.size,
                    "--memory-fraction", str(options.memory_fraction / options.workers),
                ],
                pass_fds=[theirs.fileno()],
            )  # fmt: skip
        self._socket, self.busy = ours, False

    async def connect(self) -> None:
        """Once the loop runs."""
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=2**24)

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """One message at a time."""
        text = json.dumps(message).encode()
        try:
            self._writer.write(struct.pack("!I", len(text)) + text)
            (length,) = struct.unpack("!I", await self._reader.readexactly(4))
            answer: dict[str, Any] = json.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return {"error": "the worker is gone", "oom": False}
        return answer


class Batcher:
    """Queues of requests, one per model, and who takes them when."""

    def __init__(self, workers: list[Worker], knobs: Knobs) -> None:
        self.workers, self.knobs = workers, knobs
        self._waiting: dict[str, deque[tuple[float, int, Reply]]] = {model: deque() for model in _MODELS}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._configuring = asyncio.Lock()

    def add(self, model: str, item: int, reply: Reply) -> None:
        """Answered later, through `reply`."""
        queue = self._waiting[model]
        if len(queue) >= _MAX_WAITING:
            reply(503, {"error": "too many are waiting"})
            return
        queue.append((asyncio.get_running_loop().time(), item, reply))
        self._dispatch()

    async def configure(self, knobs: Knobs) -> dict[str, Any]:
        """Between two batches. Where a worker refuses, its answer is returned and the old knobs stay."""
        async with self._configuring:
            while any(worker.busy for worker in self.workers):
                self._idle.clear()
                await self._idle.wait()
            ours = {"precision": knobs.precision, "threads": knobs.threads, "batch_size": knobs.batch_size}
            message = {"configure": ours | {"models": list(knobs.models)}}
            answers = await asyncio.gather(*(worker.ask(message) for worker in self.workers[: knobs.workers]))
            failed = next((answer for answer in answers if "error" in answer), None)
            if failed is None:
                self.knobs = knobs
        self._dispatch()
        return failed or {"workers": answers}

    async def tell(self) -> dict[str, Any]:
        """What each worker holds of the device; waits for its batch."""
        async with self._configuring:
            while any(worker.busy for worker in self.workers):
                self._idle.clear()
                await self._idle.wait()
            return {"workers": await asyncio.gather(*(worker.ask({"tell": "device"}) for worker in self.workers))}

    def _dispatch(self) -> None:
        if self._configuring.locked():
            return
        now, knobs = asyncio.get_running_loop().time(), self.knobs
        for worker in self.workers[: knobs.workers]:
            if worker.busy:
                continue
            model = self._ready(now)
            if model is None:
                break
            queue = self._waiting[model]
            batch = [queue.popleft() for _ in range(min(knobs.batch_size, len(queue)))]
            worker.busy = True
            task = asyncio.get_running_loop().create_task(self._run(worker, model, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _ready(self, now: float) -> str | None:
        """The model whose batch is full or has waited long enough, the longest wait first; else sets the clock."""
        delay_s = self.knobs.batch_delay_ms / 1e3
        oldest = sorted((queue[0][0], model) for model, queue in self._waiting.items() if queue)
        for since, model in oldest:
            if len(self._waiting[model]) >= self.knobs.batch_size or now - since >= delay_s:
                return model
        if oldest and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(oldest[0][0] + delay_s, self._wake)
        return None

    def _wake(self) -> None:
        self._timer = None
        self._dispatch()

    async def _run(self, worker: Worker, model: str, batch: list[tuple[float, int, Reply]]) -> None:
        answer = await worker.ask({"model": model, "items": [item for _, item, _ in batch]})
        worker.busy = False
        self._idle.set()
        if "error" in answer:
            for _, _, reply in batch:
                reply(503, answer)
        else:
            for (_, _, reply), value in zip(batch, answer["answers"], strict=True):
                reply(200, {"answer": value})
        self._dispatch()


class Connection(asyncio.Protocol):
    """HTTP/1.1 with kept-alive connections; one request at a time on each."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher, self._data = batcher, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, rest = self._data.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n")[1:] if line[:15].lower() == b"content-length:"), 0
        )
        if len(rest) < length:
            return
        self._data = rest[length:]
        words = head.split(b" ", 2)
        self._handle(words[0].decode("latin-1"), words[1].decode("latin-1") if len(words) > 1 else "", rest[:length])

    def _handle(self, method: str, path: str, body: bytes) -> None:
        try:
            if method == "POST" and path[1:] in _MODELS:
                self._batcher.add(path[1:], int(json.loads(body)["item"]), self._reply)
            elif path == "/healthz":
                self._reply(200, {"ready": True})
            elif (method, path) == ("PUT", "/config"):
                knobs = self._batcher.knobs.changed(json.loads(body), len(self._batcher.workers))
                self._later(self._batcher.configure(knobs))
            elif path == "/device":
                self._later(self._batcher.tell())
            else:
                self._reply(404, {"error": f"there is no {method} {path}"})
        except (ValueError, KeyError, TypeError) as error:
            self._reply(400, {"error": str(error)})

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)

        def done(finished: asyncio.Task[dict[str, Any]]) -> None:
            answer = finished.result()
            self._reply(200 if "error" not in answer else 507 if answer.get("oom") else 503, answer)

        task.add_done_callback(done)
        self._task = task

    def _reply(self, status: int, content: Any) -> None:
        text = json.dumps(content).encode()
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (status, _TEXTS[status].encode(), len(text), text)
            )


async def serve(options: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT."""
    workers = [Worker(options) for _ in range(options.workers)]
    try:
        for worker in workers:
            await worker.connect()
        knobs = Knobs(
            options.batch_size, options.batch_delay_ms, options.precision, options.threads, options.workers,
            tuple(options.models.split(",")),
        )  # fmt: skip
        batcher = Batcher(workers, knobs)
        answer = await batcher.configure(knobs)
        if "error" in answer:
            sys.exit(f"cannot start: {answer['error']}")
        for precision, size in options.warm:
            await batcher.configure(replace(knobs, precision=precision, batch_size=size))  # too large: said when asked
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        server = await loop.create_server(lambda: Connection(batcher), options.host, options.port, backlog=1024)
        print(f"listening on {options.host}:{options.port} with {len(workers)} workers", flush=True)
        async with server:
            await ended.wait()
    finally:
        for worker in workers:
            worker.process.terminate()


def _warm(text: str) -> list[tuple[str, int]]:
    """`fp16:1,fp16:64` to pairs."""
    return [(one.split(":")[0], int(one.split(":")[1])) for one in text.split(",") if one]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu")
    parser.add_argument("--size", choices=["full", "tiny"], default="full")
    parser.add_argument("--workers", type=int, default=1, help="processes with a model each")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--batch-delay-ms", type=float, default=0.0)
    parser.add_argument("--precision", choices=["fp32", "tf32", "fp16", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU, per worker")
    parser.add_argument("--models", default="vision,encode", help="those that a change of knobs prepares")
    parser.add_argument("--memory-fraction", type=float, default=1.0, help="of the GPU's memory, for all workers")
    parser.add_argument("--warm", type=_warm, default=[], help="precisions and batch sizes to prepare: fp16:1,fp16:64")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
