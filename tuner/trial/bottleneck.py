"""Names what held a configuration back, from what its server used at the highest rate that held."""

from __future__ import annotations

from loadtest import Measurement, Probe
from runners import Resources, Usage

_BUSY = 0.85  # of what was asked for; above it, queueing theory has waiting times grow faster than load


def name_bottleneck(measurement: Measurement, usage: Usage, asked: Resources) -> str | None:
    """`client`, `throttling`, `gpu`, `cpu`, or `wait` if nothing is busy (batches, locks, other services).

    None if nothing was measured that could tell. What neighbours kept from the server it would have used, too.
    """
    if measurement.client_limited:
        return "client"
    if usage.throttled_share is not None and usage.throttled_share > 0.1:
        return "throttling"
    if usage.gpu_utilization is not None and usage.gpu_utilization > _BUSY:
        return "gpu"
    if usage.cpu_cores_mean is None or asked.cpu_cores is None:
        return None
    held = reported_probe(measurement)
    lost_cores = 0.0 if held is None or held.neighbours is None else held.neighbours.lost_cores
    if usage.cpu_cores_mean + lost_cores > _BUSY * asked.cpu_cores:
        return "cpu"
    return None if held is None else "wait"  # where nothing held, its mean is over the pauses of the load, too


def reported_probe(measurement: Measurement) -> Probe | None:
    """The probe whose latencies are reported, or else the one that held the highest rate; of several the one that held
    surely, and for the longest time. None where no rate held.
    """

    def order(one: Probe) -> tuple[bool, bool, float, float]:
        return one.rate_qps == measurement.best_qps, one.verdict == "met", one.rate_qps, one.duration_s

    held = [one for one in measurement.probes if one.verdict == "met" or _is_reported(one, measurement)]
    return max(held, key=order, default=None)


def _is_reported(probe: Probe, measurement: Measurement) -> bool:
    return probe.rate_qps == measurement.best_qps and probe.verdict == "undecided"
