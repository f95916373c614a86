"""What a load test is asked and what it answers: the JSON on both sides of `python -m loadtest`.

Every model is frozen and refuses unknown fields, so that the two processes cannot drift apart unnoticed. The
contract grows by adding fields with defaults; `schema_version` changes only when an old reader would be misled.
Times are seconds (`_s`) or milliseconds (`_ms`), rates are requests per second (`_qps`), shares are 0 to 1.
"""

from __future__ import annotations

import contextlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from loadtest.document import Document
from loadtest.figures import BackgroundMeasurement, Interval, Percentiles, StageTimes, WarmupPoint
from loadtest.llm import PrefixCache
from loadtest.neighbours import MachineSpeed, Neighbours, ServerProcesses
from loadtest.request_plan import RequestPlan
from loadtest.slo import Metric, Slo, timeout_s

Verdict = Literal["met", "missed", "undecided", "invalid"]
Phase = Literal["start", "warmup", "probe", "drain"]
Outcome = Literal["measured", "pruned", "infeasible", "invalid"]
Certainty = Literal["sure", "uncertain"]


ONE_LAUNCH = "This launch by itself"  # begins a note that speaks of one launch, and of no other
_STAGE_S = 15.0  # a stage's lone requests, and a crowd of them that is awaited
TOO_SHORT = "too short to tell"  # how the reason of a measurement begins that had no time for an answer
WARMUP_FAILED = "most requests of the warm-up failed"  # and one whose server answered with errors alone


def _timeout_s(validated: dict[str, Any]) -> float:
    slo = validated.get("slo")
    return timeout_s(slo.slowest_ms / 1e3 if isinstance(slo, Slo) else 0.0)


class Burst(Document):
    """Bursty arrivals: the rate is `factor` times the mean for `share` of the time, `length_s` at a time on average."""

    factor: float = Field(default=3.0, gt=1)
    share: float = Field(default=0.1, gt=0, lt=1)
    length_s: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _leaves_the_mean(self) -> Burst:
        if self.factor * self.share > 1:
            raise ValueError("factor times share must not exceed 1, or the rest of the time could not make up for it")
        return self


class LoadPlan(Document):
    """One capacity search against one endpoint, or with `rates_qps` one probe of `rate_s` at each of these rates.

    `arrivals` are an open loop, except `closed`: `users` that each send their next request when the last is answered.
    `trace` is the absolute path of a CSV file (see `arrivals.trace`), `locustfile` that of a file with Locust users:
    one arrival is then one of their tasks. `first_rate_qps` is a rate worth knowing first (the break-even rate): when
    it is missed the search ends as `pruned`, with the bound it proved. `max_s` bounds the whole search.

    `cores` are the CPU cores that the generator may use (empty: all that it was given); `shares_cores` says that the
    server uses them too. The load comes from one process, and from one per core when that cannot keep up; `workers`
    asks for so many from the start. `remote_workers` are awaited at `listen` (see `python -m loadtest --worker`).
    `server` says where the server runs on this machine, so that what others do there is seen; else nothing is said.
    """

    schema_version: Literal[1] = 1
    url: str
    request: RequestPlan
    slo: Slo
    arrivals: Literal["poisson", "constant", "bursty", "trace", "closed"] = "poisson"
    burst: Burst = Burst()
    trace: str | None = None
    users: int | None = Field(default=None, ge=1, le=10_000)
    locustfile: str | None = None
    rates_qps: tuple[Annotated[float, Field(gt=0)], ...] = ()
    rate_s: float = Field(default=10.0, gt=0)
    first_rate_qps: float | None = Field(default=None, gt=0)
    max_s: float = Field(default=90.0, gt=0)
    max_warmup_s: float = Field(default=15.0, gt=0)
    request_timeout_s: float = Field(
        default_factory=_timeout_s,
        gt=0,
        description="10, or twice the slowest limit on latency or ttft if more",
    )
    precision: float = Field(default=0.03, gt=0, lt=1, description="stop when high/low <= (1 + precision)^2")
    seed: int = Field(default=0, ge=0)
    cores: tuple[int, ...] = ()
    shares_cores: bool = False
    server: ServerProcesses | None = None
    prefix_cache: PrefixCache | None = Field(default=None, description="so that every probe has its cache-hit rate")
    workers: int = Field(default=1, ge=1, le=64)
    remote_workers: int = Field(default=0, ge=0, le=256)
    listen: str = Field(default="127.0.0.1:0", pattern=r"^[^:/ ]+:\d+$")
    stages: tuple[Stage, ...] = Field(default=(), description="services behind this one, whose times are measured too")
    stages_s: float = Field(default=10.0, gt=0, description="at most, for the stages under load, after max_s")

    @property
    def longest_s(self) -> float:
        """The seconds that all of it takes at most, about: the stages come after `max_s`."""
        return self.max_s + (self.stages_s + _STAGE_S * len(self.plans) if self.stages else 0.0)

    @property
    def plans(self) -> tuple[LoadPlan, ...]:
        """One for each endpoint: itself, and its stages."""
        return (self, *(one.plan for one in self.stages))

    @property
    def judged(self) -> tuple[LoadPlan, ...]:
        """The plans whose SLO counts: all of them."""
        return self.plans

    @model_validator(mode="after")
    def _belongs_together(self) -> LoadPlan:
        if (self.arrivals == "trace") != (self.trace is not None):
            raise ValueError("arrivals: trace needs the trace's file, and nothing else has one")
        if (self.arrivals == "closed") != (self.users is not None):
            raise ValueError("arrivals: closed needs the number of users, and nothing else has one")
        if self.arrivals == "closed" and (self.rates_qps or self.first_rate_qps):
            raise ValueError("a closed loop has no rate of its own; remove rates_qps and first_rate_qps")
        return self


