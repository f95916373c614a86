"""One plan from start to end: warm-up, saturating burst, capacity search, measurement."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable

from loadtest.capacity import CapacitySearch, Found
from loadtest.plan import LoadPlan, Measurement, Progress
from loadtest.probe import OpenLoopProber
from loadtest.pulse import Pulse
from loadtest.reply import Send

_STEADY = 0.10  # two successive batches of lone requests agree to this relative difference of medians
_BATCH = 8
_LEAST_WARMUP_S = 1.0
_BURST_S = 1.0


def measure(plan: LoadPlan, send: Send, report: Callable[[Progress], None]) -> Measurement:
    """Blocks for at most about `plan.max_s`; `report` is called about twice a second."""
    started = time.perf_counter()
    with Pulse(report, started, plan.max_s) as pulse:
        return _measure(plan, send, pulse.report, started)


def _measure(plan: LoadPlan, send: Send, report: Callable[[Progress], None], started: float) -> Measurement:
    prober = OpenLoopProber(plan, send, report, started)
    report(Progress(phase="warmup", elapsed_s=0.0, fraction=0.0))
    until = started + min(plan.max_warmup_s, plan.max_s)
    base_s, kinds = _warm_up(prober, until, lambda: report(_warming(plan, started)))
    if base_s is None:
        reason = _nothing_answered(kinds)
        return _measurement(plan, Found("infeasible", reason), started, time.perf_counter(), base_s)
    prober.base_s = base_s
    limit_s = _median_limit_s(plan)
    if limit_s is not None and base_s > limit_s:
        reason = f"a lone request takes {base_s * 1e3:.3g} ms at the median, the limit is {limit_s * 1e3:g} ms"
        return _measurement(plan, Found("infeasible", reason), started, time.perf_counter(), base_s)
    saturated = _saturate(prober, plan, lambda: report(_warming(plan, started)))
    warm = time.perf_counter()
    found = CapacitySearch(prober, saturated, plan.precision, plan.first_rate_qps).run()
    return _measurement(plan, found, started, warm, base_s)


def _warm_up(prober: OpenLoopProber, until: float, report: Callable[[], None]) -> tuple[float | None, Counter[str]]:
    """Lone requests until two successive batches agree; the median latency of the last, in seconds.

    None where most requests failed; the counter says how.
    """
    begun, previous = time.perf_counter(), None
    failed: Counter[str] = Counter()
    while True:
        latencies, kinds = prober.lone(_BATCH, until)
        report()
        failed += kinds
        now = time.perf_counter()
        if len(latencies) <= kinds.total():
            if now >= until or failed.total() >= 3 * _BATCH:
                return None, failed
            continue
        median = statistics.median(latencies)
        steady = previous is not None and abs(median / previous - 1) <= _STEADY
        if (steady and now - begun >= _LEAST_WARMUP_S) or now >= until:
            return median, failed
        previous = median


def _saturate(prober: OpenLoopProber, plan: LoadPlan, report: Callable[[], None]) -> float:
    """Throughput of closed-loop bursts: a first one, then one with as many in flight as the limit would allow.

    Little's law: at throughput X and latency at the limit L there are X*L requests in the system.
    """
    longest_s = max(limit.limit_ms for limit in plan.slo.latency) / 1e3
    burst_s = min(_BURST_S, 0.06 * plan.max_s)
    first, _ = prober.burst(8, burst_s)
    report()
    second, _ = prober.burst(min(512, max(12, round(2 * first * longest_s))), burst_s)
    report()
    return max(first, second, 0.5 / prober.base_s)


def _median_limit_s(plan: LoadPlan) -> float | None:
    """The tightest limit that at least half of all requests must hold."""
    return min((limit.limit_ms for limit in plan.slo.latency if limit.percentile >= 50), default=0.0) / 1e3 or None


def _warming(plan: LoadPlan, started: float) -> Progress:
    elapsed = time.perf_counter() - started
    return Progress(phase="warmup", elapsed_s=elapsed, fraction=min(1.0, elapsed / plan.max_s))


def _nothing_answered(kinds: Counter[str]) -> str:
    shown = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common(3))
    return f"most requests of the warm-up failed: {shown or 'none was answered in time'}"


def _measurement(plan: LoadPlan, found: Found, started: float, warm: float, base_s: float | None) -> Measurement:
    best = found.best
    notes = []
    if plan.shares_cores:
        notes.append("The load generator shared CPU cores with the server, so the capacity may be understated.")
    if found.client_limited:
        notes.append("The load generator was the limit: the capacity is a lower bound.")
    return Measurement(
        outcome=found.outcome,
        reason=found.reason,
        capacity_qps=found.capacity,
        bound_qps=found.bound_qps,
        p50_ms=best.p50_ms if best else None,
        p95_ms=best.p95_ms if best else None,
        p99_ms=best.p99_ms if best else None,
        error_rate=best.errors / best.requests if best and best.requests else None,
        base_latency_ms=None if base_s is None else base_s * 1e3,
        client_limited=found.client_limited,
        warmup_s=warm - started,
        load_s=time.perf_counter() - warm,
        load_started_s=warm - started,
        probes=found.probes,
        notes=tuple(notes),
    )
