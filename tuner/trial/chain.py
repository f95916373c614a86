"""How a chain of services is loaded, and where the time goes in it: what each stage takes of a request itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from loadtest import LoadPlan, Measurement, Stage, StageTimes
from results import ChainRecord, StageRecord
from runners import Endpoint, ReachedInside, Usage
from tuner.spec.chain import Chain
from tuner.spec.runner import RunnerSpec
from tuner.trial.server import TrialServer

_STAGES_SHARE, _STAGES_S = 1 / 3, 20.0  # of a trial's load, for the times of the stages
_MOSTLY_CPU = 0.5  # of the time of lone requests
_AS_SLOW = 1.08  # times a caller's throughput: no more than that is the same
UNREACHABLE = (
    "the containers of a chain cannot reach each other here: Docker gives them no address of their own that this "
    "machine knows (a virtual machine is between); use runner: {type: process}, or Docker on Linux"
)


def reachable(runner: RunnerSpec, url: str) -> bool:
    """Whether another service of the chain can reach `url`: only this machine can reach a container's published
    port.
    """
    return not runner.publishes_ports or urlsplit(url).hostname != "127.0.0.1"


def inner_url(endpoint: Endpoint) -> str:
    """The URL at which another service of the chain reaches the server."""
    return endpoint.inner_url if isinstance(endpoint, ReachedInside) else endpoint.url


def chain_plan(plans: Sequence[LoadPlan], servers: Sequence[TrialServer]) -> LoadPlan:
    """The entry's plan, with the stages that can be asked directly. The first of the servers is the entry."""
    stages = tuple(
        Stage(
            name=server.service.name, plan=plan.model_copy(update={"arrivals": "poisson", "trace": None, "workers": 1})
        )
        for server, plan in zip(servers[1:], plans[1:], strict=True)
        if server.is_asked
    )
    if not stages:
        return plans[0]
    stages_s = min(_STAGES_S, _STAGES_SHARE * plans[0].max_s)
    return plans[0].model_copy(update={"stages": stages, "stages_s": stages_s, "max_s": plans[0].max_s - stages_s})


def chain_record(
    chain: Chain | None, measurement: Measurement, servers: Sequence[TrialServer], usages: Sequence[Usage],
    bottlenecks: Sequence[str | None],
) -> ChainRecord | None:  # fmt: skip
    """What the trial's record says of the chain; None if the services are no chain."""
    if chain is None:
        return None
    seen = {one.name or chain.entry: one for one in measurement.stages if one.mean_ms is not None and one.lone_ms}
    limit_ms = servers[0].loaded.p99_limit_ms
    stages = tuple(
        _stage(chain, seen, server, limit_ms).model_copy(
            update={
                "cpu_cores_used": usage.cpu_cores_mean,
                "memory_peak_bytes": usage.memory_peak_bytes,
                "bottleneck": bottleneck,
                "cold_start_s": server.endpoint.cold_start_s,
            }
        )
        for server, usage, bottleneck in zip(servers, usages, bottlenecks, strict=True)
    )
    whole = seen[chain.entry].mean_ms if chain.entry in seen else None
    return ChainRecord(
        stages=stages, rate_qps=measurement.stages_qps, whole_ms=whole, limit_ms=limit_ms,
        bottleneck=bottleneck_of(chain, stages, _shared_cpu_ms(measurement, servers, usages)),
    )  # fmt: skip


def narrowest(record: ChainRecord) -> int:
    """The place of the stage that held the chain back; that of the entry if it is not known."""
    names = [one.name for one in record.stages]
    return names.index(record.bottleneck) if record.bottleneck is not None else 0


def _stage(chain: Chain, seen: Mapping[str, StageTimes], server: TrialServer, limit_ms: float | None) -> StageRecord:
    name = server.service.name
    record = StageRecord(name=name, calls=chain.calls[name])
    if name not in seen:
        return record
    below = [seen[one] for one in _seen_below(chain, seen, name)]
    lone_ms = own_time(seen[name], below, lambda one: one.lone_ms or 0.0)
    own_ms = own_time(seen[name], below, lambda one: one.mean_ms or 0.0)
    update = {
        "service_ms": min(lone_ms, own_ms),
        "queue_ms": max(0.0, own_ms - lone_ms),
        "slo_share": own_ms / limit_ms if limit_ms else None,
        "saturated_qps": seen[name].saturated_qps,
        "requests": seen[name].requests,
    }
    return record.model_copy(update=update)


def _shared_cpu_ms(measurement: Measurement, servers: Sequence[TrialServer], usages: Sequence[Usage]) -> float:
    """The CPU time of a request, in ms, in all stages together at the highest rate that held; 0 if each has own
    cores.
    """
    used = [one.cpu_cores_mean for one in usages if one.cpu_cores_mean is not None]
    if not measurement.best_qps or any(server.asked.cpu_cores is not None for server in servers):
        return 0.0
    return 1e3 * sum(used) / measurement.best_qps


def _seen_below(chain: Chain, seen: Mapping[str, object], name: str) -> list[str]:
    """The nearest called stages whose times are known: those that this one calls, or that are called through these."""
    found: list[str] = []
    for called in chain.calls[name]:
        found += [called] if called in seen else _seen_below(chain, seen, called)
    return list(dict.fromkeys(found))


def own_time(stage: StageTimes, below: Sequence[StageTimes], of: Callable[[StageTimes], float]) -> float:
    """A stage's time without that of the stages it calls. These are taken to run one after the other or, if that
    would be longer than the stage itself took, all at the same time.
    """
    times = [of(one) for one in below]
    waited = sum(times) if sum(times) <= of(stage) else max(times, default=0.0)
    return max(0.0, of(stage) - waited)


def bottleneck_of(chain: Chain, stages: Sequence[StageRecord], cpu_ms: float) -> str | None:
    """The stage that holds the chain back; None where that is not known. `cpu_ms` is the CPU time of a request on cores
    that the stages share.

    Where requests are mostly such time, every stage slows every other, and the one that takes longest costs most. Else
    each has a throughput of its own, and a stage is as slow as the slowest that it calls: from the entry on, the way
    leads to a called stage that alone answers no more than its caller does.
    """
    known = {one.name: one for one in stages if one.service_ms is not None and one.saturated_qps}
    if chain.entry not in known:
        return None
    if cpu_ms >= _MOSTLY_CPU * sum(one.service_ms or 0.0 for one in known.values()):
        return max(known.values(), key=lambda one: (one.service_ms or 0.0) + (one.queue_ms or 0.0)).name
    found = chain.entry
    while True:
        called = [known[name] for name in _seen_below(chain, known, found)]
        slowest = min(called, key=lambda one: one.saturated_qps or 0.0, default=None)
        max_qps = _AS_SLOW * (known[found].saturated_qps or 0.0)
        if slowest is None or (slowest.saturated_qps or 0.0) > max_qps:
            return found
        found = slowest.name
