"""The parts of a trial's record: what its rates, latencies, times, use and server were, and what else was seen.

All are frozen and refuse unknown fields. Money is in the currency of the spec's prices, times are in seconds, sizes in
bytes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ParameterValue = bool | int | float | str
State = Literal["complete", "pruned", "infeasible", "failed"]


class Record(BaseModel):
    """Frozen, and refuses fields that it does not have."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(Record):
    """A measured value with its 95% interval."""

    value: float
    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Estimate:
        """An estimate without uncertainty, for a figure that is taken as it is, such as a table's."""
        return cls(value=value, low=value, high=value)


class WarmupSample(Record):
    """What a moment of the warm-up showed: seconds since its start, median latency, answers per second."""

    at_s: float
    p50_ms: float
    qps: float


class ProbeRecord(Record):
    """One stretch of load: its rate, its verdict, and its latencies as counts up to a bound in milliseconds.

    `started_s` counts from the launch's end. `misses` broke the SLO's tightest limit.
    """

    rate_qps: float
    verdict: Literal["met", "missed", "undecided", "invalid"]
    reason: str = ""
    started_s: float
    duration_s: float
    requests: int
    misses: int
    errors: int
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: Estimate | None = None
    p999_ms: float | None = None
    disturbed: str = Field(default="", description="what neighbours on the machine did meanwhile")
    histogram: tuple[tuple[float, int], ...] = ()


class UsageSample(Record):
    """What the server used at a moment: seconds since its launch, cores on average since the last one, memory."""

    at_s: float
    cpu_cores: float
    memory_bytes: int


class TrialEvidence(Record):
    """What a trial's figures rest on; it is kept beside the record, since it is a hundred times as large."""

    probes: tuple[ProbeRecord, ...] = ()
    usage: tuple[UsageSample, ...] = ()


class ServiceRecord(Record):
    """One of several services that were measured together. `capacity_qps` is its share of what they hold together,
    `alone_qps` what it held while the others were idle; its latencies are those at the highest common rate. One that is
    `best_effort` has no share and no SLO: `throughput_qps` is what it answered at that rate of the others, `alone_qps`
    what it answered while they were idle.
    """

    name: str
    share: float
    capacity_qps: float | None = None
    alone_qps: Estimate | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: Estimate | None = None
    p999_ms: float | None = None
    error_rate: float | None = None
    base_latency_ms: float | None = None
    cpu_cores_used: float | None = None
    memory_peak_bytes: int | None = None
    bottleneck: str | None = None
    cold_start_s: float | None = None
    best_effort: bool = False
    throughput_qps: Estimate | None = None


class StageRecord(Record):
    """One stage of a chain. Its times are its own, without those of the services that it calls: `service_ms` is what it
    takes of a lone request, `queue_ms` what it takes longer while the chain is loaded (waiting, and sharing cores).
    Without what it may be asked directly it has none: they count as its caller's. `slo_share` is both as a share of
    the SLO's limit. `saturated_qps` is what it answers at full load when it is asked alone, with all that it calls.
    """

    name: str
    calls: tuple[str, ...] = ()
    service_ms: float | None = None
    queue_ms: float | None = None
    slo_share: float | None = None
    saturated_qps: float | None = None
    requests: int = 0
    cpu_cores_used: float | None = None
    memory_peak_bytes: int | None = None
    bottleneck: str | None = None
    cold_start_s: float | None = None


class ChainRecord(Record):
    """Where the time goes in a chain: `whole_ms` is the mean from the entry's arrival to its answer at `rate_qps`, and
    `bottleneck` the stage that held the chain back. The first stage is the entry.
    """

    stages: tuple[StageRecord, ...]
    rate_qps: float | None = None
    whole_ms: float | None = None
    limit_ms: float | None = None
    bottleneck: str | None = None


