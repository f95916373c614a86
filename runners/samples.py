"""What a server used over time: samples of counters, from which any stretch can be judged afterwards."""

from __future__ import annotations

import bisect
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runners.protocol import Usage


@dataclass(frozen=True)
class Sample:
    """One look: seconds of `time.monotonic()`, CPU seconds used so far, memory in use, processes.

    `periods` and `throttled` count the scheduler's periods so far, and those in which the CPU quota was used up (CFS);
    None where no quota is known.
    """

    at: float
    cpu_s: float
    memory_bytes: int
    processes: int
    periods: int | None = None
    throttled: int | None = None


class Samples:
    """Samples in the order of time. One thread may add while others read."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Append."""
        self._samples.append(sample)

    def usage(self, start: float, end: float) -> Usage:
        """Mean cores, peak memory and throttling between two moments; the samples next to them count in."""
        samples = list(self._samples)
        moments = [sample.at for sample in samples]
        first, last = max(0, bisect.bisect_right(moments, start) - 1), bisect.bisect_left(moments, end)
        inside = samples[first : last + 1]
        if end <= start or len(inside) < 2 or start >= inside[-1].at or end <= inside[0].at:
            return Usage()
        begin, finish = max(start, inside[0].at), min(end, inside[-1].at)
        return Usage(
            cpu_cores_mean=(_cpu_at(inside, finish) - _cpu_at(inside, begin)) / (finish - begin),
            memory_peak_bytes=max(sample.memory_bytes for sample in inside),
            throttled_share=_throttled(inside[0], inside[-1]),
        )

    def write(self, path: Path) -> None:
        """All samples as CSV; times count from the first."""
        samples = list(self._samples)
        begin = samples[0].at if samples else 0.0
        lines = ["seconds,cpu_seconds,memory_bytes,processes,throttled_periods"]
        lines += [
            f"{s.at - begin:.3f},{s.cpu_s:.3f},{s.memory_bytes},{s.processes},"
            f"{'' if s.throttled is None else s.throttled}"
            for s in samples
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextlib.contextmanager
def sampling(samples: Samples, look: Callable[[], None], interval_s: float, path: Path) -> Iterator[None]:
    """`look` adds samples, from a thread of its own, for as long as the block runs; then they are written to the path.

    What it raises is a look that failed: an engine may be away, and whether the server lives is asked elsewhere.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            with contextlib.suppress(Exception):
                look()
            done.wait(interval_s)

    thread = threading.Thread(target=watch, name="usage", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(1.0)
        samples.write(path)


def _cpu_at(samples: list[Sample], moment: float) -> float:
    """CPU seconds used until then, between two samples as if used evenly."""
    after = min(max(1, bisect.bisect_left([sample.at for sample in samples], moment)), len(samples) - 1)
    one, two = samples[after - 1], samples[after]
    return one.cpu_s + (two.cpu_s - one.cpu_s) * (moment - one.at) / (two.at - one.at)


def _throttled(first: Sample, last: Sample) -> float | None:
    if first.periods is None or last.periods is None or first.throttled is None or last.throttled is None:
        return None
    periods = last.periods - first.periods
    return (last.throttled - first.throttled) / periods if periods > 0 else None
