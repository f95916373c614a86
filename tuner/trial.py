"""One trial: launch a configuration, measure it, and say what came of it.

What a server does wrong becomes a record with a reason; only what no trial could survive (the runner itself is
unavailable) is raised.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loadtest import (
    Burst,
    Interval,
    LoadGenerator,
    LoadPlan,
    LoadTestError,
    Measurement,
    PlanError,
    Progress,
    Slo,
    pack,
    read_log,
    variables,
)
from loadtest import LatencyLimit as Limit
from results import Estimate, Evidence, State, TrialRecord, WarmupSample
from runners import (
    Beside,
    Container,
    Endpoint,
    Infeasible,
    NotBeside,
    Program,
    Recorded,
    Runner,
    RunnerUnavailable,
    SampleRequest,
    ServerFailed,
    Usage,
)
from runners.servers import Reach
from search_spaces import Configuration
from tuner.bottleneck import name_bottleneck
from tuner.evidence import gather, memory_growth
from tuner.objective import cost_per_million_requests
from tuner.preparing import counted, counters, prepare
from tuner.prices import price_per_hour
from tuner.quality import Quality
from tuner.render import render, resources
from tuner.request import RequestSource
from tuner.serving import reach
from tuner.spec_file import LoadedSpec

# A first rate a little below break-even, so that noise does not throw away a configuration that equals the best.
BREAK_EVEN_MARGIN = 0.97
_OVERTIME_S = 60.0  # a load test elsewhere that is this late hangs

OnPhase = Callable[[str, float], None]


@dataclass(frozen=True)
class TrialSetup:
    """What all trials of a study share. `trials` is the folder that holds one folder per trial."""

    loaded: LoadedSpec
    source: RequestSource
    runner: Runner
    trials: Path
    seed: int
    replayed: bool
    quality: Quality | None = None


def _never(_price: float | None) -> None:
    """Nothing is pruned."""


@dataclass(frozen=True)
class Question:
    """What one trial is to find out. `break_even_qps` is the rate that a configuration of a price must hold, or it is
    pruned. `again` marks the second measurement of a trial: longer, and never pruned.
    """

    number: int
    configuration: Configuration
    break_even_qps: Callable[[float | None], float | None] = _never
    again: bool = False

    @property
    def folder_name(self) -> str:
        """`0007`, or `0007-again` for the second measurement of trial 7."""
        return f"{self.number:04d}" + ("-again" if self.again else "")


class NotRemovedError(RunnerUnavailable):
    """What a trial launched could not be removed, so no other may follow; what it measured counts."""

    def __init__(self, reason: str, record: TrialRecord) -> None:
        super().__init__(reason)
        self.record = record


def run_trial(setup: TrialSetup, question: Question, on_phase: OnPhase) -> TrialRecord:
    """Launch, measure, stop. Raises RunnerUnavailable (NotRemovedError with the record), and KeyboardInterrupt with
    everything stopped.
    """
    begun = time.monotonic()
    folder = setup.trials / question.folder_name
    folder.mkdir(parents=True, exist_ok=True)
    trial = _Trial(setup, question, folder, on_phase)
    try:
        record = trial.run()
    except NotRemovedError as error:
        (folder / "trial.json").write_text(error.record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        raise
    found, growth = trial.evidence()
    growth = growth if record.state == "complete" else None  # a queue that is overrun grows by itself
    update = {"wall_s": time.monotonic() - begun, "evidence": found, "memory_growth_bytes_per_s": growth}
    record = record.model_copy(update=update)
    (folder / "trial.json").write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return record


class _Trial:
    def __init__(self, setup: TrialSetup, question: Question, folder: Path, on_phase: OnPhase) -> None:
        self._setup, self._question, self._folder, self._on_phase = setup, question, folder, on_phase
        self._spec = setup.loaded.spec
        self._asked = resources(setup.loaded.space, question.configuration)
        self._price = price_per_hour(setup.loaded.space, question.configuration, self._spec.prices)
        self._times: dict[str, Any] = {}
        self._source = setup.source
        self._at: Reach | None = None
        self._measurement: Measurement | None = None

    def run(self) -> TrialRecord:
        if refusal := self._setup.runner.refuses(self._asked):
            return self._record("infeasible", reason=refusal)
        try:
            return self._launch_and_measure()
        except Infeasible as error:
            p99 = None if error.p99_ms is None else Estimate.exactly(error.p99_ms)
            return self._record("infeasible", reason=str(error), p99_ms=p99)
        except ServerFailed as error:
            return self._record("failed", reason=error.reason, log_tail=error.log_tail or None)
        except LoadTestError as error:
            return self._record("failed", reason=f"the load test could not run: {error}")

    def evidence(self) -> tuple[Evidence, float | None]:
        """Once the launch is over: what the figures rest on, and how fast memory grew under load."""
        found = gather(self._folder, self._measurement)
        if self._measurement is None:
            return found, None
        loaded_s = self._times.get("launch_s", 0.0) + self._measurement.load_started_s
        return found, memory_growth(found.usage, loaded_s)

    def _launch_and_measure(self) -> TrialRecord:
        if self._break_even() == float("inf"):
            return self._record("pruned", reason="one such container alone costs more than the best configuration")
        record = None
        try:
            with ExitStack() as stack:
                record = self._launched(self._container(), stack)
                self._on_phase("stop", 1.0)
                stopping = time.monotonic()
            return record.model_copy(update={"teardown_s": time.monotonic() - stopping})
        except RunnerUnavailable as error:
            if record is None:
                raise
            raise NotRemovedError(str(error), record) from error

    def _launched(self, container: Container, stack: ExitStack) -> TrialRecord:
        """What is launched is stopped when the stack is closed."""
        self._on_phase("launch", 0.0)
        begun = time.monotonic()
        # The generator takes a second to import what it needs; it does so while the server starts.
        generator = LoadGenerator() if self._setup.runner.near and not self._setup.replayed else None
        if generator is not None:
            stack.enter_context(generator)
        endpoint = stack.enter_context(self._setup.runner.launch(container))
        self._times["launch_s"] = time.monotonic() - begun
        self._times |= {"image": endpoint.image, "reused_from": endpoint.reused_from}
        if endpoint.reused_from is None:
            self._times["cold_start_s"] = endpoint.cold_start_s
        if self._setup.replayed:
            return self._replay(endpoint.recorded)
        if generator is not None:
            # First the clients go: many servers, asked to stop, wait for those that are still connected.
            stack.callback(generator.close)
        if self._setup.quality is not None:
            self._on_phase("quality", 0.0)
            self._setup.quality.check(endpoint.url, self._source, endpoint.check)
        record = self._measure(generator, endpoint)
        if generator is not None:
            generator.close()
        return record

    def _container(self) -> Container:
        placement = self._setup.runner.place(self._folder)
        container = render(
            self._setup.loaded, self._question.configuration, placement, self._setup.source,
            study=self._spec.service.name, trial=self._question.number, folder=self._folder, prepare=self._prepare,
        )  # fmt: skip
        return replace(container, go_on=lambda: self._on_phase("launch", 0.0), fresh=self._question.again)

    def _prepare(self, url: str, container: Container) -> SampleRequest | None:
        """Tell a server with an adapter what it can only be told while it runs, and learn from it what it takes."""
        self._at = reach(url, container.placement)
        loaded, configuration = self._setup.loaded, self._question.configuration
        self._source, sample = prepare(loaded, configuration, self._setup.source, self._at, container)
        return sample

    def _break_even(self) -> float | None:
        return None if self._question.again else self._question.break_even_qps(self._price)

    def _measure(self, generator: LoadGenerator | None, endpoint: Endpoint) -> TrialRecord:
        begun = time.monotonic()

        def on_progress(progress: Progress) -> None:
            endpoint.check()
            self._on_phase(_phase(progress), progress.fraction)

        before = counters(self._setup.loaded, self._at)
        measurement, notes = None, endpoint.notes
        if endpoint.beside is not None:
            try:
                measurement, notes = self._measure_beside(endpoint, endpoint.beside, on_progress), ()
            except NotBeside as error:
                notes = (*notes, f"The load test did not run in the cluster: {error}")
        if measurement is None:
            plan = self._plan(endpoint.url, endpoint.client_cores, shares_cores=endpoint.shares_cores)
            with ExitStack() as stack:
                ours = generator or stack.enter_context(LoadGenerator())
                measurement = ours.measure(plan, on_progress)
        measurement = measurement.model_copy(update={"notes": (*measurement.notes, *notes)})
        self._measurement = measurement
        self._times |= counted(before, counters(self._setup.loaded, self._at))
        (self._folder / "probes.json").write_text(measurement.model_dump_json(indent=1) + "\n", encoding="utf-8")
        endpoint.check()
        self._times |= {"warmup_s": measurement.warmup_s, "load_s": measurement.load_s}
        # Seen from here, a load test elsewhere ended just now.
        ended = time.monotonic()
        begun = begun if endpoint.beside is None else ended - measurement.load_started_s - measurement.load_s
        return self._judge(measurement, _usage_at_capacity(endpoint, measurement, begun))

    def _measure_beside(
        self, endpoint: Endpoint, beside: Beside, on_progress: Callable[[Progress], None]
    ) -> Measurement:
        """The load test as a program near the server. Raises NotBeside where it cannot run there."""
        plan = self._plan(beside.url, (), shares_cores=beside.shares_cores)
        try:
            program = Program(
                "loadtest", ("--bundle", "{bundle}"), pack(plan), variables(plan.request.auth), plan.max_s + _OVERTIME_S
            )
        except PlanError as error:
            raise LoadTestError(str(error)) from error

        def go_on() -> None:
            endpoint.check()
            self._on_phase("load", 0.0)

        lines = beside.run(program, go_on)
        with closing(lines):  # type: ignore[type-var]  # a generator
            measurement = read_log(lines, on_progress)
        if measurement.base_latency_ms is None:
            # It has answered us: either it fails everybody now, which is seen from here too, or a network is between.
            raise NotBeside(measurement.reason)
        return measurement

    def _plan(self, url: str, cores: tuple[int, ...], *, shares_cores: bool) -> LoadPlan:
        load, slo = self._spec.load, self._spec.slo
        assert slo is not None  # noqa: S101 (checked before the first launch; only replay does without)
        first = self._break_even()
        return LoadPlan(
            url=url,
            request=self._source.plan,
            slo=Slo(
                latency=tuple(
                    Limit(metric=one.metric, percentile=one.percentile, limit_ms=one.limit_s * 1e3)
                    for one in slo.limits
                ),
                error_rate=slo.error_rate,
            ),
            arrivals=load.arrivals,
            burst=Burst()
            if load.burst is None
            else Burst(factor=load.burst.factor, share=load.burst.share, length_s=load.burst.length),
            trace=_path(self._setup.loaded, load.trace),
            users=load.users,
            locustfile=_path(self._setup.loaded, load.locustfile),
            workers=load.workers,
            # In a closed loop there is no rate to ask for.
            first_rate_qps=None if first is None or load.users is not None else first * BREAK_EVEN_MARGIN,
            max_s=load.max_trial * (1.5 if self._question.again else 1.0),
            max_warmup_s=min(load.max_warmup, load.max_trial / 2),
            request_timeout_s=self._spec.request.timeout,
            seed=self._setup.seed * 1_000_003 + 2 * self._question.number + self._question.again,
            cores=cores,
            shares_cores=shares_cores,
        )

    def _judge(self, measurement: Measurement, usage: Usage) -> TrialRecord:
        shared: dict[str, Any] = {
            "cpu_cores_used": usage.cpu_cores_mean,
            "memory_peak_bytes": usage.memory_peak_bytes,
            "gpu_utilization": usage.gpu_utilization,
            "gpu_memory_peak_bytes": usage.gpu_memory_peak_bytes,
            "gpu_power_w": usage.gpu_power_w,
            "gpu_clock_mhz": usage.gpu_clock_mhz,
            "gpu_throttling": usage.gpu_throttling,
            "throttled_share": usage.throttled_share,
            "bottleneck": name_bottleneck(measurement, usage, self._asked),
            "saturated_qps": measurement.saturated_qps,
            "base_latency_ms": measurement.base_latency_ms,
            "p50_ms": measurement.p50_ms,
            "p95_ms": measurement.p95_ms,
            "p99_ms": _estimate(measurement.p99_ms),
            "error_rate": measurement.error_rate,
            "notes": measurement.notes,
            "unsettled": ()
            if measurement.settled
            else tuple(
                WarmupSample(at_s=point.at_s, p50_ms=point.p50_ms, qps=point.qps) for point in measurement.warmup
            ),
        }
        if measurement.outcome == "measured" and measurement.capacity_qps is not None:
            return self._record("complete", capacity=_estimate(measurement.capacity_qps), **shared)
        if measurement.outcome == "pruned":
            reason = measurement.reason or "it cannot hold the rate at which it would equal the best"
            return self._record("pruned", reason=reason, capacity_bound_qps=measurement.bound_qps, **shared)
        state: State = "infeasible" if measurement.outcome == "infeasible" else "failed"
        return self._record(state, reason=measurement.reason or "no verdict was reached", **shared)

    def _replay(self, recorded: Recorded | None) -> TrialRecord:
        """A table's row in place of a load test, pruned by the same rule."""
        assert recorded is not None  # noqa: S101 (the replay runner's endpoint always has one)
        self._price = recorded.price_per_hour if recorded.price_per_hour is not None else self._price
        self._times["load_s"] = recorded.trial_s or 0.0
        break_even = self._break_even()
        bound = None if break_even is None else break_even * BREAK_EVEN_MARGIN
        if bound is not None and recorded.capacity_qps < bound:
            reason = "it cannot hold the rate at which it would equal the best"
            return self._record("pruned", reason=reason, capacity_bound_qps=bound, saturated_qps=recorded.saturated_qps)
        p99 = None if recorded.p99_ms is None else Estimate.exactly(recorded.p99_ms)
        capacity = Estimate.exactly(recorded.capacity_qps)
        return self._record("complete", capacity=capacity, p99_ms=p99, saturated_qps=recorded.saturated_qps)

    def _record(self, state: State, *, capacity: Estimate | None = None, **fields: Any) -> TrialRecord:
        cost = None
        if capacity is not None and self._price is not None and capacity.value > 0:
            cost = cost_per_million_requests(self._price, capacity.value)
        return TrialRecord(
            number=self._question.number,
            state=state,
            configuration=dict(self._question.configuration),
            capacity_qps=capacity,
            cost_per_hour=self._price,
            cost_per_million_requests=cost,
            **self._times,
            **fields,
        )


def _usage_at_capacity(endpoint: Endpoint, measurement: Measurement, begun: float) -> Usage:
    """What the server used at the highest rate that it held; over all the load where it held none."""
    met = [probe for probe in measurement.probes if probe.verdict == "met"]
    if not met:
        return endpoint.usage(begun + measurement.load_started_s, time.monotonic())
    highest = max(met, key=lambda probe: probe.rate_qps)
    start = begun + highest.started_s
    return endpoint.usage(start, start + highest.duration_s)


def _path(loaded: LoadedSpec, name: str | None) -> str | None:
    return None if name is None else str(loaded.folder / name)


def _phase(progress: Progress) -> str:
    return progress.phase if progress.rate_qps is None else f"{progress.phase} {progress.rate_qps:.3g}/s"


def _estimate(interval: Interval | None) -> Estimate | None:
    return None if interval is None else Estimate(value=interval.value, low=interval.low, high=interval.high)