class MachineRecord(Record):
    """The machine while a trial was measured on it, where that could be seen. `_cores` are means over the load test.

    `disturbed` says what neighbours did in the probes that count: what was measured then may be their doing. It is
    empty where they left them alone.
    """

    server_cores: int = Field(description="how many cores the server could use")
    others_cores: float = Field(description="what others used of them: neither server, generator nor tuner")
    stolen_cores: float = Field(default=0.0, description="what a hypervisor gave to other virtual machines")
    elsewhere_cores: float = Field(default=0.0, description="what others used of the machine's other cores")
    generator_cores_shared: float = Field(default=0.0, description="what the load generator and the tuner used of them")
    memory_stalled: float | None = Field(default=None, description="share of time in which a task waited for memory")
    quota_throttled: float | None = Field(
        default=None, description="share of periods in which a shared quota was used up"
    )
    disturbed: str = ""
    disturbed_probes: int = 0
    work_ms: float | None = Field(
        default=None, description="fixed integer work on the server's cores, mean over pauses of the load"
    )
    work_error: float | None = Field(
        default=None, description="standard error of that, as a share; None: too few pauses, or a server busy in them"
    )
    copy_ms: float | None = Field(default=None, description="a copy of 16 MiB, before the load")


class MachineEffect(Record):
    """What the machine's own speed did to a study's capacities. They are given for the speed at which fixed work took
    `work_ms`. Where it takes e^x times as long, a server's capacity is e^(`sensitivity` x) times lower; `doubt` is the
    standard deviation of what is known of the sensitivity.
    """

    work_ms: float = Field(gt=0)
    sensitivity: float = Field(ge=0, le=10)
    doubt: float = Field(ge=0, le=10)


class Identity(Record):
    """Which trial, of which configuration, and what became of it. `reason` is set unless the state is `complete`;
    `log_tail` is the end of a failed server's log.
    """

    number: int
    state: State
    reason: str | None = None
    log_tail: str | None = None
    configuration: dict[str, ParameterValue]


class Rates(Record):
    """The rates that a configuration holds. `certainty` is `sure` where some rate surely held and one surely did not
    (or the load generator could send no more), else `uncertain`; the rates are `at_least_qps` and `at_most_qps`.
    `capacity_bound_qps` is the upper bound that a pruned trial proved, `saturated_qps` the throughput at full load
    whatever the latency. `best_effort_qps` is what best-effort services answered meanwhile.
    """

    capacity_qps: Estimate | None = None
    certainty: Literal["sure", "uncertain"] | None = None
    at_least_qps: float | None = None
    at_most_qps: float | None = None
    capacity_bound_qps: float | None = None
    saturated_qps: float | None = None
    best_effort_qps: Estimate | None = None


class Latencies(Record):
    """Latencies, seen at the rate `latencies_at_qps` on so many requests; `base_latency_ms` is the median latency of
    lone requests, `p999_ms` the 99.9th percentile.
    """

    base_latency_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: Estimate | None = None
    p999_ms: float | None = None
    latencies_at_qps: float | None = None
    latencies_from_requests: int | None = None
    error_rate: float | None = None


class Costs(Record):
    """Costs in the study's currency. None if no price, or no capacity, is known."""

    cost_per_hour: float | None = None
    cost_per_million_requests: float | None = None


class Timing(Record):
    """How long each part of a trial took, in seconds: `launch_s` until the server was ready, `wall_s` all of it.
    `final_round` is the round of the final: its launches followed one another, each of another configuration.
    `at_once` is how many trials ran side by side then.
    """

    cold_start_s: float | None = None
    launch_s: float | None = None
    warmup_s: float | None = None
    load_s: float | None = None
    teardown_s: float | None = None
    wall_s: float | None = None
    final_round: int | None = None
    at_once: int | None = None

    @property
    def took_s(self) -> float:
        """How long the trial took; a replayed one, how long it would have taken. 0 where nobody knows."""
        return max(self.wall_s or 0.0, self.load_s or 0.0)


