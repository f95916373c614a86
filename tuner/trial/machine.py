"""Where a trial's server runs on this machine, and what was seen of the machine while it was measured."""

from __future__ import annotations

from collections import Counter

from loadtest import Measurement, ServerProcesses
from results import MachineRecord
from runners import Endpoint, RunsHere


def server_processes(endpoint: Endpoint) -> ServerProcesses | None:
    """The server's processes, for the load generator, which watches their cores. None if they run elsewhere or may
    not be seen.
    """
    found = endpoint.processes if isinstance(endpoint, RunsHere) else None
    if found is None or not found.cores:
        return None
    return ServerProcesses(cores=found.cores, pids=found.pids, environ=dict(found.environ))


def machine_record(measurement: Measurement) -> MachineRecord | None:
    """What the trial's record says of the machine; None if nothing could be seen."""
    seen, speed = measurement.neighbours, measurement.machine
    if seen is None:
        return None
    reasons = Counter(
        probe.neighbours.reason
        for probe in measurement.probes
        if probe.neighbours is not None and probe.neighbours.disturbed
    )
    commonest = reasons.most_common(1)[0][0] if reasons else ""
    return MachineRecord(
        server_cores=seen.server_cores,
        others_cores=seen.others_cores,
        stolen_cores=seen.stolen_cores,
        elsewhere_cores=seen.elsewhere_cores,
        generator_cores_shared=seen.generator_cores,
        memory_stalled=seen.slowness.memory_stalled,
        quota_throttled=seen.slowness.quota_throttled,
        disturbed=(seen.reason or commonest) if reasons else "",
        disturbed_probes=reasons.total(),
        work_ms=None if speed is None else speed.work_ms,
        work_error=None if speed is None else speed.work_error,
        copy_ms=None if speed is None else speed.copy_ms,
    )
