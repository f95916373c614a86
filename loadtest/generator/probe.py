"""Loads a server and judges what comes back. Runs inside the generator's gevent loop."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import gevent
import numpy as np

from loadtest.arrivals.arrivals import Arrivals
from loadtest.generator.load import Effort, Load, LoadSegment, lone
from loadtest.generator.reporter import ProgressReporter
from loadtest.generator.stalls import undisturbed
from loadtest.histogram import LatencyHistogram
from loadtest.judge.burst import Burst, enough
from loadtest.judge.capacity import Opinion, Probed
from loadtest.judge.features import Requests
from loadtest.judge.percentile import percentile_ms
from loadtest.judge.settling import settle_s
from loadtest.judge.verdict import Evidence, Failures, Stretch, judge
from loadtest.plan import LoadPlan, Percentiles, Probe, Tokens, Verdict
from loadtest.request.limits import Limit, limits, tolerance_s
from loadtest.request.reply import NO_PORT, Send
from loadtest.request.request_log import Numbers, RequestLog
from loadtest.slo import Metric

_MIN_COUNTED_S = 1.5  # a hiccup at the start must not decide a probe
_MIN_HOPELESS_S, _HOPELESS = 0.75, 0.9  # except where that share of all requests is late
_LOOK_S = 0.25
_STREAMED = 2.0  # times a lone answer's duration: what is streamed under load
_LOW_PRIORITY, _FAST_QPS = 19, 2000.0
_LOOK_GROWTH = 1.25  # look again only when there is this much more evidence
_MAX = 0.5
_MAX_IN_FLIGHT = 10_000
_DRAIN_S, _RECOVER_S = 5.0, 2.0  # at most
_BUSY = 0.95  # of one core: a generator process has one thread of work
_STARVED = 0.1  # of the time: answers are then read late, which looks as if they had come late
_STREAM_METRICS: tuple[Metric, ...] = ("ttft", "tpot", "per_token")


def _is_sure(verdict: Verdict) -> bool:
    return verdict in ("met", "missed")


@dataclass
class _Look:
    """What one probe is, and what of it counts so far."""

    rate_qps: float
    edge_utilisation: float
    begun: float
    sent: RequestLog
    counted: Numbers
    disturbed: int = 0
    stretch: tuple[Stretch, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    failures: Failures | None = None
    requests: tuple[Requests, ...] = ()
    opinion: Verdict | None = None  # of an inference that knows more than this probe

    @property
    def verdict(self) -> Verdict:
        return self.opinion or judge(self.evidence, self.failures)

    @property
    def hopeless(self) -> bool:
        """Whether nearly all requests missed some limit."""
        return any(one.requests and one.misses >= _HOPELESS * one.requests for one in self.evidence)


class OpenLoopProber:
    """One server, one plan. `load` may be changed between probes."""

    def __init__(self, plan: LoadPlan, send: Send, load: Load, arrivals: Arrivals, reporter: ProgressReporter) -> None:
        self._plan, self._send, self.load, self._arrivals, self._reporter = plan, send, load, arrivals, reporter
        self._limits = limits(plan)
        self._longest_s = max(limit.limit_s for limit in self._limits)
        # Only a latency can be judged before the answer is complete; other times are known when it is.
        self._patient = any(limit.metric != "latency" for limit in self._limits)
        self._flattered = any(limit.flattered for limit in plan.slo.latency)
        self._tolerance_s = tolerance_s(plan)
        self._probes, self._must_recover = 0, False
        self.base_s = 0.0
        self.share = 1.0  # of a common rate, where other endpoints are loaded at the same time
        self.reinforce: Callable[[], None] | None = None  # more generator processes, where there are cores for them

    def remaining_s(self) -> float:
        """Time left for the whole search."""
        return self._reporter.remaining_s()

    @property
    def wait_s(self) -> float:
        """How long after it was due a request can be judged, as a rule."""
        patience_s = min(self._plan.request_timeout_s, _STREAMED * self.base_s) if self._patient else 0.0
        return max(self._longest_s, patience_s)

    @property
    def _memory_s(self) -> float:
        """How long what happened to a request is felt by others."""
        return self._longest_s + (self.base_s if self._patient else 0.0)

    def lone(self, count: int, until: float) -> tuple[list[float], Counter[str]]:
        """Requests one after the other: their latencies, and what went wrong with those that failed."""
        return lone(self._send, count, until)

    def burst(self, users: int, longest_s: float) -> Burst:
        """A closed loop until each user was answered a few times, for so long at most."""
        longest_s = min(longest_s, max(0.1, self.remaining_s()))
        begun = self.load.start(LoadSegment(1.0, 0, longest_s, users))
        passed_s = done = 0.0
        while not enough(users, int(done), passed_s, longest_s):
            gevent.sleep(min(_LOOK_S, max(0.01, longest_s - passed_s)))
            passed_s, sent = time.perf_counter() - begun, self.load.sent()
            done = int((~np.isnan(sent.latency[: sent.count]) & ~sent.failed[: sent.count]).sum())
        self.load.stop()
        sent = self.load.sent()
        self.load.drain(0.0)
        rows = slice(0, sent.count)
        return Burst.of(
            users, passed_s, sent.scheduled[rows] - begun, sent.latency[rows].copy(), sent.failed[rows].copy()
        )

    def probe(
        self, rate_qps: float, at_most_s: float, edge_utilisation: float = 0.85, *, whole: bool = False,
        enough: Callable[[Verdict], bool] = _is_sure, ended: Callable[[], bool] = lambda: False,
        opinion: Opinion | None = None,
    ) -> Probed:  # fmt: skip
        """One stretch of load, ended as soon as its verdict is `enough`, or `whole`, or from outside. In a closed loop
        the rate is a guess.

        The server is drained before it, not after: the last probe of a search need not wait for what it left behind.
        A request can only be judged when it has waited as long as the longest limit, so the stretch is that much longer
        than `at_most_s`, where the time of the whole search allows.
        """
        self.drain()
        self._probes += 1
        longest_s = min(at_most_s + self.wait_s, max(0.0, self.remaining_s()))
        begun = self.load.start(
            LoadSegment(rate_qps, self._plan.seed * 7919 + self._probes, longest_s, self._plan.users)
        )
        look = _Look(rate_qps, edge_utilisation, begun, self.load.sent(), np.arange(0))
        self._watch(look, begun + longest_s, longest_s, enough, ended, opinion, whole=whole)
        found = self._judged(look, self.load.stop())
        if found.verdict == "invalid" and self.reinforce is not None:
            self.load.drain(0.0)
            self.reinforce()
            self.reinforce = None
        self._must_recover = found.verdict != "met"
        return found

    def _watch(
        self, look: _Look, end: float, longest_s: float, enough: Callable[[Verdict], bool],
        ended: Callable[[], bool], opinion: Opinion | None, *, whole: bool,
    ) -> None:  # fmt: skip
        """Look at the evidence until it decides. A look takes milliseconds, so a thread takes it: arrivals go on."""
        unsettled_s = settle_s(self._memory_s, longest_s, counts_alone=opinion is None)
        since, looked, p99_ms = look.begun + unsettled_s, 0, None
        least_s = max(_MIN_COUNTED_S, min(self._arrivals.cycle_s, longest_s))
        while True:
            gevent.sleep(_LOOK_S)
            now = time.perf_counter()
            look.sent = self.load.sent()
            over = now >= end or ended() or self.load.in_flight() > _MAX_IN_FLIGHT
            until = self._judgeable(look.sent)
            judged = look.sent.between(since, until)
            if over or len(judged) >= max(10, _LOOK_GROWTH * looked):
                looked = len(judged)
                self._count(look, judged)
                if over or not whole:
                    gevent.get_hub().threadpool.apply(self._weigh, (look, opinion))
                passed_s = until - since
                long_enough = not whole and passed_s >= (min(_MIN_HOPELESS_S, least_s) if look.hopeless else least_s)
                if over or (long_enough and enough(look.verdict)):
                    return
                if len(look.counted):
                    p99_ms = float(np.quantile(look.sent.waited(look.counted, now), 0.99)) * 1e3
            self._reporter.moved("probe", None if self._plan.users else look.rate_qps / self.share, p99_ms)

    def _judgeable(self, sent: RequestLog) -> float:
        """Requests that were due before that time can be judged."""
        known = self.load.known_until()
        if not self._patient:
            return known - self._longest_s
        unanswered = np.flatnonzero(np.isnan(sent.latency[: sent.count]))
        oldest = float(sent.scheduled[unanswered[0]]) if len(unanswered) else known
        return max(oldest, known - self._plan.request_timeout_s)

    def _count(self, look: _Look, judged: Numbers) -> None:
        """Settle what counts, and copy it: the load goes on while it is weighed."""
        sent, users = look.sent, self._plan.users is not None
        shared = self._plan.shares_cores or users
        kept = undisturbed(sent.scheduled[judged], self.load.stalls(), self._memory_s) if not shared else None
        look.counted = judged if kept is None else judged[kept]
        look.disturbed = len(judged) - len(look.counted)
        counts = np.zeros(sent.count, dtype=bool)
        counts[look.counted] = True
        times = sent.scheduled[: sent.count] - look.begun
        rate = sent.count / max(1e-6, float(times[-1])) if users and sent.count else look.rate_qps
        look.stretch = tuple(
            Stretch(
                times.copy(),
                limit.values(sent),
                counts,
                rate,
                self._arrivals.correlated_s + (0.0 if limit.metric == "latency" else self.base_s),
                self._arrivals.poisson and limit.metric == "latency",
            )
            for limit in self._limits
        )
        allowed = self._plan.slo.error_rate
        failed = int(sent.failed[look.counted].sum())
        look.failures = None if allowed is None else Failures(len(look.counted), failed, allowed)

    def _weigh(self, look: _Look, opinion: Opinion | None) -> None:
        if look.rate_qps > _FAST_QPS:
            # Arrivals come first, on the one core that there may be. At lower rates they do so anyway, and a thread of
            # low priority that holds the interpreter's lock would let other processes hold the arrivals up.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOW_PRIORITY)
        look.evidence = tuple(
            Evidence.of(stretch, limit.limit_s, limit.allowed, edge_utilisation=look.edge_utilisation)
            for stretch, limit in zip(look.stretch, self._limits, strict=True)
        )
        failed = int(look.sent.failed[look.counted].sum())
        look.requests = tuple(
            Requests(one.rate_qps, one.scheduled_s, one.values_s, one.counted, failed) for one in look.stretch
        )
        if opinion is not None and len(look.counted):
            look.opinion = opinion(look.requests, look.evidence, look.failures)

    def _judged(self, look: _Look, effort: Effort) -> Probed:
        now, sent, counted = time.perf_counter(), look.sent, look.counted
        # From here on nothing is sent, so a pause does no harm.
        latencies, late = sent.latency[counted], sent.late[counted]
        waited_s = sent.waited(counted, now)
        histogram = LatencyHistogram.of(waited_s)
        late_p99_ms = float(np.quantile(late, 0.99)) * 1e3 if len(late) else 0.0
        late_by_s = self._late_by_s(look, now)
        # Tokens that are read late and together look as if they had come fast: then nothing is surely met either.
        tokens_untrue = self._flattered and effort.starved > _STARVED
        reason = ""
        if look.verdict != "met" or tokens_untrue:
            reason = self._spoiled(look, late_p99_ms, late_by_s, effort)
        limit = self._most_missed(look)
        stretch_s = now - look.begun
        # A closed loop's throughput is what was answered: at its end each user waits for an answer.
        good = int((~np.isnan(sent.latency[: sent.count]) & ~sent.failed[: sent.count]).sum())
        throughput_qps = (good if self._plan.users else sent.count) / stretch_s
        rate_qps = throughput_qps if self._plan.users else look.rate_qps
        streaming = {} if effort.starved > _STARVED else _streaming(sent, counted)
        probe = Probe(
            rate_qps=rate_qps,
            verdict="invalid" if reason else look.verdict,
            reason=reason,
            started_s=look.begun - self._reporter.started,
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
            workers=self.load.workers,
            streaming=streaming,
            tokens=_tokens(sent, counted, streaming, self._limits),
            tokens_per_s=sent.tokens / stretch_s if sent.tokens else None,
            histogram=histogram.encode(),
        )
        return Probed(
            probe, look.evidence, look.failures, requests=look.requests, opinion=look.opinion, late_by_s=late_by_s
        )

    def _late_by_s(self, look: _Look, now: float) -> float:
        """By how much more requests than are allowed were later than a latency limit; 0 where no more were."""
        if not len(look.counted):
            return 0.0
        waited_s = look.sent.waited(look.counted, now)
        beyond_s = [
            float(np.quantile(waited_s, 1 - limit.allowed, method="lower")) - limit.limit_s
            for limit in self._limits
            if limit.metric == "latency"
        ]
        return max([0.0, *beyond_s])

    def _most_missed(self, look: _Look) -> Limit:
        """The limit that a miss is blamed on: the one that is furthest from holding, or the tightest latency."""
        by_distance = dict(zip(self._limits, (one.distance for one in look.evidence), strict=False))
        if any(distance > 0 for distance in by_distance.values()):
            return max(by_distance, key=by_distance.__getitem__)
        return min(self._limits, key=lambda limit: (limit.metric != "latency", limit.limit_s))

    def _spoiled(self, look: _Look, late_p99_ms: float, late_by_s: float, effort: Effort) -> str:
        """Why a miss cannot be blamed on the server: the generator itself was late or busy, or the machine stood still.

        A generator that sends late only makes latencies look longer, so a rate that is met stays met. Where it shares
        cores with the server, a busy server makes it late: the miss stands, unless it is gone without the lateness. A
        generator that had to wait for a core makes no request later than by all that it waited: a server that hangs
        does not answer sooner for a quiet machine.
        """
        sent, counted = look.sent, look.counted
        if NO_PORT in sent.kinds_of(counted):
            return f"this machine had {NO_PORT}"
        starved = f"the generator waited {min(1.0, effort.starved):.0%} of the time for a core that others used"
        if self._patient and effort.starved > _STARVED:
            return f"{starved}, so that no time of a token is known"
        if self._plan.users is not None:
            return ""
        if effort.cores >= _BUSY:
            return f"the generator used {effort.cores:.0%} of a core"
        starved_s = effort.starved * (time.perf_counter() - look.begun)
        if effort.starved > _STARVED and not self._plan.shares_cores and late_by_s <= starved_s:
            return starved
        if late_p99_ms <= self._tolerance_s * 1e3:
            return ""
        reason = f"the generator sent {late_p99_ms:.3g} ms late (p99)"
        shares = [float((limit.values(sent, as_sent=True)[counted] > limit.limit_s).mean()) for limit in self._limits]
        if self._plan.shares_cores:
            return reason if all(s <= limit.allowed for s, limit in zip(shares, self._limits, strict=True)) else ""
        # A standstill makes some requests late, but not most of a probe's.
        return reason if max(shares) < _MAX else ""

    def drain(self) -> None:
        """Let the server answer what it was sent, so that no backlog spoils the next probe; not for ever."""
        # A part of what is left, or a server that hangs would leave no time to say so.
        left = max(0.0, self.remaining_s())
        if self._probes:
            self._reporter.moved("drain")
        self.load.drain(min(_DRAIN_S, left / 3) if self._must_recover else min(self.wait_s + 0.2, left))
        end = time.perf_counter() + min(_RECOVER_S, left / 4)
        while self._must_recover and self.base_s and time.perf_counter() < end:
            latencies, _ = self.lone(1, end)
            if latencies and latencies[0] < 2 * self.base_s:
                break
        self._must_recover = False


def _streaming(sent: RequestLog, counted: Numbers) -> dict[Metric, Percentiles]:
    """Percentiles of what was streamed, failures left out: they are counted as errors. `itl` is every gap."""
    if sent.stream is None:
        return {}
    found: dict[Metric, Percentiles] = {}
    values = {metric: sent.values(metric)[counted] for metric in _STREAM_METRICS} | {"itl": sent.all_gaps(counted)}
    for metric, seconds in values.items():
        known = seconds[np.isfinite(seconds)]
        if len(known):
            p50, p95, p99 = (float(value) * 1e3 for value in np.quantile(known, (0.5, 0.95, 0.99)))
            found[metric] = Percentiles(p50_ms=p50, p95_ms=p95, p99_ms=p99)
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
    )