class Stage(Document):
    """A service that the endpoint of a plan calls, itself or through others. Its own plan says what it is asked when it
    is asked directly; the plan's rates and times do not count.
    """

    name: str = Field(min_length=1)
    plan: LoadPlan


class Target(Document):
    """One of several endpoints that are loaded at once: `share` of all arrivals go to it.

    Of its plan the first rate, `max_s`, `max_warmup_s` and the cores do not count: the joint plan's do.
    """

    name: str
    share: float = Field(gt=0, le=1)
    plan: LoadPlan


class Background(Document):
    """A best-effort endpoint: its plan's `users` ask it, one request after the other, while the others are measured."""

    name: str
    plan: LoadPlan


class JointPlan(Document):
    """One capacity search against several endpoints that are loaded at the same time: every rate is that of all of
    them together, and it holds when every endpoint holds its own SLO. Those of `background` have none.

    What each would hold while the others are idle is measured as well, in the last part of the time. `max_s` is for all
    of that, `max_warmup_s` for each endpoint.
    """

    schema_version: Literal[1] = 1
    targets: tuple[Target, ...] = Field(min_length=1)
    background: tuple[Background, ...] = ()
    first_rate_qps: float | None = Field(default=None, gt=0)
    max_s: float = Field(default=90.0, gt=0)
    max_warmup_s: float = Field(default=15.0, gt=0)
    precision: float = Field(default=0.03, gt=0, lt=1)
    cores: tuple[int, ...] = ()
    shares_cores: bool = False

    @property
    def longest_s(self) -> float:
        """The seconds that all of it takes at most, about."""
        return self.max_s

    @property
    def plans(self) -> tuple[LoadPlan, ...]:
        """One for each endpoint, those of the background last."""
        return (*self.judged, *(one.plan for one in self.background))

    @property
    def judged(self) -> tuple[LoadPlan, ...]:
        """The plans whose SLO counts: those of the targets, since background endpoints have none."""
        return tuple(target.plan for target in self.targets)

    @model_validator(mode="after")
    def _open_and_whole(self) -> JointPlan:
        if len(self.targets) + len(self.background) < 2:
            raise ValueError("one endpoint alone needs no joint plan")
        if any(one.plan.users is None for one in self.background):
            raise ValueError("a best-effort endpoint is asked in a closed loop; say how many users")
        if any(target.plan.users is not None or target.plan.rates_qps for target in self.targets):
            raise ValueError("several endpoints are loaded by a search in an open loop; remove users and rates_qps")
        if abs(sum(target.share for target in self.targets) - 1) > 1e-6:
            raise ValueError("the targets' shares must add up to 1")
        names = [one.name for one in self.targets] + [one.name for one in self.background]
        if len(set(names)) < len(names):
            raise ValueError("two targets have one name")
        return self


class Tokens(Document):
    """Of the streamed answers that counted: means per answer, and what one user gets of them.

    `input_mean` is None where the server does not say how long its prompts were. `good` is the share of requests that
    held every limit of the plan's goodput, of `good_of` that counted.
    """

    output_mean: float
    input_mean: float | None = None
    per_user_per_s: float | None = Field(default=None, description="1 over the median time per output token")
    good: float | None = None
    good_of: int | None = None


class Probe(Document):
    """One stretch of load at one arrival rate.

    `requests` is every request that was scheduled after the probe's own settling time, less the `disturbed`; `misses`
    those that broke `limit` (errors included): the limit that is furthest from holding, or the tightest latency limit;
    `errors` those that got no good answer, by kind in `error_kinds`. `streaming` is empty where the generator waited
    for a core: answers that are read late tell no times of tokens.
    `histogram` is the HDR histogram of latencies from the scheduled arrival, in microseconds, as the library's
    base64 encoding; it holds every request, a failed or timed-out one at the time when it was given up.
    """

    rate_qps: float
    verdict: Verdict
    reason: str = ""
    started_s: float
    duration_s: float
    requests: int
    disturbed: int = Field(default=0, description="requests left out because the generator itself stood still then")
    completed: int
    misses: int
    limit: str = ""
    errors: int
    error_kinds: dict[str, int] = Field(default_factory=dict)
    achieved_qps: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: Interval | None
    late_p99_ms: float = Field(description="how late the generator itself sent, 99th percentile")
    generator_cpu: float = Field(description="cores used by the busiest generator process")
    generator_starved: float = Field(default=0.0, description="share of time that it waited for a core others used")
    workers: int = Field(default=1, description="generator processes that shared this load")
    neighbours: Neighbours | None = Field(default=None, description="what others did meanwhile, where that is known")
    streaming: dict[Metric, Percentiles] = Field(default_factory=dict, description="of streamed answers")
    tokens_per_s: float | None = Field(default=None, description="output tokens of all streams together")
    tokens: Tokens | None = None
    prefix_cache_hit_rate: float | None = Field(default=None, description="of prompt tokens, as the engine counts them")
    histogram: str


