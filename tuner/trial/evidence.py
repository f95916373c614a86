"""What a trial's figures rest on, from the files that its launch and its load test left in its folder."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtest import LatencyHistogram, Measurement, Probe
from results import ProbeRecord, TrialEvidence, UsageSample
from tuner.trial.services import estimate

_STEP = 1.1  # from one latency to the next in a histogram: finer than anybody sees
_MAX_SAMPLES, _STEP_S = 120, 1.0  # the kernel counts CPU time in steps: over less than that it jumps
_GROWS, _MIN_GROWTH = 0.05, 16 * 2**20  # of the memory in use, and in bytes: less is the allocator's breathing
_WATCHED_S = 10.0


def gather(servers: Sequence[tuple[Path, float]], measurement: Measurement | None) -> TrialEvidence:
    """Probes, and at most 120 samples of what was used: by all servers together, each with its folder and when its
    launch began: a chain's entry is the first of them, and is launched last. Whatever is missing there is left out.
    """
    probes = () if measurement is None else tuple(map(_probe, measurement.probes))
    first, used = min((begun for _, begun in servers), default=0.0), []
    for folder, begun in servers:
        samples = _usage(folder / "usage.csv")
        used.append([one.model_copy(update={"at_s": one.at_s + begun - first}) for one in samples])
    return TrialEvidence(probes=probes, usage=tuple(_together(used)))


def _together(used: Sequence[Sequence[UsageSample]]) -> Iterator[UsageSample]:
    """The use of all servers at the moments of the first one's samples, with the latest sample of each other one."""
    for sample in used[0] if used else ():
        others = [[one for one in other if one.at_s <= sample.at_s][-1:] for other in used[1:]]
        known = [sample, *itertools.chain.from_iterable(others)]
        yield UsageSample(
            at_s=sample.at_s,
            cpu_cores=sum(one.cpu_cores for one in known),
            memory_bytes=sum(one.memory_bytes for one in known),
        )


def memory_growth(samples: Sequence[UsageSample], since_s: float) -> float | None:
    """The bytes per second by which memory surely grew from then on: the lower end of the 95% interval of the slope
    (Theil and Sen's, which a few jumps do not move). None if it did not grow, or grew by less than a twentieth and
    16 MiB in all that time, or was watched for less than ten seconds.
    """
    from scipy.stats import theilslopes

    under_load = [one for one in samples if one.at_s >= since_s]
    if len(under_load) < 8 or under_load[-1].at_s - under_load[0].at_s < _WATCHED_S:
        return None
    times, sizes = [one.at_s for one in under_load], [float(one.memory_bytes) for one in under_load]
    _, _, low, _ = theilslopes(sizes, times)
    enough = low * (times[-1] - times[0]) > max(_GROWS * sizes[0], _MIN_GROWTH)
    return float(low) if enough and math.isfinite(low) else None


def _probe(probe: Probe) -> ProbeRecord:
    histogram = LatencyHistogram.decode(probe.histogram)
    return ProbeRecord(
        rate_qps=probe.rate_qps,
        verdict=probe.verdict,
        reason=probe.reason,
        started_s=probe.started_s,
        duration_s=probe.duration_s,
        requests=probe.requests,
        misses=probe.misses,
        errors=probe.errors,
        p50_ms=probe.p50_ms,
        p90_ms=histogram.percentile_ms(90),
        p95_ms=probe.p95_ms,
        p99_ms=estimate(probe.p99_ms),
        p999_ms=histogram.percentile_ms(99.9),
        disturbed="" if probe.neighbours is None else probe.neighbours.reason,
        histogram=tuple(histogram.counts_ms(_STEP)),
    )


def _usage(path: Path) -> tuple[UsageSample, ...]:
    """The mean cores between the samples that are kept, and the memory at each."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                (float(r["seconds"]), float(r["cpu_seconds"]), int(r["memory_bytes"])) for r in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError):
        return ()
    span = rows[-1][0] - rows[0][0] if rows else 0.0
    every = max(1, math.ceil(len(rows) * max(1 / _MAX_SAMPLES, min(1.0, _STEP_S / span) if span else 1.0)))
    kept = rows[::every]
    return tuple(
        UsageSample(at_s=at, cpu_cores=max(0.0, (cpu - before_cpu) / (at - before)), memory_bytes=memory)
        for (before, before_cpu, _), (at, cpu, memory) in itertools.pairwise(kept)
        if at > before
    )
