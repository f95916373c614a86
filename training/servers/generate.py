"""Examples in files, made by several processes: `python -m training.servers.generate --out DIR --minutes 10`.

A file holds a few hundred examples; the same seed makes the same files, whoever makes them. With `--searching WEIGHTS`
every other file is of what searches with those weights saw, the rest of random policies.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.judge.network import load
from training.servers import families
from training.servers.examples import Batch, examples

BLOCK = 192
_SEARCHED = (1, 2)  # of four files: the same share for each of one or two processes
HELD_OUT = 1_000_000  # seeds from here on are for judging, never for training


def block(
    seed: int, number: int, kinds: dict[str, tuple[families.Draw, float]] | None = None, searching: Path | None = None
) -> Batch:
    """One file's examples."""
    random = np.random.default_rng((seed, number))
    network = None if searching is None else load(searching)
    return examples(random, families.TRAINED if kinds is None else kinds, BLOCK, network)


def _make(seed: int, first: int, every: int, until: float, folder: str, searching: Path | None) -> None:
    number = first
    while time.time() < until:
        path = Path(folder, f"{seed}-{number:06d}.npz")
        if not path.exists():
            new = path.with_suffix(".new.npz")
            np.savez(new, **block(seed, number, searching=searching if number % 4 in _SEARCHED else None).arrays())
            new.replace(path)
        number += every


def start(
    folder: Path, seed: int, minutes: float, processes: int, searching: Path | None = None
) -> list[multiprocessing.process.BaseProcess]:
    """Processes that fill the folder for so long."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each process: read when it begins
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    until = time.time() + 60 * minutes
    started: list[multiprocessing.process.BaseProcess] = []
    for number in range(processes):
        job = (seed, number, processes, until, str(folder), searching)
        started.append(context.Process(target=_make, args=job, daemon=True))
        started[-1].start()
    return started


def read(folder: Path, known: set[str]) -> Iterator[dict[str, NDArray[np.generic]]]:
    """The files that are not yet known, which they then are."""
    for path in sorted(folder.glob("*.npz")):
        if path.name not in known and ".new" not in path.name:
            known.add(path.name)
            with np.load(path) as stored:
                yield {name: stored[name] for name in stored.files}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--searching", type=Path, help="weights of the searches that are watched")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    for process in start(asked.out, asked.seed, asked.minutes, asked.processes, asked.searching):
        process.join()


if __name__ == "__main__":
    main()
