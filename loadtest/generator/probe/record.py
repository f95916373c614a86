"""The record of a probe that is over: its figures, its verdict, and why it does not count where it does not."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from loadtest.figures import Percentiles
from loadtest.generator.load import Effort
from loadtest.generator.probe.running import RunningProbe
from loadtest.histogram import LatencyHistogram
from loadtest.judge.capacity import Probed
from loadtest.judge.percentile import percentile_ms
from loadtest.plan import Probe, Tokens
from loadtest.request.limits import Limit
from loadtest.request.reply import NO_PORT
from loadtest.request.request_log import Numbers, RequestLog
from loadtest.slo import Metric

_MAX_LATE_SHARE = 0.5  # of a probe's requests, that a standstill of the generator makes late
_BUSY = 0.95  # of one core: a generator process has one thread of work
_STARVED = 0.1  # of the time: answers are then read late, which looks as if they had come late
_STREAM_METRICS: tuple[Metric, ...] = ("ttft", "tpot", "per_token")


def probed(look: RunningProbe, effort: Effort, search_began: float, workers: int) -> Probed:
    """The probe with its evidence. `effort` is what it cost the generator's `workers` processes; `search_began` is on
    this process's clock, as the look's times are.
    """
    now, sent, counted = time.perf_counter(), look.sent, look.counted
    # From here on nothing is sent, so a pause does no harm.
    latencies, late = sent.latency[counted], sent.late[counted]
    waited_s = sent.waited(counted, now)
    histogram = LatencyHistogram.of(waited_s)
    late_p99_ms = float(np.quantile(late, 0.99)) * 1e3 if len(late) else 0.0
    late_by_s = look.late_by_s(now)
    # Tokens that are read late and together look as if they had come fast: then nothing is surely met either.
    tokens_untrue = look.criteria.flattered and effort.starved > _STARVED
    reason = ""
    if look.verdict != "met" or tokens_untrue:
        reason = _why_invalid(look, late_p99_ms, late_by_s, effort)
    limit = look.most_missed()
    stretch_s = now - look.begun
    throughput_qps, rate_qps = _rates(look, stretch_s)
    streaming = {} if effort.starved > _STARVED else _streaming(sent, counted)
    probe = Probe(
        rate_qps=rate_qps,
        verdict="invalid" if reason else look.verdict,
        reason=reason,
        started_s=look.begun - search_began,
        duration_s=stretch_s,
        requests=len(latencies),
        completed=int((~np.isnan(latencies)).sum()),
        disturbed=look.disturbed,
        misses=int((limit.values(sent)[counted] > limit.limit_s).sum()),
        limit=str(limit),
        errors=int(sent.failed[counted].sum()),
        error_kinds=sent.kinds_of(counted),
        achieved_qps=throughput_qps,
        p50_ms=histogram.percentile_ms(50),
        p95_ms=histogram.percentile_ms(95),
        p99_ms=percentile_ms(waited_s, 99, rate_qps),
        late_p99_ms=late_p99_ms,
        generator_cpu=effort.cores,
        generator_starved=min(1.0, effort.starved),
        workers=workers,
        streaming=streaming,
        tokens=_tokens(sent, counted, streaming, look.criteria.limits),
        tokens_per_s=sent.tokens / stretch_s if sent.tokens else None,
        histogram=histogram.encode(),
    )
    return Probed(
        probe, look.evidence, look.failures, requests=look.requests, opinion=look.opinion, late_by_s=late_by_s
    )


def _rates(look: RunningProbe, stretch_s: float) -> tuple[float, float]:
    """The throughput, and the rate that the probe is known by. A closed loop's throughput is what was answered, since
    each user waits for an answer at its end, and its rate is that too.
    """
    sent = look.sent
    if look.criteria.plan.users is None:
        return sent.count / stretch_s, look.rate_qps
    throughput_qps = int((~np.isnan(sent.latency[: sent.count]) & ~sent.failed[: sent.count]).sum()) / stretch_s
    return throughput_qps, throughput_qps


def _why_invalid(look: RunningProbe, late_p99_ms: float, late_by_s: float, effort: Effort) -> str:
    """Why a miss cannot be blamed on the server: the generator itself was late or busy, or the machine stood still.

    A generator that sends late only makes latencies look longer, so a rate that is met stays met. Where it shares
    cores with the server, a busy server makes it late: the miss stands, unless it is gone without the lateness. A
    generator that had to wait for a core makes no request later than by all that it waited: a server that hangs
    does not answer sooner for a quiet machine.
    """
    plan, limits = look.criteria.plan, look.criteria.limits
    sent, counted = look.sent, look.counted
    if NO_PORT in sent.kinds_of(counted):
        return f"this machine had {NO_PORT}"
    starved = f"the generator waited {min(1.0, effort.starved):.0%} of the time for a core that others used"
    if look.criteria.needs_whole_answers and effort.starved > _STARVED:
        return f"{starved}, so that no time of a token is known"
    if plan.users is not None:
        return ""
    if effort.cores >= _BUSY:
        return f"the generator used {effort.cores:.0%} of a core"
    starved_s = effort.starved * (time.perf_counter() - look.begun)
    if effort.starved > _STARVED and not plan.shares_cores and late_by_s <= starved_s:
        return starved
    if late_p99_ms <= look.criteria.tolerance_s * 1e3:
        return ""
    reason = f"the generator sent {late_p99_ms:.3g} ms late (p99)"
    shares = [float((limit.values(sent, as_sent=True)[counted] > limit.limit_s).mean()) for limit in limits]
    if plan.shares_cores:
        return reason if all(s <= limit.allowed for s, limit in zip(shares, limits, strict=True)) else ""
    # A standstill makes some requests late, but not most of a probe's.
    return reason if max(shares) < _MAX_LATE_SHARE else ""


def _streaming(sent: RequestLog, counted: Numbers) -> dict[Metric, Percentiles]:
    """Percentiles of what was streamed, failures left out: they are counted as errors. `itl` is every gap."""
    if sent.stream is None:
        return {}
    found: dict[Metric, Percentiles] = {}
    values = {metric: sent.values(metric)[counted] for metric in _STREAM_METRICS} | {"itl": sent.all_gaps(counted)}
    for metric, seconds in values.items():
        known = seconds[np.isfinite(seconds)]
        if len(known):
            at = [float(value) * 1e3 for value in np.quantile(known, (0.5, 0.9, 0.95, 0.99, 0.999))]
            found[metric] = Percentiles(p50_ms=at[0], p90_ms=at[1], p95_ms=at[2], p99_ms=at[3], p999_ms=at[4])
    return found


def _tokens(
    sent: RequestLog, counted: Numbers, streaming: Mapping[Metric, Percentiles], limits: Sequence[Limit]
) -> Tokens | None:
    """How many there were of each kind, and how many requests held all limits."""
    output, prompts = sent.token_counts(counted)
    if not len(output):
        return None
    between_ms = streaming["tpot"].p50_ms if "tpot" in streaming else 0.0
    good = [float((limit.values(sent)[counted] <= limit.limit_s).mean()) for limit in limits if limit.good_s]
    return Tokens(
        output_mean=float(output.mean()),
        input_mean=float(prompts.mean()) if prompts.all() else None,
        per_user_per_s=1e3 / between_ms if between_ms else None,
        good=min(good, default=None) if streaming else None,
        good_of=len(counted) if good and streaming else None,
    )
