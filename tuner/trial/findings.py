"""What was found about a configuration: by a load test, from a table, or by a launch that went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadtest import Measurement
from results import LanguageRecord, Latencies, Observations, Rates, State, Timing, WarmupSample
from results.trial_parts import ServiceRecord
from runners import Usage
from tuner.spec.chain import Chain
from tuner.trial.bottleneck import name_bottleneck
from tuner.trial.chain import chain_record, narrowest
from tuner.trial.machine import machine_record
from tuner.trial.server import TrialServer
from tuner.trial.services import (
    best_effort_qps,
    estimate,
    histogram_of,
    interference,
    reported_probe,
    service_records,
    tightest,
    used_by_all,
)

NOT_AS_CHEAP = "it cannot hold the rate at which it would equal the best"


@dataclass(frozen=True)
class Findings:
    """The parts of a record that measuring gives. `counted` are means by the server's own counters, by their fields;
    `price_per_hour` is set where what was measured has a price of its own.
    """

    state: State
    reason: str | None = None
    log_tail: str | None = None
    rates: Rates = field(default_factory=Rates)
    latencies: Latencies = field(default_factory=Latencies)
    usage: Usage = field(default_factory=Usage)
    observations: Observations = field(default_factory=Observations)
    counted: Mapping[str, float] = field(default_factory=dict)
    loading: Timing = field(default_factory=Timing)
    price_per_hour: float | None = None
    measurement: Measurement | None = None


def findings_of(
    measurement: Measurement, servers: Sequence[TrialServer], usages: Sequence[Usage], chain: Chain | None,
    counted: Mapping[str, float], language: LanguageRecord | None, held_qps: float | None = None,
) -> Findings:  # fmt: skip
    """The findings of a load test of all servers of a trial. `held_qps` is the rate that the configuration had to
    hold.
    """
    usage = usages[0] if len(usages) == 1 else used_by_all(usages)
    state, reason = _outcome(measurement)
    return Findings(
        state=state,
        reason=reason,
        rates=_rates(measurement, state, held_qps),
        latencies=_latencies(measurement),
        usage=usage,
        observations=_observations(measurement, servers, usages, chain, language),
        counted=counted,
        loading=Timing(warmup_s=measurement.warmup_s, load_s=measurement.load_s),
        measurement=measurement,
    )


def _outcome(measurement: Measurement) -> tuple[State, str | None]:
    if measurement.outcome == "measured" and measurement.capacity_qps is not None:
        return "complete", None
    if measurement.outcome == "pruned":
        return "pruned", measurement.reason or NOT_AS_CHEAP
    return "infeasible" if measurement.outcome == "infeasible" else "failed", (
        measurement.reason or "no verdict was reached"
    )


def _rates(measurement: Measurement, state: State, held_qps: float | None) -> Rates:
    complete = state == "complete"
    return Rates(
        capacity_qps=estimate(measurement.capacity_qps) if complete else None,
        certainty=measurement.certainty if complete else None,
        at_least_qps=measurement.at_least_qps if complete else None,
        at_most_qps=measurement.at_most_qps if complete else None,
        capacity_bound_qps=measurement.bound_qps if state == "pruned" else None,
        saturated_qps=measurement.saturated_qps,
        best_effort_qps=best_effort_qps(measurement, held_qps) if complete else None,
    )


def _latencies(measurement: Measurement) -> Latencies:
    seen = histogram_of(measurement.probes, reported_probe(measurement))
    return Latencies(
        base_latency_ms=measurement.base_latency_ms,
        p50_ms=measurement.p50_ms,
        p90_ms=seen.percentile_ms(90),
        p95_ms=measurement.p95_ms,
        p99_ms=estimate(measurement.p99_ms),
        p999_ms=seen.percentile_ms(99.9),
        latencies_at_qps=measurement.best_qps,
        latencies_from_requests=measurement.best_requests,
        error_rate=measurement.error_rate,
    )


def _observations(
    measurement: Measurement, servers: Sequence[TrialServer], usages: Sequence[Usage], chain: Chain | None,
    language: LanguageRecord | None,
) -> Observations:  # fmt: skip
    bottlenecks = [name_bottleneck(measurement, one, server.asked) for one, server in zip(usages, servers, strict=True)]
    stages = chain_record(chain, measurement, servers, usages, bottlenecks)
    services: tuple[ServiceRecord, ...] = ()
    if stages is None:
        services = service_records(measurement, servers, usages, bottlenecks)
    warmup = () if measurement.settled else measurement.warmup
    return Observations(
        bottleneck=bottlenecks[narrowest(stages) if stages else tightest(servers, services)],
        services=services,
        interference=interference(measurement),
        chain=stages,
        language=language,
        machine=machine_record(measurement),
        notes=measurement.notes,
        unsettled=tuple(WarmupSample(**point.model_dump()) for point in warmup),
    )
