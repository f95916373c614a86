"""One trial: launch a configuration, measure it, and say what came of it.

What a server does wrong becomes a record with a reason; only what no trial could survive (the runner itself is
unavailable) is raised.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest import (
    JointPlan,
    LoadGenerator,
    LoadPlan,
    LoadTestError,
    Measurement,
    PlanError,
    Progress,
    Target,
    WrongLocustfile,
    pack,
    read_log,
    variables,
)
from results import Estimate, State, TrialEvidence, TrialRecord, WarmupSample
from results.text import figure
from runners import (
    Beside,
    Infeasible,
    NotBeside,
    Program,
    Recorded,
    Runner,
    RunnerUnavailable,
    ServerFailed,
    Usage,
)
from search_spaces import Configuration
from search_spaces.masking import masked_values
from tuner.launch.price import known_price
from tuner.launch.runnable import why_refused
from tuner.search.objective import cost_per_million_requests
from tuner.spec.reading import LoadedSpec
from tuner.trial.bottleneck import name_bottleneck
from tuner.trial.chain import UNREACHABLE, chain_plan, chain_record, narrowest, reachable
from tuner.trial.evidence import gather, memory_growth
from tuner.trial.language import cache_notes, language_record
from tuner.trial.machine import machine_record
from tuner.trial.replay_noise import disturbed
from tuner.trial.server import ServiceSetup, TrialLaunch, TrialServer
from tuner.trial.services import estimate, interference, service_records, tightest, used_by_all

# A first rate a little below break-even, so that noise does not throw away a configuration that equals the best.
BREAK_EVEN_MARGIN = 0.97
_OVERTIME_S = 60.0  # a load test elsewhere that is this late hangs

OnPhase = Callable[[str, float], None]


@dataclass(frozen=True)
class TrialSetup:
    """What all trials of a study share. `trials` is the folder that holds one folder per trial."""

    loaded: LoadedSpec
    served: tuple[ServiceSetup, ...]
    runner: Runner
    trials: Path
    seed: int
    replayed: bool

    def price(self, configuration: Configuration) -> float | None:
        """Per hour, known before it is launched."""
        return known_price(self.loaded, self.runner, configuration)

    @property
    def cache(self) -> Path:
        """The folder where servers keep what they compile, for the trials that follow."""
        return self.trials.parent / "cache"


def _never(_price: float | None) -> None:
    """Nothing is pruned."""


@dataclass(frozen=True)
class TrialRequest:
    """What one trial is to find out. `break_even_qps` is the rate that a configuration of a price must hold, or it is
    pruned. `confirmation` counts the further launches of a trial's configuration (0: the trial itself): they are
    longer, and never pruned.
    """

    number: int
    configuration: Configuration
    break_even_qps: Callable[[float | None], float | None] = _never
    confirmation: int = 0

    @property
    def folder_name(self) -> str:
        """`0007`; `0007-again` for the first further launch of trial 7, `0007-again-2` for the next."""
        further = "" if self.confirmation <= 1 else f"-{self.confirmation}"
        return f"{self.number:04d}" + ("-again" if self.confirmation else "") + further


class NotRemovedError(RunnerUnavailable):
    """What a trial launched could not be removed, so no other may follow; what it measured counts."""

    def __init__(self, reason: str, record: TrialRecord) -> None:
        super().__init__(reason)
        self.record = record


def run_trial(setup: TrialSetup, request: TrialRequest, on_phase: OnPhase) -> TrialRecord:
    """TrialLaunch, measure, stop. Raises RunnerUnavailable (NotRemovedError with the record), SpecError for a wrong
    locustfile, and KeyboardInterrupt; always with everything stopped.
    """
    begun = time.monotonic()
    folder = setup.trials / request.folder_name
    setup.trials.mkdir(mode=0o700, parents=True, exist_ok=True)  # logs and requests may hold what is nobody else's
    folder.mkdir(parents=True, exist_ok=True)
    trial = _Trial(setup, request, folder, on_phase)
    try:
        record = trial.run()
    except NotRemovedError as error:
        record = _masked(error.record)
        (folder / "trial.json").write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        raise NotRemovedError(str(error), record) from error
    found, growth = trial.evidence()
    growth = growth if record.state == "complete" else None  # a queue that is overrun grows by itself
    update = {"wall_s": time.monotonic() - begun, "evidence": found, "memory_growth_bytes_per_s": growth}
    record = _masked(record).model_copy(update=update)
    (folder / "trial.json").write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return record


def _masked(record: TrialRecord) -> TrialRecord:
    """Without secrets that a server echoed."""
    return TrialRecord.model_validate(masked_values(record.model_dump(mode="json")))


class _Trial:
    def __init__(self, setup: TrialSetup, request: TrialRequest, folder: Path, on_phase: OnPhase) -> None:
        self._setup, self._request, self._folder, self._on_phase = setup, request, folder, on_phase
        self._spec = setup.loaded.spec
        self._price = setup.price(request.configuration)
        self._times: dict[str, Any] = {}
        self._cache_hit_rate: float | None = None
        self._measurement: Measurement | None = None
        study = self._spec.service.name
        group = f"{study}/{request.folder_name}" if setup.loaded.colocated else None
        # A second measurement starts as a container does that is deployed: nothing is compiled yet.
        cache = folder / "cache" if request.confirmation else setup.cache
        if request.confirmation:
            shutil.rmtree(cache, ignore_errors=True)  # of a measurement that was interrupted
        launch = TrialLaunch(
            study, request.number, folder, cache, bool(request.confirmation), group, lambda: on_phase("launch", 0.0)
        )
        self._servers = [TrialServer(served, request.configuration, launch) for served in setup.served]

    def run(self) -> TrialRecord:
        if refusal := why_refused(self._setup.loaded, self._setup.runner, self._request.configuration):
            return self._record("infeasible", reason=refusal)
        try:
            return self._launch_and_measure()
        except Infeasible as error:
            p99 = None if error.p99_ms is None else Estimate.exactly(error.p99_ms)
            return self._record("infeasible", reason=str(error), p99_ms=p99)
        except ServerFailed as error:
            return self._record("failed", reason=error.reason, log_tail=error.log_tail or None)
        except WrongLocustfile as error:
            what = str(error).removeprefix("locustfile: ")
            raise self._setup.loaded.error(("load", "locustfile"), what) from error
        except LoadTestError as error:
            return self._record("failed", reason=f"the load test could not run: {error}", bottleneck="client")

    def evidence(self) -> tuple[TrialEvidence, float | None]:
        """Once the launch is over: what the figures rest on, and how fast memory grew under load."""
        found = gather([(server.folder, server.launch_s) for server in self._servers], self._measurement)
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
                record = self._launched(stack)
                self._on_phase("stop", 1.0)
                stopping = time.monotonic()
            return record.model_copy(update={"teardown_s": time.monotonic() - stopping})
        except RunnerUnavailable as error:
            if record is None:
                raise
            raise NotRemovedError(str(error), record) from error

    def _launched(self, stack: ExitStack) -> TrialRecord:
        """What is launched is stopped when the stack is closed."""
        self._on_phase("launch", 0.0)
        # The generator takes a second to import what it needs; it does so while the server starts.
        generator = LoadGenerator() if self._setup.runner.near and not self._setup.replayed else None
        if generator is not None:
            stack.enter_context(generator)
        self._launch_all(stack)
        first = self._servers[0].endpoint
        self._times["launch_s"] = sum(server.launch_s for server in self._servers)
        self._times |= {"image": first.image, "reused_from": first.reused_from}
        if first.reused_from is None:
            self._times["cold_start_s"] = max(server.endpoint.cold_start_s for server in self._servers)
        if self._setup.replayed:
            return self._replay(first.recorded)
        if generator is not None:
            # First the clients go: many servers, asked to stop, wait for those that are still connected.
            stack.callback(generator.close)
        for server in self._servers:
            with _named(server):
                server.check_quality(lambda: self._on_phase("quality", 0.0))
        record = self._measure(generator)
        if generator is not None:
            generator.close()
        return record

    def _launch_all(self, stack: ExitStack) -> None:
        """Of a chain those first that others call, since a service is started with the addresses of its neighbours."""
        chain, urls = self._setup.loaded.chain, dict[str, str]()
        for server in self._servers if chain is None else self._servers[::-1]:
            with _named(server):
                reached = {name: urls[name] for name in server.loaded.calls}
                server.launch(self._setup.runner, stack, reached)
                urls[server.service.name] = server.endpoint.url
                if server.loaded.is_called and not reachable(self._spec.runner.type, server.endpoint.url):
                    raise RunnerUnavailable(UNREACHABLE)

    def _break_even(self) -> float | None:
        return None if self._request.confirmation else self._request.break_even_qps(self._price)

    def _check(self) -> None:
        """Raises where a server lives no more."""
        for server in self._servers:
            with _named(server):
                server.endpoint.check()

    def _measure(self, generator: LoadGenerator | None) -> TrialRecord:
        begun = time.monotonic()

        def on_progress(progress: Progress) -> None:
            self._check()
            self._on_phase(_phase(progress), progress.fraction)

        for server in self._servers:
            server.begin()
        measurement, notes = None, tuple(note for server in self._servers for note in server.endpoint.notes)
        besides = [server.endpoint.beside for server in self._servers if server.endpoint.beside is not None]
        if elsewhere := len(besides) == len(self._servers):
            try:
                measurement, notes = self._measure_beside(besides, on_progress), ()
            except NotBeside as error:
                notes = (*notes, f"The load test did not run in the cluster: {error}")
        if measurement is None:
            cores, shared = self._client_cores()
            plan = self._plan([server.endpoint.url for server in self._servers], cores, shares_cores=shared)
            with ExitStack() as stack:
                ours = generator or stack.enter_context(LoadGenerator())
                measurement = ours.measure(plan, on_progress)
        measurement = measurement.model_copy(update={"notes": (*measurement.notes, *dict.fromkeys(notes))})
        measurement = Measurement.model_validate(masked_values(measurement.model_dump(mode="json")))
        self._measurement = measurement
        if len(self._servers) == 1:
            counted = dict(self._servers[0].counted())
            self._cache_hit_rate = counted.pop("prefix_cache_hit_rate", None)
            self._times |= counted
        (self._folder / "probes.json").write_text(measurement.model_dump_json(indent=1) + "\n", encoding="utf-8")
        self._check()
        self._times |= {"warmup_s": measurement.warmup_s, "load_s": measurement.load_s}
        # Seen from here, a load test elsewhere ended just now.
        ended = time.monotonic()
        begun = ended - measurement.load_started_s - measurement.load_s if elsewhere else begun
        return self._judge(measurement, [_usage_at_capacity(server, measurement, begun) for server in self._servers])

    def _client_cores(self) -> tuple[tuple[int, ...], bool]:
        """The cores that no server was given, for the load generator, and whether it shares some all the same."""
        endpoints = [server.endpoint for server in self._servers]
        offered = [set(one.client_cores) for one in endpoints if one.client_cores]
        common = set.intersection(*offered) if offered else set()
        return tuple(sorted(common)), any(one.shares_cores for one in endpoints) or (bool(offered) and not common)

    def _measure_beside(self, besides: list[Beside], on_progress: Callable[[Progress], None]) -> Measurement:
        """The load test as a program near the servers. Raises NotBeside where it cannot run there."""
        plan = self._plan([one.url for one in besides], (), shares_cores=any(one.shares_cores for one in besides))
        secrets = {name for server in self._servers for name in variables(server.source.plan.auth)}
        try:
            program = Program(
                "loadtest", ("--bundle", "{bundle}"), pack(plan), tuple(sorted(secrets)), plan.max_s + _OVERTIME_S
            )
        except PlanError as error:
            raise LoadTestError(str(error)) from error

        def go_on() -> None:
            self._check()
            self._on_phase("load", 0.0)

        lines = besides[0].run(program, go_on)
        with closing(lines):  # type: ignore[type-var]  # a generator
            measurement = read_log(lines, on_progress)
        if measurement.base_latency_ms is None:
            # It has answered us: either it fails everybody now, which is seen from here too, or a network is between.
            raise NotBeside(measurement.reason)
        return measurement

    def _plan(self, urls: list[str], cores: tuple[int, ...], *, shares_cores: bool) -> LoadPlan | JointPlan:
        load = self._spec.load
        max_s = self._setup.loaded.most_load_s(confirmation=bool(self._request.confirmation))
        seed = self._seed
        plans = [
            server.plan(url, cores, shares_cores=shares_cores, max_s=max_s, seed=seed + number * 7_000_003)
            for number, (server, url) in enumerate(zip(self._servers, urls, strict=True))
        ]
        first = self._break_even()
        # In a closed loop there is no rate to ask for.
        first_qps = None if first is None or load.users is not None else first * BREAK_EVEN_MARGIN
        if len(plans) == 1:
            return plans[0].model_copy(update={"first_rate_qps": first_qps})
        if self._setup.loaded.chain is not None:
            return chain_plan(plans, self._servers).model_copy(update={"first_rate_qps": first_qps})
        targets = [
            Target(name=server.service.name, share=server.service.share, plan=plan)
            for server, plan in zip(self._servers, plans, strict=True)
        ]
        return JointPlan(
            targets=tuple(targets), first_rate_qps=first_qps, max_s=max_s, max_warmup_s=plans[0].max_warmup_s,
            cores=cores, shares_cores=shares_cores,
        )  # fmt: skip

    @property
    def _seed(self) -> int:
        """Another one for each launch of the study."""
        number, confirmation = self._request.number, self._request.confirmation
        return self._setup.seed * 1_000_003 + 2 * number + (confirmation > 0) + 100_003 * max(0, confirmation - 1)

    def _judge(self, measurement: Measurement, usages: list[Usage]) -> TrialRecord:
        usage = usages[0] if len(usages) == 1 else used_by_all(usages)
        bottlenecks = [
            name_bottleneck(measurement, one, server.asked) for one, server in zip(usages, self._servers, strict=True)
        ]
        chain = chain_record(self._setup.loaded.chain, measurement, self._servers, usages, bottlenecks)
        services = () if chain else service_records(measurement, self._servers, usages, bottlenecks)
        shared: dict[str, Any] = {
            "cpu_cores_used": usage.cpu_cores_mean,
            "memory_peak_bytes": usage.memory_peak_bytes,
            "gpu_utilization": usage.gpu_utilization,
            "gpu_memory_peak_bytes": usage.gpu_memory_peak_bytes,
            "gpu_power_w": usage.gpu_power_w,
            "gpu_clock_mhz": usage.gpu_clock_mhz,
            "gpu_throttling": usage.gpu_throttling,
            "throttled_share": usage.throttled_share,
            "bottleneck": bottlenecks[narrowest(chain) if chain else tightest(self._servers, services)],
            "saturated_qps": measurement.saturated_qps,
            "base_latency_ms": measurement.base_latency_ms,
            "p50_ms": measurement.p50_ms,
            "p95_ms": measurement.p95_ms,
            "p99_ms": estimate(measurement.p99_ms),
            "latencies_at_qps": measurement.best_qps,
            "latencies_from_requests": measurement.best_requests,
            "error_rate": measurement.error_rate,
            "notes": (*measurement.notes, *cache_notes(self._spec.request.llm, self._cache_hit_rate)),
            "services": services,
            "interference": interference(measurement),
            "chain": chain,
            "language": language_record(measurement, self._cache_hit_rate),
            "machine": machine_record(measurement),
            "unsettled": ()
            if measurement.settled
            else tuple(
                WarmupSample(at_s=point.at_s, p50_ms=point.p50_ms, qps=point.qps) for point in measurement.warmup
            ),
        }
        if measurement.outcome == "measured" and measurement.capacity_qps is not None:
            return self._record(
                "complete", capacity=estimate(measurement.capacity_qps), certainty=measurement.certainty,
                at_least_qps=measurement.at_least_qps, at_most_qps=measurement.at_most_qps, **shared,
            )  # fmt: skip
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
        recorded, capacity = disturbed(recorded, self._spec.runner.noise, self._seed)
        break_even = self._break_even()
        bound = None if break_even is None else break_even * BREAK_EVEN_MARGIN
        if bound is not None and recorded.capacity_qps < bound:
            reason = "it cannot hold the rate at which it would equal the best"
            return self._record("pruned", reason=reason, capacity_bound_qps=bound, saturated_qps=recorded.saturated_qps)
        p99 = None if recorded.p99_ms is None else Estimate.exactly(recorded.p99_ms)
        return self._record("complete", capacity=capacity, p99_ms=p99, saturated_qps=recorded.saturated_qps)

    def _record(self, state: State, *, capacity: Estimate | None = None, **fields: Any) -> TrialRecord:
        cost = None
        if capacity is not None and self._price is not None and capacity.value > 0:
            cost = cost_per_million_requests(self._price, capacity.value)
        if fields.get("language") is not None:
            fields["language"] = fields["language"].at(capacity.value if capacity else None, self._price)
        return TrialRecord(
            number=self._request.number,
            state=state,
            configuration=dict(self._request.configuration),
            capacity_qps=capacity,
            cost_per_hour=self._price,
            cost_per_million_requests=cost,
            **self._times,
            **fields,
        )


@contextmanager
def _named(server: TrialServer) -> Iterator[None]:
    """What goes wrong with one of several servers says which."""
    name = server.service.name
    try:
        yield
    except Infeasible as error:
        if not name:
            raise
        raise Infeasible(f"{name}: {error}", error.p99_ms) from error
    except ServerFailed as error:
        if not name:
            raise
        raise ServerFailed(f"{name}: {error.reason}", error.log_tail) from error


def _usage_at_capacity(server: TrialServer, measurement: Measurement, begun: float) -> Usage:
    """What the server used at the highest rate that it held; over all the load where it held none."""
    met = [probe for probe in measurement.probes if probe.verdict == "met"]
    if not met:
        return server.endpoint.usage(begun + measurement.load_started_s, time.monotonic())
    highest = max(met, key=lambda probe: probe.rate_qps)
    start = begun + highest.started_s
    return server.endpoint.usage(start, start + highest.duration_s)


def _phase(progress: Progress) -> str:
    """`probe 86.1 req/s, p99 212 ms`."""
    if progress.rate_qps is None:
        return progress.phase
    p99 = "" if progress.p99_ms is None else f", p99 {figure(progress.p99_ms)} ms"
    return f"{progress.phase} {figure(progress.rate_qps)} req/s{p99}"
