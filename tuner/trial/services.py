"""What a trial's record says of each of several services, and of all of them together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from loadtest import BackgroundMeasurement, Interval, Measurement, Probe, TargetMeasurement
from loadtest.histogram import LatencyHistogram
from results import Estimate, ServiceRecord
from runners import Usage
from tuner.trial.server import TrialServer


def estimate(interval: Interval | None) -> Estimate | None:
    """A load test's interval as a record has it."""
    return None if interval is None else Estimate(value=interval.value, low=interval.low, high=interval.high)


def reported_probe(measurement: Measurement) -> int | None:
    """The place of the probe whose latencies are the measurement's."""
    seen = (measurement.best_qps, measurement.best_requests, measurement.p50_ms)
    return next(
        (n for n, one in enumerate(measurement.probes) if (one.rate_qps, one.requests, one.p50_ms) == seen), None
    )


def histogram_of(probes: Sequence[Probe], place: int | None) -> LatencyHistogram:
    """All latencies of one of the probes, which any percentile can be read from; empty where there is no such probe."""
    if place is None or place >= len(probes):
        return LatencyHistogram()
    return LatencyHistogram.decode(probes[place].histogram)


def service_records(
    measurement: Measurement, servers: Sequence[TrialServer], usages: Sequence[Usage],
    bottlenecks: Sequence[str | None],
) -> tuple[ServiceRecord, ...]:  # fmt: skip
    """A record per service; empty for a single service, and if nothing was measured."""
    if not measurement.targets:
        return ()
    targets = {one.name: one for one in measurement.targets}
    background = {one.name: one for one in measurement.background}
    reported = reported_probe(measurement)
    found = []
    for server, usage, bottleneck in zip(servers, usages, bottlenecks, strict=True):
        name = server.service.name
        if server.service.best_effort:
            figures = _best_effort(background.get(name))
        else:
            figures = _judged(targets[name], measurement.capacity_qps, reported)
        found.append(
            ServiceRecord(
                name=name, cpu_cores_used=usage.cpu_cores_mean, memory_peak_bytes=usage.memory_peak_bytes,
                bottleneck=bottleneck, cold_start_s=server.endpoint.cold_start_s, **figures,
            )
        )  # fmt: skip
    return tuple(found)


def _judged(target: TargetMeasurement, capacity: Interval | None, reported: int | None) -> dict[str, Any]:
    latencies = histogram_of(target.probes, reported)
    return {
        "share": target.share,
        "capacity_qps": None if capacity is None else capacity.value * target.share,
        "alone_qps": estimate(target.alone_qps),
        "p50_ms": target.p50_ms,
        "p90_ms": latencies.percentile_ms(90),
        "p95_ms": target.p95_ms,
        "p99_ms": estimate(target.p99_ms),
        "p999_ms": latencies.percentile_ms(99.9),
        "error_rate": target.error_rate,
        "base_latency_ms": target.base_latency_ms,
    }


def _best_effort(one: BackgroundMeasurement | None) -> dict[str, Any]:
    if one is None:
        return {"share": 0.0, "best_effort": True}
    return {
        "share": 0.0,
        "best_effort": True,
        "alone_qps": estimate(one.alone_qps),
        "throughput_qps": estimate(one.throughput_qps),
        "error_rate": one.error_rate,
    }


def best_effort_qps(measurement: Measurement, held_qps: float | None) -> Estimate | None:
    """What all best-effort services together answer per second while the others are loaded: at `held_qps` if that is
    given, else at the highest rate that the others held. None if there are no such services, or no rate held.
    """
    held = [number for number, one in enumerate(measurement.probes) if one.verdict in ("met", "undecided")]
    rates = [one.rate_qps for one in measurement.probes]
    wanted = measurement.best_qps if held_qps is None else held_qps
    if not measurement.background or not held or wanted is None:
        return None
    nearest = min(held, key=lambda number: abs(rates[number] - wanted))
    each = [one.probes_qps[nearest] for one in measurement.background]
    value = sum(one.value for one in each)
    spread = math.sqrt(sum((one.high - one.low) ** 2 for one in each)) / 2
    return Estimate(value=value, low=max(0.0, value - spread), high=value + spread)


def tightest(servers: Sequence[TrialServer], services: Sequence[ServiceRecord]) -> int:
    """The place of the service that is nearest to its limit; 0 if there is only one service."""

    def nearness(number: int) -> float:
        limit_ms, p99 = servers[number].loaded.p99_limit_ms, services[number].p99_ms
        return p99.value / limit_ms if p99 is not None and limit_ms else 0.0

    return max(range(len(services)), key=nearness, default=0)


def interference(measurement: Measurement) -> float | None:
    """The share of their speed that services lose to each other: 1 - R / min(alone_i / share_i). R is the rate that all
    hold together, the minimum the one that they would hold if each did as well beside the others as alone. A negative
    value, which is noise, counts as 0. None if something was not measured.
    """
    alone = [one.alone_qps.value / one.share for one in measurement.targets if one.alone_qps is not None]
    if measurement.capacity_qps is None or not alone or len(alone) < len(measurement.targets):
        return None
    return max(0.0, 1 - measurement.capacity_qps.value / min(alone))


def used_by_all(usages: Sequence[Usage]) -> Usage:
    """What several servers used together. A GPU that they share is seen whole by each."""

    def highest(name: str) -> Any:
        return max((value for one in usages if (value := getattr(one, name)) is not None), default=None)

    def total(name: str) -> Any:
        found = [getattr(one, name) for one in usages]
        return None if None in found else sum(found)

    return Usage(
        cpu_cores_mean=total("cpu_cores_mean"),
        memory_peak_bytes=total("memory_peak_bytes"),
        throttled_share=highest("throttled_share"),
        gpu_utilization=highest("gpu_utilization"),
        gpu_memory_peak_bytes=highest("gpu_memory_peak_bytes"),
        gpu_power_w=highest("gpu_power_w"),
        gpu_clock_mhz=highest("gpu_clock_mhz"),
        gpu_throttling=tuple(dict.fromkeys(why for one in usages for why in one.gpu_throttling)),
    )
