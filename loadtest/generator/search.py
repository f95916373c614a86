"""One plan from start to end: warm-up, saturating burst, capacity search, measurement."""

from __future__ import annotations

import math
import re
import time
from collections import defaultdict
from dataclasses import replace
from functools import partial

import numpy as np

from loadtest.figures import Interval
from loadtest.generator.probe.prober import OpenLoopProber, StopRule
from loadtest.generator.probe.server import ServerUnderTest
from loadtest.generator.quiet import Quiet, QuietProber
from loadtest.generator.reporter import ProgressReporter
from loadtest.generator.warmup import WarmUp, warm_up
from loadtest.judge import network
from loadtest.judge.burst import BurstResult, crowd_after, longest_s, next_users, telling
from loadtest.judge.capacity import CapacityResult, Prober, digits, missed_by
from loadtest.judge.changed import changed
from loadtest.judge.features import ARRIVALS, Query
from loadtest.judge.inference import ServerPosterior
from loadtest.judge.search import ServerSearch
from loadtest.judge.widening import gain_of
from loadtest.neighbours import Neighbours
from loadtest.plan import ONE_LAUNCH, WARMUP_FAILED, LoadPlan, Measurement, Outcome
from loadtest.request.vocabulary import vocabulary
from loadtest.slo import LatencyLimit

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_CLOSED_S = 30.0
_SLOW_QPS = 1.0
_PROBES_SHARE = 0.5  # of the time, which is left for probes before there are further bursts with more users
_ANSWERS = 3.0  # lone ones: as long as a whole answer may take where only the times of its tokens are limited
_SLOW_SHARE = 0.01  # of the time, from which on a request is long: warm-up and bursts are many of them, in turns
_EDGE = 0.85  # of what it can do: where a server's limit usually is, as long as nothing is known


def measure(plan: LoadPlan, endpoint: ServerUnderTest, reporter: ProgressReporter) -> Measurement:
    """Blocks for at most about `plan.max_s`."""
    quiet = Quiet.of(plan, reporter.remaining_s)
    warm, disturbed = quiet.measured(lambda: warm_up(endpoint, plan, reporter))
    if why := refusal(plan, warm, disturbed):
        return quiet.said(
            describe(plan, CapacityResult("infeasible", why), None, reporter.started, time.perf_counter(), warm)
        )
    base_s = warm.base_s or 0.0
    prober = OpenLoopProber(endpoint, base_s)
    if plan.rates_qps or plan.users is not None:
        saturated_qps, begun = None, time.perf_counter()
        whole = QuietProber(partial(prober.probe, stop=StopRule(whole=True)), prober.remaining_s, quiet, prober.drain)
        found = _at_rates(whole, plan) if plan.users is None else _with_users(whole, plan.users, base_s)
    else:
        bursts, _ = quiet.measured(lambda: saturate(endpoint, base_s))
        begun = time.perf_counter()
        posterior = ServerPosterior(network.load(), _queries(plan), np.array(warm.lone_s), bursts)
        saturated_qps = posterior.scale_qps
        attentive = QuietProber(prober.probe, prober.remaining_s, quiet, prober.drain)
        found = ServerSearch(attentive, posterior, plan.precision, plan.first_rate_qps).run()
        if not found.probes and base_s > _SLOW_SHARE * plan.max_s:
            found = replace(found, reason=f"{found.reason}, since a lone request takes {base_s:.2g} s")
    # Each user waits for one answer after the other: more than that so many cannot ask for, however free the machine.
    most_qps = math.inf if plan.users is None else plan.users / min(warm.lone_s)
    return quiet.said(describe(plan, found, saturated_qps, reporter.started, begun, warm), most_qps)


def refusal(plan: LoadPlan, warm: WarmUp, disturbed: Neighbours | None) -> str:
    """Why no capacity can be searched for; empty if one can. What neighbours alone may have caused is no reason."""
    if warm.base_s is None:
        shown = ", ".join(f"{kind} ({count})" for kind, count in warm.kinds.most_common(3))
        return f"{WARMUP_FAILED}: {shown or 'none was answered in time'}"
    limits = [limit.limit_ms for limit in plan.slo.latency if limit.percentile >= 50 and limit.metric == "latency"]
    alone_s = warm.base_s / gain_of(disturbed.taken if disturbed and disturbed.disturbed else 0.0)
    if limits and alone_s * 1e3 > min(limits):
        return f"a lone request takes {warm.base_s * 1e3:.3g} ms at the median, the limit is {min(limits):g} ms"
    return ""


def saturate(endpoint: ServerUnderTest, base_s: float) -> list[BurstResult]:
    """Closed-loop bursts that show about the most that a server can do whose lone requests take `base_s`."""
    plan = endpoint.plan
    whole = any("latency" in (limit.metric, *limit.good_ms) for limit in plan.slo.latency)
    answer_s = max(limit.limit_ms for limit in plan.slo.latency) / 1e3 + (0.0 if whole else _ANSWERS * base_s)
    found: list[BurstResult] = []

    def crowd() -> int | None:
        return crowd_after(found, plan.max_s) if endpoint.remaining_s() > _PROBES_SHARE * plan.max_s else None

    while (users := next_users(found, answer_s) or crowd()) is not None:
        endpoint.recover(base_s, min(2 * answer_s, endpoint.remaining_s() / 8))
        found.append(endpoint.burst(users, longest_s(plan.max_s, base_s)))
        endpoint.reporter.moved("warmup")
    return telling(found)


