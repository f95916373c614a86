"""Several endpoints, loaded at the same time: what they hold together, and what each would hold if the others idled.

A common rate holds when every endpoint holds its own SLO at its share of it, so the search for one endpoint's capacity
serves here too: a probe of a common rate is one of each endpoint's, all at once, and its evidence is that of them all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import gevent

from loadtest.figures import Interval
from loadtest.generator.background import BackgroundLoad, ask_alone
from loadtest.generator.probe.prober import OpenLoopProber, StopRule
from loadtest.generator.probe.server import ServerUnderTest
from loadtest.generator.quiet import Quiet, QuietProber
from loadtest.generator.reporter import ProgressReporter
from loadtest.generator.search import describe, refusal, saturate
from loadtest.generator.warmup import WarmUp, warm_up
from loadtest.judge.capacity import CapacityResult, CapacitySearch, Probed
from loadtest.judge.features import scale_qps
from loadtest.judge.widening import widened_interval
from loadtest.plan import JointPlan, LoadPlan, Measurement, Target, TargetMeasurement, Verdict

_ALONE_PRECISION = 0.08
T = TypeVar("T")


def common(plan: JointPlan) -> JointPlan:
    """The plan, with what is common to all targets in the plan of each."""
    shared = {
        "max_s": plan.max_s, "max_warmup_s": plan.max_warmup_s, "cores": plan.cores,
        "shares_cores": plan.shares_cores,
    }  # fmt: skip
    targets, background = (
        tuple(one.model_copy(update={"plan": one.plan.model_copy(update=shared)}) for one in of)
        for of in (plan.targets, plan.background)
    )
    return plan.model_copy(update={"targets": targets, "background": background})


@dataclass(frozen=True)
class LoadedTarget:
    """One endpoint and what loads it."""

    target: Target
    endpoint: ServerUnderTest

    @property
    def plan(self) -> LoadPlan:
        """How this endpoint alone is loaded, and what it must hold."""
        return self.target.plan


def measure_jointly(
    plan: JointPlan, services: Sequence[LoadedTarget], reporter: ProgressReporter,
    background: Sequence[BackgroundLoad] = (),
) -> Measurement:  # fmt: skip
    """Blocks for at most about `plan.max_s`."""
    quiet = Quiet.of(plan, reporter.remaining_s)
    return quiet.said(_measured(plan, services, reporter, quiet, background))


def _measured(
    plan: JointPlan, services: Sequence[LoadedTarget], reporter: ProgressReporter, quiet: Quiet,
    background: Sequence[BackgroundLoad],
) -> Measurement:  # fmt: skip
    warm, saturated, probers = [], [], []
    for service in services:
        found, disturbed = quiet.measured(partial(warm_up, service.endpoint, service.plan, reporter))
        warm.append(found)
        if why := refusal(service.plan, found, disturbed):
            refused = CapacityResult("infeasible", f"{service.target.name}: {why}")
            return _answer(services, refused, None, reporter, warm)
        base_s = found.base_s or 0.0
        bursts, _ = quiet.measured(partial(saturate, service.endpoint, base_s))
        saturated.append(scale_qps(bursts, base_s))
        probers.append(OpenLoopProber(service.endpoint, base_s, service.target.share))
    if (ended := ask_alone(background)) is not None:
        return _answer(services, ended, None, reporter, warm)
    max_qps = min(qps / service.target.share for qps, service in zip(saturated, services, strict=True))
    begun = time.perf_counter()
    # As much as for two of them alone, since it is this that a configuration is judged by.
    joint = _JointProber(services, probers, begun + 2 / (2 + len(services)) * reporter.remaining_s())
    min_share = min(service.target.share for service in services)
    attentive = QuietProber(joint.probe, joint.remaining_s, quiet, joint.drain, joint.parts.pop)
    search = CapacitySearch(attentive, max_qps, plan.precision, plan.first_rate_qps, min_share)
    with _running(background):
        answer = _answer(services, search.run(), max_qps, reporter, warm, joint, begun)
    beside = tuple(one.measured(answer, reporter.started) for one in background)
    answer = answer.model_copy(update={"background": beside})
    if answer.outcome != "measured":
        return answer
    alone = []
    for number, (service, found, qps) in enumerate(zip(services, warm, saturated, strict=True)):
        joint.drain()  # what the one before has left must not burden this one
        slice_s = reporter.remaining_s() / (len(services) - number)
        alone.append(_alone(OpenLoopProber(service.endpoint, found.base_s or 0.0), qps, slice_s, quiet))
    targets = tuple(one.model_copy(update={"alone_qps": qps}) for one, qps in zip(answer.targets, alone, strict=True))
    return answer.model_copy(update={"targets": targets, "load_s": time.perf_counter() - begun})


@contextmanager
def _running(background: Sequence[BackgroundLoad]) -> Iterator[None]:
    """Load the best-effort services meanwhile, and stop that whatever happens."""
    for one in background:
        one.start()
    try:
        yield
    finally:
        for one in background:
            one.stop()


def _alone(prober: OpenLoopProber, saturated_qps: float, slice_s: float, quiet: Quiet) -> Interval | None:
    """The rate that a service holds while the others are idle; None if there was too little time to find it."""
    slice_ = _Slice(prober, time.perf_counter() + slice_s)
    attentive = QuietProber(slice_.probe, slice_.remaining_s, quiet, prober.drain)
    found = CapacitySearch(attentive, saturated_qps, _ALONE_PRECISION).run()
    return None if found.capacity is None else widened_interval(found.capacity, found.probes, saturated_qps)


@dataclass(frozen=True)
class _Slice:
    """A `Prober` that has a part of the time only."""

    prober: OpenLoopProber
    ends: float

    def probe(self, rate_qps: float, at_most_s: float, edge_utilisation: float) -> Probed:
        return self.prober.probe(rate_qps, at_most_s, edge_utilisation)

    def remaining_s(self) -> float:
        return min(self.prober.remaining_s(), self.ends - time.perf_counter())


@dataclass(frozen=True)
class _JointProber:
    """A `Prober` of common rates. `parts` holds every endpoint's own part of each probe."""

    services: Sequence[LoadedTarget]
    probers: Sequence[OpenLoopProber]
    ends: float
    parts: list[list[Probed]] = field(default_factory=list)

    def probe(self, rate_qps: float, at_most_s: float, edge_utilisation: float) -> Probed:
        # All are drained before any is loaded, or one would have a stretch of the machine to itself.
        self.drain()
        ballot = _Ballot(len(self.services))
        longest_s = at_most_s + max(prober.wait_s for prober in self.probers)

        def part(number: int) -> Callable[[], Probed]:
            prober, own_qps = self.probers[number], rate_qps * self.services[number].target.share

            def load() -> Probed:
                stop = StopRule(partial(ballot.vote, number), lambda: ballot.over)
                try:
                    return prober.probe(own_qps, longest_s - prober.wait_s, edge_utilisation, stop=stop)
                finally:
                    ballot.over = True

            return load

        found = _all([part(number) for number in range(len(self.services))])
        self.parts.append(found)
        return _common(rate_qps, found, [service.target.name for service in self.services])

    def drain(self) -> None:
        """Let every endpoint answer what it was sent."""
        _all([prober.drain for prober in self.probers])

    def remaining_s(self) -> float:
        return min(self.probers[0].remaining_s(), self.ends - time.perf_counter())


