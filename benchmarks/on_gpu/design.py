"""Which configurations are measured, in which order: what a run cut short has measured is still a whole plane."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

DELAY_MS = 2.0
WANTED = 64  # rows of the table of images, however little time there is
GPU_HOUR, CORE_HOUR, CORES = 3.0, 0.04, 8  # assumed prices; they only weigh slices and cores against each other


@dataclass(frozen=True, order=True)
class Server:
    """What is chosen when a server is launched: its share of the GPU, and its processes."""

    gpu_share: float
    workers: int


@dataclass(frozen=True)
class Configuration:
    """One row. All but the server is told while it runs."""

    server: Server
    threads: int
    precision: str
    batch_size: int


@dataclass(frozen=True)
class Design:
    """The choices of every knob, and which of them go together."""

    servers: tuple[Server, ...]
    threads: tuple[int, ...]
    precisions: tuple[str, ...]
    batches: tuple[int, ...]

    def order(self) -> Iterator[tuple[str, Configuration]]:
        """Model and configuration: images until there are `WANTED`, texts on the whole GPU, then the rest of both."""
        images = [("vision", one) for one in self._configurations()]
        texts = [("encode", one) for one in self._configurations()]
        whole = [one for one in texts if one[1].server == self.servers[0]]
        yield from (*images[:WANTED], *whole, *images[WANTED:], *(one for one in texts if one not in whole))

    def _configurations(self) -> Iterator[Configuration]:
        """Server by server."""
        for server, threads in itertools.product(self.servers, self.threads):
            for precision, batch in itertools.product(self.precisions, self.batches):
                yield Configuration(server, threads, precision, batch)

    @property
    def warm(self) -> str:
        """As the server's --warm takes it; the largest batches first, lest memory is found twice."""
        pairs = itertools.product(self.precisions, sorted(self.batches, reverse=True))
        return ",".join(f"{precision}:{batch}" for precision, batch in pairs)

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the GPU, the smallest first."""
        return tuple(sorted({server.gpu_share for server in self.servers}))

    @property
    def workers(self) -> tuple[int, ...]:
        """Processes of a server."""
        return tuple(sorted({server.workers for server in self.servers}))


def design(*, on_gpu: bool, shares: bool) -> Design:
    """For a GPU whose multiprocessors can be shared (MPS), one that cannot, or no GPU."""
    whole = (Server(1.0, 1), Server(1.0, 2))
    if not on_gpu:
        return Design(whole, (1, 2), ("fp32", "bf16"), (1, 2, 4, 8, 16, 32, 64, 128))
    precisions, batches = ("fp32", "tf32", "fp16", "bf16"), (1, 4, 16, 64)
    if not shares:
        return Design(whole, (1, 4), precisions, batches)
    return Design((*whole, Server(0.25, 1), Server(0.5, 1), Server(0.1, 1)), (4,), precisions, batches)
