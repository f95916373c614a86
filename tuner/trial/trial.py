"""One trial: launch a configuration, measure it, and say what came of it.

What a server does wrong becomes a record with a reason; only what no trial could survive (the runner itself is
unavailable) is raised.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from loadtest import LoadTestError, WrongLocustfile
from results import (
    Costs,
    Estimate,
    Identity,
    Latencies,
    Observations,
    ServerFacts,
    Timing,
    TrialEvidence,
    TrialRecord,
    Use,
)
from results.text import duration
from runners import Infeasible, RunnerUnavailable, ServerFailed, out_of_memory
from search_spaces.masking import masked_values
from search_spaces.reading import foreign
from tuner.launch.checks.runnable import NOT_HERE, why_refused, why_unfit
from tuner.launch.render import TrialLaunch
from tuner.search.objective import UNREADY, cost_per_million_requests
from tuner.trial.chain import UNREACHABLE, inner_url, reachable
from tuner.trial.evidence import gather, memory_growth
from tuner.trial.findings import Findings
from tuner.trial.server import TrialServer
from tuner.trial.setup import OnPhase, TrialJob, TrialRequest, TrialSetup, naming

_NOTHING_LEFT = (
    "and with a longer start its load might go beyond the time or the money of the run: allow more, or shorten "
    "load.max_trial"
)


class NotRemovedError(RunnerUnavailable):
    """Raised if what a trial launched could not be removed, so that no other trial may follow. Its `record` counts."""

    def __init__(self, reason: str, record: TrialRecord) -> None:
        super().__init__(reason)
        self.record = record


def run_trial(setup: TrialSetup, request: TrialRequest, on_phase: OnPhase) -> TrialRecord:
    """Launch, measure, stop. Raises RunnerUnavailable (NotRemovedError with the record), SpecError for a wrong
    locustfile, and KeyboardInterrupt; always with everything stopped.
    """
    begun = time.monotonic()
    folder = setup.trials / request.folder_name
    setup.trials.mkdir(mode=0o700, parents=True, exist_ok=True)  # logs and requests may hold what is nobody else's
    folder.mkdir(parents=True, exist_ok=True)
    trial = _Trial(_job(setup, request, folder, on_phase))
    findings = trial.run()
    record = trial.record(findings, begun)
    (folder / "trial.json").write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if trial.not_removed is not None:
        raise NotRemovedError(str(trial.not_removed), record) from trial.not_removed
    return record


def _job(setup: TrialSetup, request: TrialRequest, folder: Path, on_phase: OnPhase) -> TrialJob:
    study = setup.loaded.spec.service.name
    group = f"{study}/{request.folder_name}" if setup.loaded.colocated else None
    # A second measurement starts as a container does that is deployed: nothing is compiled yet.
    cache = folder / "cache" if request.confirmation else setup.cache
    if request.confirmation:
        shutil.rmtree(cache, ignore_errors=True)  # of a measurement that was interrupted
    begun = time.monotonic()

    def go_on() -> None:
        on_phase("launch", 0.0)
        took_s = time.monotonic() - begun
        if took_s > request.launch_s(took_s):
            raise ServerFailed(f"{UNREADY} after {duration(took_s)}, {_NOTHING_LEFT}")

    launch = TrialLaunch(study, request.number, folder, cache, bool(request.confirmation), group, go_on)
    servers = [TrialServer(one, request.configuration, launch) for one in setup.services]
    return TrialJob(setup, request, folder, servers, on_phase)


@dataclass(frozen=True)
class _Launched:
    """What is known once all servers are ready; nothing where they did not become so."""

    timing: Timing = field(default_factory=Timing)
    facts: ServerFacts = field(default_factory=ServerFacts)


class _Trial:
    """`not_removed` is set where what was launched could not be removed after it was measured."""

    def __init__(self, job: TrialJob) -> None:
        self._job, self._setup = job, job.setup
        self._price = job.setup.price(job.request.configuration)
        self._launched = _Launched()
        self._teardown_s: float | None = None
        self.not_removed: RunnerUnavailable | None = None

    def run(self) -> Findings:
        """Raises what `run_trial` raises, but for NotRemovedError."""
        loaded, configuration = self._setup.loaded, self._job.request.configuration
        if unfit := why_unfit(loaded, configuration):
            return Findings("infeasible", unfit)
        if refusal := why_refused(loaded, self._setup.runner, configuration):
            return Findings("infeasible", f"{NOT_HERE}: {refusal}")
        if self._job.break_even_qps(self._price) == float("inf"):
            return Findings("pruned", "one such container alone costs more than the best configuration")
        try:
            return self._launch_and_measure()
        except Infeasible as error:
            p99 = None if error.p99_ms is None else Estimate.exactly(error.p99_ms)
            return Findings("infeasible", str(error), latencies=Latencies(p99_ms=p99))
        except ServerFailed as error:
            if said := out_of_memory(error.log_tail):
                return Findings("infeasible", f"out of memory, the server says: {said}", error.log_tail)
            return Findings("failed", error.reason, error.log_tail or None)
        except WrongLocustfile as error:
            what = foreign(str(error).removeprefix("locustfile: "))
            raise self._setup.loaded.error(("load", "locustfile"), what) from error
        except LoadTestError as error:
            why = f"the load test could not run: {error}"
            return Findings("failed", why, observations=Observations(bottleneck="client"))

    def _launch_and_measure(self) -> Findings:
        findings = None
        try:
            with ExitStack() as stack:
                findings = self._measured(stack)
                self._job.on_phase("stop", 1.0)
                stopping = time.monotonic()
            self._teardown_s = time.monotonic() - stopping
        except RunnerUnavailable as error:
            if findings is None:
                raise
            self.not_removed = error
        return findings

    def _measured(self, stack: ExitStack) -> Findings:
        """Launch and measure. Whatever was launched is stopped when the stack is closed."""
        self._job.on_phase("launch", 0.0)
        generator = stack.enter_context(self._setup.measurer.ready(near=self._setup.runner.near))
        self._launch_all(stack)
        self._launched = _launched(self._job.servers)
        if generator is not None:
            # First the clients go: many servers, asked to stop, wait for those that are still connected.
            stack.callback(generator.close)
        for server in self._job.servers:
            with naming(server):
                server.check_quality(lambda: self._job.on_phase("quality", 0.0))
        findings = self._setup.measurer.measure(self._job, generator)
        if generator is not None:
            generator.close()
        return findings

    def _launch_all(self, stack: ExitStack) -> None:
        """Launch all services; in a chain, called services first, since their callers are started with their
        addresses.
        """
        chain, urls = self._setup.loaded.chain, dict[str, str]()
        for server in self._job.servers if chain is None else self._job.servers[::-1]:
            with naming(server):
                reached = {name: urls[name] for name in server.loaded.calls}
                server.launch(self._setup.runner, stack, reached)
                urls[server.service.name] = inner_url(server.endpoint)
                runner = self._setup.loaded.spec.runner
                if server.loaded.is_called and not reachable(runner, server.endpoint.url):
                    raise RunnerUnavailable(UNREACHABLE)

    def record(self, findings: Findings, begun: float) -> TrialRecord:
        """The record, complete, once the launch is over. Secrets that a server echoed are masked in it."""
        evidence, growth = self._evidence(findings)
        price = self._price if findings.price_per_hour is None else findings.price_per_hour
        capacity, cost = findings.rates.capacity_qps, None
        if capacity is not None and price is not None and capacity.value > 0:
            cost = cost_per_million_requests(price, capacity.value)
        timing, loading = self._launched.timing, findings.loading
        record = TrialRecord.of(
            Identity(
                number=self._job.request.number, state=findings.state, reason=findings.reason,
                log_tail=findings.log_tail, configuration=dict(self._job.request.configuration),
            ),
            findings.rates,
            findings.latencies,
            Costs(cost_per_hour=price, cost_per_million_requests=cost),
            Timing(
                cold_start_s=timing.cold_start_s, launch_s=timing.launch_s, warmup_s=loading.warmup_s,
                load_s=loading.load_s, teardown_s=self._teardown_s, wall_s=time.monotonic() - begun,
                final_round=self._job.request.final_round, at_once=self._job.request.at_once,
            ),
            _use(findings, growth if findings.state == "complete" else None),
            self._launched.facts.model_copy(update=dict(findings.counted)),
            findings.observations,
        )  # fmt: skip
        return TrialRecord.model_validate(masked_values(record.model_dump(mode="json")) | {"evidence": evidence})

    def _evidence(self, findings: Findings) -> tuple[TrialEvidence, float | None]:
        """What the figures rest on, and how fast memory grew under load (a queue that is overrun grows by itself)."""
        servers = [(server.folder, server.begun) for server in self._job.servers]
        evidence = gather(servers, findings.measurement)
        if findings.measurement is None:
            return evidence, None
        loaded_s = (self._launched.timing.launch_s or 0.0) + findings.measurement.load_started_s
        return evidence, memory_growth(evidence.usage, loaded_s)


def _launched(servers: Sequence[TrialServer]) -> _Launched:
    first = servers[0].endpoint
    cold_start_s = max(server.endpoint.cold_start_s for server in servers) if first.reused_from is None else None
    return _Launched(
        Timing(launch_s=sum(server.launch_s for server in servers), cold_start_s=cold_start_s),
        ServerFacts(image=first.image, reused_from=first.reused_from),
    )


def _use(findings: Findings, growth: float | None) -> Use:
    usage = findings.usage
    return Use(
        cpu_cores_used=usage.cpu_cores_mean,
        memory_peak_bytes=usage.memory_peak_bytes,
        gpu_utilization=usage.gpu_utilization,
        gpu_memory_peak_bytes=usage.gpu_memory_peak_bytes,
        gpu_power_w=usage.gpu_power_w,
        gpu_clock_mhz=usage.gpu_clock_mhz,
        gpu_throttling=usage.gpu_throttling,
        throttled_share=usage.throttled_share,
        memory_growth_bytes_per_s=growth,
    )