class Use(Record):
    """What the server used under load. `throttled_share` is that of the scheduler's periods in which the CPU quota was
    used up; `memory_growth_bytes_per_s` how fast memory still grew, surely (None: it did not); `gpu_throttling` says
    why the GPU was slowed down (power cap, heat).
    """

    cpu_cores_used: float | None = None
    memory_peak_bytes: int | None = None
    gpu_utilization: float | None = None
    gpu_memory_peak_bytes: int | None = None
    gpu_power_w: float | None = None
    gpu_clock_mhz: float | None = None
    gpu_throttling: tuple[str, ...] = ()
    throttled_share: float | None = None
    memory_growth_bytes_per_s: float | None = None


class ServerFacts(Record):
    """What ran: `image` is its digest, `reused_from` the trial whose server it ran in, told its values while it ran.
    `server_batch_size` and `server_queue_ms` are means over the load test by the server's own counters.
    """

    image: str | None = None
    reused_from: int | None = None
    server_batch_size: float | None = None
    server_queue_ms: float | None = None


class TokenTimes(Record):
    """One time of streamed answers; `p999_ms` is the 99.9th percentile."""

    p50_ms: float
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float
    p999_ms: float | None = None


class LanguageRecord(Record):
    """What a trial showed of a language model that streams its answers; times at the rate of its latencies.

    `itl` is every gap between tokens, `tpot` an answer's mean. Tokens are means per answer; per second they are those
    at the capacity. `good` is the share of requests that held all limits of the SLO's goodput, of `good_of` that
    counted. `prefix_cache_hit_rate` is the share of prompt tokens that the engine says it had cached. Energies are
    watt-hours, by the power of the GPUs alone, at the rate of the latencies.
    """

    ttft: TokenTimes | None = None
    tpot: TokenTimes | None = None
    itl: TokenTimes | None = None
    output_tokens: float
    input_tokens: float | None = None
    output_tokens_per_second: float | None = None
    tokens_per_second: float | None = None
    tokens_per_second_per_user: float | None = None
    good: float | None = None
    good_of: int | None = None
    cost_per_million_output_tokens: float | None = None
    cost_per_million_tokens: float | None = None
    energy_per_million_output_tokens: float | None = None
    energy_per_million_tokens: float | None = None
    prefix_cache_hit_rate: float | None = None

    def at(self, capacity_qps: float | None, price_per_hour: float | None) -> LanguageRecord:
        """The record with tokens per second and costs at that capacity: price / (tokens per second x 3600 s/h) x
        10^6.
        """
        if not capacity_qps:
            return self
        output_qps = capacity_qps * self.output_tokens
        whole_qps = capacity_qps * (self.output_tokens + (self.input_tokens or 0.0))
        update: dict[str, float] = {"output_tokens_per_second": output_qps, "tokens_per_second": whole_qps}
        if price_per_hour is not None:
            update["cost_per_million_output_tokens"] = price_per_hour / (output_qps * 3600.0) * 1e6
            update["cost_per_million_tokens"] = price_per_hour / (whole_qps * 3600.0) * 1e6
        return self.model_copy(update=update)

    def powered(self, power_w: float | None, rate_qps: float | None) -> LanguageRecord:
        """The record with energies, if the GPUs drew so much at that rate: power / (tokens per second x 3600 s/h) x
        10^6.
        """
        if not power_w or not rate_qps:
            return self
        per_request_wh = power_w / rate_qps / 3600.0
        whole = self.output_tokens + (self.input_tokens or 0.0)
        return self.model_copy(
            update={
                "energy_per_million_output_tokens": 1e6 * per_request_wh / self.output_tokens,
                "energy_per_million_tokens": 1e6 * per_request_wh / whole,
            }
        )


class Observations(Record):
    """What else a load test showed. `unsettled` is the warm-up of a server whose latency or throughput still changed
    when its time was over; empty for all others. Of several `services` the rates are those of all together, the
    latencies those of the one that is nearest to its limit; `interference` is the share of what they would hold
    together, if each did as well as alone, that they lose to each other.
    """

    bottleneck: str | None = None
    services: tuple[ServiceRecord, ...] = ()
    interference: float | None = None
    chain: ChainRecord | None = None
    language: LanguageRecord | None = None
    machine: MachineRecord | None = None
    notes: tuple[str, ...] = ()
    unsettled: tuple[WarmupSample, ...] = ()
