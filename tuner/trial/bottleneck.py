"""Names what held a configuration back, from what its server used at the highest rate that held."""

from __future__ import annotations

from loadtest import Measurement
from runners import Resources, Usage

_BUSY = 0.85  # of what was asked for; above it, queueing theory has waiting times grow faster than load


def name_bottleneck(measurement: Measurement, usage: Usage, asked: Resources) -> str | None:
    """`client`, `throttling`, `gpu`, `cpu`, or `wait` if nothing is busy (batches, locks, other services).

    None if nothing was measured that could tell.
    """
    if measurement.client_limited:
        return "client"
    if usage.throttled_share is not None and usage.throttled_share > 0.1:
        return "throttling"
    if usage.gpu_utilization is not None and usage.gpu_utilization > _BUSY:
        return "gpu"
    if usage.cpu_cores_mean is None or asked.cpu_cores is None:
        return None
    return "cpu" if usage.cpu_cores_mean > _BUSY * asked.cpu_cores else "wait"