class TargetMeasurement(Document):
    """One of several endpoints: what it held alone, the others being idle, and how it did at the highest common rate
    that all of them held. `probes` are its own part of the common ones, in their order.
    """

    name: str
    share: float
    alone_qps: Interval | None = None
    base_latency_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: Interval | None = None
    error_rate: float | None = None
    probes: tuple[Probe, ...] = ()


class Measurement(Document):
    """The answer to a `LoadPlan`, or to a `JointPlan`: then its rates are those of all `targets` together, and its
    latencies those of the target that is nearest to its limit.

    - `measured`: `capacity_qps` is set, and p50/p95/p99/error_rate are those of the highest rate that was met. For
      fixed rates there is no capacity, for a closed loop it is the throughput of the users.
    - `pruned`: `first_rate_qps` was missed; the capacity is below `bound_qps`.
    - `infeasible`: the SLO does not hold at any rate that could be probed; `reason` says why.
    - `invalid`: the generator itself spoiled the probes, or they stayed undecided; nothing is said about the server.
    """

    schema_version: Literal[1] = 1
    outcome: Outcome
    reason: str = ""
    capacity_qps: Interval | None = None
    bound_qps: float | None = None
    saturated_qps: float | None = Field(default=None, description="throughput of a saturating burst after warm-up")
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: Interval | None = None
    error_rate: float | None = None
    base_latency_ms: float | None = Field(default=None, description="median latency of lone requests after warm-up")
    best_qps: float | None = Field(default=None, description="the rate at which the percentiles were seen")
    best_requests: int | None = Field(default=None, description="from how many requests they are")
    streaming: dict[Metric, Percentiles] = Field(default_factory=dict, description="of streamed answers at that rate")
    tokens: Tokens | None = None
    certainty: Certainty = Field(
        default="sure",
        description="sure: some rate surely held and one surely did not, or the generator could send no more",
    )
    at_least_qps: float | None = Field(default=None, description="a rate that surely holds")
    at_most_qps: float | None = Field(default=None, description="a rate that surely does not")
    unlike_known: bool = Field(default=False, description="the server behaved unlike any that the inference knows")
    client_limited: bool = False
    settled: bool = Field(default=True, description="latency and throughput were stationary before anything counted")
    warmup: tuple[WarmupPoint, ...] = ()
    warmup_s: float
    load_s: float
    load_started_s: float = Field(description="when warm-up ended, seconds after the plan was read")
    probes: tuple[Probe, ...] = ()
    targets: tuple[TargetMeasurement, ...] = ()
    background: tuple[BackgroundMeasurement, ...] = Field(default=(), description="of best-effort endpoints")
    stages: tuple[StageTimes, ...] = Field(default=(), description="of a chain, its entry first")
    stages_qps: float | None = Field(default=None, description="the rate at the entry while they were measured")
    neighbours: Neighbours | None = Field(default=None, description="what others did, all the time together")
    machine: MachineSpeed | None = Field(default=None, description="while the server had nothing to do")
    notes: tuple[str, ...] = ()


class LimitedTime(Document):
    """A percentile that the SLO limits, of the requests of a probe so far; None until one of them has that time."""

    metric: Metric
    percentile: float
    ms: float | None = None


class Progress(Document):
    """A line of progress, written about twice a second while the search runs."""

    event: Literal["progress"] = "progress"
    phase: Phase
    elapsed_s: float
    fraction: float = Field(ge=0, le=1, description="share of max_s that has passed")
    rate_qps: float | None = None
    p99_ms: float | None = None
    limited: LimitedTime | None = Field(default=None, description="what to show of a probe where that is not the p99")


class Answer(Document):
    """The last line of standard output: a measurement, or why none could be made (the caller's fault)."""

    event: Literal["answer"] = "answer"
    measurement: Measurement | None = None
    error: str | None = None
    wrong: Literal["locustfile"] | None = Field(default=None, description="the user's file that the error is about")


def read_plan(text: str) -> LoadPlan | JointPlan:
    """Reads a plan from JSON; one with `targets` is a joint plan. Raises pydantic's ValidationError."""
    kind: type[LoadPlan | JointPlan] = LoadPlan
    with contextlib.suppress(ValueError, RecursionError):  # what is no JSON is said below
        found = json.loads(text)
        kind = JointPlan if isinstance(found, dict) and "targets" in found else LoadPlan
    return kind.model_validate_json(text)