def _queries(plan: LoadPlan) -> list[Query]:
    """What the network is asked, per limit. It knows three times: whatever is per token is read as the time between
    tokens, and a goodput as the time to the first one, where that has a limit.
    """
    kind = plan.arrivals if plan.arrivals in ARRIVALS else "poisson"
    return [Query(one.limit_ms / 1e3, 1 - one.percentile / 100, _learned(one), kind) for one in plan.slo.latency]


def _learned(limit: LatencyLimit) -> str:
    among = set(limit.good_ms) or {limit.metric}
    return next((name for name in ("ttft", "latency") if name in among), "itl")


def _at_rates(prober: Prober, plan: LoadPlan) -> CapacityResult:
    """Every rate for its full time; no rate's failure ends the others."""
    probed = [prober.probe(rate, plan.rate_s, _EDGE) for rate in plan.rates_qps if prober.remaining_s() > 1]
    if not probed:
        return CapacityResult("invalid", "the time was over before the first probe")
    probes = tuple(one.probe for one in probed)
    held = [one.probe for one in probed if one.holds]
    return CapacityResult("measured", best=max(held, key=lambda probe: probe.rate_qps, default=None), probes=probes)


def _with_users(prober: Prober, users: int, base_s: float) -> CapacityResult:
    """A closed loop: the throughput of so many users, if they are served within the SLO."""
    probed = prober.probe(users / max(1e-3, base_s), min(_CLOSED_S, prober.remaining_s()), _EDGE)
    probe = probed.probe
    if probed.verdict == "invalid":
        return CapacityResult("invalid", probe.reason, probes=(probe,))
    if not probed.holds:
        outcome: Outcome = "infeasible" if probed.gain == 1 else "invalid"  # neighbours may have caused it
        return CapacityResult(outcome, f"with {users} users, {missed_by(probed)}", probes=(probe,))
    spread = 1.96 * probe.achieved_qps / max(1, probe.requests) ** 0.5
    capacity = Interval(
        value=probe.achieved_qps, low=max(0.0, probe.achieved_qps - spread), high=probe.achieved_qps + spread
    )
    return CapacityResult("measured", capacity=capacity, best=probe, probes=(probe,))


def describe(
    plan: LoadPlan, found: CapacityResult, saturated_qps: float | None, started: float, warm_at: float, warm: WarmUp
) -> Measurement:
    """What was found, as an answer to the plan; times are those of this process's clock."""
    best = found.best
    return Measurement(
        outcome=found.outcome,
        reason=found.reason,
        capacity_qps=found.capacity,
        bound_qps=found.bound_qps,
        saturated_qps=saturated_qps,
        p50_ms=best.p50_ms if best else None,
        p95_ms=best.p95_ms if best else None,
        p99_ms=best.p99_ms if best else None,
        error_rate=best.errors / best.requests if best and best.requests else None,
        base_latency_ms=None if warm.base_s is None else warm.base_s * 1e3,
        best_qps=best.rate_qps if best else None,
        best_requests=best.requests if best else None,
        streaming=best.streaming if best else {},
        tokens=best.tokens if best else None,
        certainty=found.certainty,
        at_least_qps=found.at_least_qps,
        at_most_qps=found.at_most_qps,
        unlike_known=found.unlike_known,
        client_limited=found.client_limited,
        settled=warm.settled,
        warmup=warm.points,
        warmup_s=warm_at - started,
        load_s=time.perf_counter() - warm_at,
        load_started_s=warm_at - started,
        probes=found.probes,
        notes=tuple(_notes(plan, found, warm)),
    )


def _notes(plan: LoadPlan, found: CapacityResult, warm: WarmUp) -> list[str]:
    notes = []
    if not warm.settled:
        notes.append(f"Latency or throughput had not settled when {plan.max_warmup_s:g} s of warm-up were over.")
    if (lost := len(plan.rates_qps) - len(found.probes)) > 0:
        notes.append(f"{lost} of {len(plan.rates_qps)} rates were not tried: max_s was over.")
    if plan.shares_cores:
        notes.append("The load generator shared CPU cores with the server, so the capacity may be understated.")
    if plan.request.stream and any(probe.tokens_per_s and not probe.streaming for probe in found.probes):
        notes.append("Where the load generator waited for a core, no times of tokens are reported.")
    if plan.request.llm is not None and (note := vocabulary(plan.request.llm.tokenizer).note):
        notes.append(note)
    if found.certainty == "uncertain" and found.at_least_qps and found.at_most_qps:
        ends = f"at least {digits(found.at_least_qps)} and at most {digits(found.at_most_qps)} requests/s"
        notes.append(f"{ONE_LAUNCH} shows a capacity of {ends}: more load would tell.")
    if found.unlike_known:
        notes.append(
            "The server is unlike any server we know: its interval rests on counts of late requests, and is wide."
        )
    if (seen := changed(found.probes)) is not None:
        notes.append(seen)
    if found.client_limited:
        notes.append("The load generator was the limit: the capacity is a lower bound.")
    if found.capacity is not None and found.capacity.value < _SLOW_QPS and plan.users is None:
        notes.append("Below one request per second a load test sees few requests; the interval says how few.")
    return [*notes, *_left_out(found)]


def _left_out(found: CapacityResult) -> list[str]:
    """A note for each kind of reason why probes did not count. Of reasons that differ only in figures, the largest."""
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for probe in found.probes:
        if probe.verdict == "invalid":
            kinds[_NUMBER.sub("", probe.reason)].append(probe.reason)
    notes = []
    for reasons in kinds.values():
        worst = max(reasons, key=lambda reason: [float(number) for number in _NUMBER.findall(reason)])
        at_worst = "" if len(set(reasons)) == 1 else " (in the worst of them)"
        notes.append(f"{len(reasons)} of {len(found.probes)} probes did not count: {worst}{at_worst}.")
    return notes
