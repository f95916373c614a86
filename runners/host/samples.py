"""What a server used over time: samples of counters, from which any stretch can be judged afterwards."""

from __future__ import annotations

import bisect
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.host.gpu import GpuLook
from runners.protocol import Usage

_OFTEN = 0.1


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
    gpu: GpuLook | None = None


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
            **_gpu([sample.gpu for sample in inside if sample.gpu is not None]),
        )

    def write(self, path: Path) -> None:
        """All samples as CSV; times count from the first."""
        samples = list(self._samples)
        begin = samples[0].at if samples else 0.0
        lines = [
            "seconds,cpu_seconds,memory_bytes,processes,throttled_periods,gpu_utilization,gpu_memory_bytes,gpu_power_w,"
            "gpu_clock_mhz"
        ]
        lines += [
            f"{s.at - begin:.3f},{s.cpu_s:.3f},{s.memory_bytes},{s.processes},"
            f"{'' if s.throttled is None else s.throttled},{_gpu_columns(s.gpu)}"
            for s in samples
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextlib.contextmanager
def sampling(samples: Samples, look: Callable[[], None], interval_s: float, path: Path) -> Iterator[None]:
    """Take samples with `look`, in a thread of its own, for as long as the block runs; then write them to the path.

    A look that raises is skipped: an engine may be away, and whether the server lives is checked elsewhere.
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


def _gpu_columns(look: GpuLook | None) -> str:
    values = (look.utilization, look.memory_bytes, look.power_w, look.clock_mhz) if look else (None,) * 4
    return ",".join(
        "" if value is None else f"{value:g}" if isinstance(value, float) else str(value) for value in values
    )


def _gpu(looks: list[GpuLook]) -> dict[str, Any]:
    """The figures of the GPUs for a `Usage`: means over time, except for memory, of which it is the maximum."""
    reasons = Counter(reason for look in looks for reason in look.throttled)
    memory = [look.memory_bytes for look in looks if look.memory_bytes is not None]
    return {
        "gpu_utilization": _mean(look.utilization for look in looks),
        "gpu_memory_peak_bytes": max(memory, default=None),
        "gpu_power_w": _mean(look.power_w for look in looks),
        "gpu_clock_mhz": _mean(look.clock_mhz for look in looks),
        "gpu_throttling": tuple(sorted(one for one, count in reasons.items() if count >= _OFTEN * len(looks))),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


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
