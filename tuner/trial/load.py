"""Measuring by a load test: from this machine, or by a program that runs near the servers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass

from loadtest import (
    Background,
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
from results.percentiles import P99, Percentile
from results.text import figure
from runners import FoundRunning, InClusterLoad, LoadJobUnavailable, Program, Usage
from search_spaces.masking import masked_values
from tuner.trial.bottleneck import reported_probe
from tuner.trial.chain import chain_plan
from tuner.trial.findings import Findings, findings_of
from tuner.trial.language import cache_notes, cached_share, language_record, repeat_notes
from tuner.trial.server import TrialServer
from tuner.trial.setup import BREAK_EVEN_MARGIN, TrialJob

_OVERTIME_S = 60.0  # a load test elsewhere that is this late hangs


@dataclass(frozen=True)
class LocalMeasurer:
    """A load test from this machine. `notes` say why the load does not come from nearer to the servers."""

    notes: tuple[str, ...] = ()

    @property
    def launches(self) -> bool:
        """Servers are."""
        return True

    def ready(self, *, near: bool) -> AbstractContextManager[LoadGenerator | None]:
        """Start a load generator, which gets ready while the servers start."""
        return LoadGenerator() if near else nullcontext()

    def measure(self, job: TrialJob, generator: LoadGenerator | None) -> Findings:
        """Load the servers over their endpoints, with the cores that none of them was given."""
        begun = time.monotonic()
        _begin(job)
        cores, shared = _client_cores(job.servers)
        plan = load_plan(job, [server.endpoint.url for server in job.servers], cores, shares_cores=shared)
        with ExitStack() as stack:
            ours = generator or stack.enter_context(LoadGenerator())
            measurement = ours.measure(plan, lambda progress: _report(job, progress))
        notes = tuple(note for server in job.servers for note in server.endpoint.notes)
        return _found(job, measurement, (*notes, *self.notes), begun)


@dataclass(frozen=True)
class ClusterMeasurer:
    """A load test by a program in the servers' cluster. It comes from this machine instead if some server has no place
    beside it for the program, or the program cannot run there.
    """

    @property
    def launches(self) -> bool:
        """Servers are."""
        return True

    def ready(self, *, near: bool) -> AbstractContextManager[LoadGenerator | None]:
        """See `LocalMeasurer.ready`."""
        return LocalMeasurer().ready(near=near)

    def measure(self, job: TrialJob, generator: LoadGenerator | None) -> Findings:
        """Load the servers from the nearest place where the load test can run."""
        places = [server.endpoint.beside for server in job.servers if server.endpoint.beside is not None]
        if len(places) < len(job.servers):
            return LocalMeasurer().measure(job, generator)
        try:
            _begin(job)
            measurement = _measured_beside(job, places)
        except LoadJobUnavailable as error:
            note = f"The load test did not run in the cluster: {error}"
            return LocalMeasurer((note,)).measure(job, generator)
        # Seen from here, a load test elsewhere ended just now.
        begun = time.monotonic() - measurement.load_started_s - measurement.load_s
        # Their other notes are about the way that the load took from here.
        said = [one.endpoint.said for one in job.servers if isinstance(one.endpoint, FoundRunning)]
        return _found(job, measurement, said, begun)


def _begin(job: TrialJob) -> None:
    for server in job.servers:
        server.begin()


def _report(job: TrialJob, progress: Progress) -> None:
    job.check()
    job.on_phase(phase_of(progress), progress.fraction)


def _measured_beside(job: TrialJob, places: Sequence[InClusterLoad]) -> Measurement:
    """The load test as a program near the servers. Raises LoadJobUnavailable where it cannot run there."""
    plan = load_plan(job, [one.url for one in places], (), shares_cores=any(one.shares_cores for one in places))
    secrets = {name for server in job.servers for name in variables(server.source.plan.auth)}
    try:
        program = Program(
            "loadtest", ("--bundle", "{bundle}"), pack(plan), tuple(sorted(secrets)), plan.longest_s + _OVERTIME_S
        )
    except PlanError as error:
        raise LoadTestError(str(error)) from error

    def go_on() -> None:
        job.check()
        job.on_phase("load", 0.0)

    lines = places[0].run(program, go_on)
    with closing(lines):  # type: ignore[type-var]  # a generator
        try:
            measurement = read_log(lines, lambda progress: _report(job, progress))
        except WrongLocustfile as error:
            # It was loaded here before the first launch: there it lacks a module or a file that lies beside it.
            raise LoadJobUnavailable(str(error)) from error
    if measurement.base_latency_ms is None:
        # It has answered us: either it fails everybody now, which is seen from here too, or a network is between.
        raise LoadJobUnavailable(measurement.reason)
    return measurement


def _found(job: TrialJob, measurement: Measurement, notes: Sequence[str], begun: float) -> Findings:
    counted = dict(job.servers[0].counted()) if len(job.servers) == 1 else {}
    hit_rate = cached_share(measurement, counted.pop("prefix_cache_hit_rate", None))
    asked = job.setup.loaded.spec.request.llm
    cached = cache_notes(asked, hit_rate) + repeat_notes(asked, hit_rate)
    measurement = measurement.model_copy(update={"notes": (*measurement.notes, *dict.fromkeys(notes), *cached)})
    measurement = Measurement.model_validate(masked_values(measurement.model_dump(mode="json")))
    held_qps = job.setup.loaded.spec.objective.held_qps
    if held_qps is not None and measurement.outcome == "pruned":
        reason = f"the services with an SLO do not hold {figure(held_qps)} requests/s"
        measurement = measurement.model_copy(update={"outcome": "infeasible", "reason": reason})
    (job.folder / "probes.json").write_text(measurement.model_dump_json(indent=1) + "\n", encoding="utf-8")
    job.check()
    usages = [_usage_at_capacity(server, measurement, begun) for server in job.servers]
    language = language_record(measurement, hit_rate)
    if language is not None and measurement.outcome == "measured" and measurement.capacity_qps is not None:
        language = language.at(measurement.capacity_qps.value, job.setup.price(job.request.configuration))
        if len(usages) == 1 and (held := reported_probe(measurement)) is not None:
            language = language.powered(usages[0].gpu_power_w, held.achieved_qps)
    return findings_of(measurement, job.servers, usages, job.setup.loaded.chain, counted, language, held_qps)


def _client_cores(servers: Sequence[TrialServer]) -> tuple[tuple[int, ...], bool]:
    """The cores for the load generator, which no server was given, and whether it shares some with a server after
    all.
    """
    endpoints = [server.endpoint for server in servers]
    offered = [set(one.client_cores) for one in endpoints if one.client_cores]
    common = set.intersection(*offered) if offered else set()
    return tuple(sorted(common)), any(one.shares_cores for one in endpoints) or (bool(offered) and not common)


def load_plan(
    job: TrialJob, urls: Sequence[str], cores: tuple[int, ...], *, shares_cores: bool
) -> LoadPlan | JointPlan:
    """How the servers are loaded, all together; first at the rate at which the configuration would equal the best."""
    loaded, servers = job.setup.loaded, job.servers
    max_s = loaded.max_load_s(confirmation=bool(job.request.confirmation))
    joint = len(servers) > 1 and loaded.chain is None
    first = job.break_even_qps(job.setup.price(job.request.configuration))
    # In a closed loop there is no rate to ask for.
    first_qps = None if first is None or loaded.spec.load.users is not None else first * BREAK_EVEN_MARGIN
    first_qps = loaded.spec.objective.held_qps or first_qps
    plans = [
        server.plan(
            url, cores, shares_cores=shares_cores, max_s=max_s, seed=job.seed + number * 7_000_003,
            first_rate_qps=first_qps if number == 0 and not joint else None,
        )
        for number, (server, url) in enumerate(zip(servers, urls, strict=True))
    ]  # fmt: skip
    if len(plans) == 1:
        return plans[0]
    if not joint:
        return chain_plan(plans, servers)
    targets = [
        Target(name=server.service.name, share=server.service.share, plan=plan)
        for server, plan in zip(servers, plans, strict=True)
        if not server.service.best_effort
    ]
    background = [
        Background(name=server.service.name, plan=plan)
        for server, plan in zip(servers, plans, strict=True)
        if server.service.best_effort
    ]
    return JointPlan(
        targets=tuple(targets), background=tuple(background), first_rate_qps=first_qps, max_s=max_s,
        max_warmup_s=plans[0].max_warmup_s, cores=cores, shares_cores=shares_cores,
    )  # fmt: skip


def _usage_at_capacity(server: TrialServer, measurement: Measurement, begun: float) -> Usage:
    """What the server used at the highest rate that it held, or during the whole load if it held none."""
    highest = reported_probe(measurement)
    if highest is None:
        return server.endpoint.usage(begun + measurement.load_started_s, time.monotonic())
    start = begun + highest.started_s
    return server.endpoint.usage(start, start + highest.duration_s)


def phase_of(progress: Progress) -> str:
    """`probe 86.1 req/s, p99 212 ms`; the percentile is one that the SLO limits."""
    if progress.rate_qps is None:
        return progress.phase
    shown, ms, limited = P99, progress.p99_ms, progress.limited
    if limited is not None and limited.metric in ("latency", "ttft", "tpot", "itl"):
        shown, ms = Percentile(limited.metric, limited.percentile), limited.ms
    time = "" if ms is None else f", {shown.name} {figure(ms)} ms"
    return f"{progress.phase} {figure(progress.rate_qps)} req/s{time}"