class _Ballot:
    """When a common probe may end: one endpoint has surely missed its SLO, or all have surely met theirs; and when the
    part of one is over, since the others would have the machine to themselves.
    """

    def __init__(self, count: int) -> None:
        self._verdicts: list[Verdict] = ["undecided"] * count
        self.over = False

    def vote(self, number: int, verdict: Verdict) -> bool:
        self._verdicts[number] = verdict
        self.over = self.over or verdict == "missed" or set(self._verdicts) == {"met"}
        return self.over


def _common(rate_qps: float, parts: Sequence[Probed], names: Sequence[str]) -> Probed:
    """The probe of the endpoint that is worst off, at the common rate, with the evidence of them all."""
    invalid = [(name, one.probe) for name, one in zip(names, parts, strict=True) if one.verdict == "invalid"]
    worst = max(range(len(parts)), key=lambda number: (parts[number].too_many_errors, parts[number].tightest.distance))
    one = parts[worst]
    whole = Probed(one.probe, tuple(sample for part in parts for sample in part.evidence), one.failures, names[worst])
    probe = one.probe.model_copy(
        update={
            "rate_qps": rate_qps,
            "verdict": "invalid" if invalid else whole.verdict,
            "reason": f"{invalid[0][0]}: {invalid[0][1].reason}" if invalid else "",
            "achieved_qps": sum(part.probe.achieved_qps for part in parts),
        }
    )
    fewest = min(part.probe.requests for part in parts)
    return Probed(probe, whole.evidence, whole.failures, whole.target, fewest)


def _answer(
    services: Sequence[LoadedTarget], found: CapacityResult, saturated_qps: float | None, reporter: ProgressReporter,
    warm: Sequence[WarmUp], joint: _JointProber | None = None, begun: float | None = None,
) -> Measurement:  # fmt: skip
    slowest = max(warm, key=lambda one: one.base_s or 0.0)
    settled = all(one.settled for one in warm)
    whole = WarmUp(slowest.base_s, slowest.kinds, settled, next((one.points for one in warm if not one.settled), ()))
    since = time.perf_counter() if begun is None else begun
    answer = describe(services[0].plan, found, saturated_qps, reporter.started, since, whole)
    parts = [] if joint is None else joint.parts
    best = next((number for number, probe in enumerate(found.probes) if probe is found.best), None)
    targets = []
    for number, service in enumerate(services):
        own = None if best is None else parts[best][number].probe
        base_s = warm[number].base_s if number < len(warm) else None
        targets.append(
            TargetMeasurement(
                name=service.target.name,
                share=service.target.share,
                base_latency_ms=None if base_s is None else base_s * 1e3,
                p50_ms=own.p50_ms if own else None,
                p95_ms=own.p95_ms if own else None,
                p99_ms=own.p99_ms if own else None,
                error_rate=own.errors / own.requests if own and own.requests else None,
                probes=tuple(part[number].probe for part in parts),
            )
        )
    return answer.model_copy(update={"targets": tuple(targets)})


def _all(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Run all at the same time, and return what each returns. Raises what one of them raised."""
    running = [gevent.spawn(job) for job in jobs]
    try:
        gevent.joinall(running, raise_error=True)
        return [one.value for one in running]
    finally:
        gevent.killall(running)
