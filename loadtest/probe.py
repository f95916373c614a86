"""Loads a server with open-loop arrivals and judges what comes back. Runs inside the generator's gevent loop."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import gevent
import numpy as np
from gevent.pool import Group

from loadtest.arrivals import gaps
from loadtest.capacity import Probed
from loadtest.histogram import LatencyHistogram
from loadtest.plan import LoadPlan, Probe, Progress, Verdict
from loadtest.reply import Send
from loadtest.sent import Numbers, Sent
from loadtest.stalls import StallWatch
from loadtest.verdict import Evidence, FailureEvidence, judge

_SETTLE_S = 0.5  # the first stretch after a change of rate is not counted
_LEAST_COUNTED_S = 2.0  # a hiccup at the start must not decide a probe
_LOOK_S = 0.25
_MOST = 0.5
_LOOK_GROWTH = 1.15  # look again only when there is this much more evidence
_MOST_IN_FLIGHT = 10_000
_DRAIN_S, _RECOVER_S = 5.0, 2.0  # at most
_LEAST_TOLERANCE_S = 0.005  # the generator's own lateness, else a tenth of the tightest limit
_BUSY = 0.95  # of one core: the generator is one process with one thread of work


class OpenLoopProber:
    """One server, one plan. `report` is called about twice a second."""

    def __init__(self, plan: LoadPlan, send: Send, report: Callable[[Progress], None], started: float) -> None:
        self._plan, self._send, self._report, self._started = plan, send, report, started
        self._limits = [(limit.limit_ms / 1e3, 1 - limit.percentile / 100) for limit in plan.slo.latency]
        self._longest_s = max(limit for limit, _ in self._limits)
        self._tolerance_s = max(_LEAST_TOLERANCE_S, 0.1 * min(self._limits)[0])
        self._probes = 0
        self._reported = 0.0
        self._undrained = (Group(), False)
        self.base_s = 0.0

    def remaining_s(self) -> float:
        """Time left for the whole search."""
        return self._started + self._plan.max_s - time.perf_counter()

    def lone(self, count: int, until: float, brief_s: float = 2.0) -> tuple[list[float], Counter[str]]:
        """Requests one after the other: their latencies, and what went wrong with those that failed.

        A slow server is asked for less than `count`: no more are begun after `brief_s`, once two have ended.
        """
        enough = time.perf_counter() + brief_s
        latencies: list[float] = []
        kinds: Counter[str] = Counter()
        while (ended := len(latencies) + kinds.total()) < count and (begun := time.perf_counter()) < until:
            if ended >= 2 and begun >= enough:
                break
            with gevent.Timeout(max(0.1, until - begun), False):
                kind = self._send().failure
                if kind is None:
                    latencies.append(time.perf_counter() - begun)
                else:
                    kinds[kind] += 1
                    gevent.sleep(0.02)
                continue
            kinds["timeout"] += 1
        return latencies, kinds

    def burst(self, concurrency: int, duration_s: float) -> tuple[float, float]:
        """Closed loop: throughput in requests per second, and the share of requests that failed."""
        duration_s = min(duration_s, max(0.1, self.remaining_s()))
        end = time.perf_counter() + duration_s
        done: Counter[bool] = Counter()

        def keep_sending() -> None:
            while time.perf_counter() < end:
                failed = self._send().failure is not None
                if time.perf_counter() <= end + 0.05:
                    done[failed] += 1
                if failed:
                    gevent.sleep(0.02)

        workers = Group()
        for _ in range(concurrency):
            workers.spawn(keep_sending)
        workers.join(timeout=min(duration_s + self._longest_s + 1.0, max(0.2, self.remaining_s())))
        workers.kill()
        return done[False] / duration_s, done[True] / max(1, done.total())

    def probe(self, rate_qps: float, at_most_s: float) -> Probed:
        """One stretch of open-loop load, ended as soon as its verdict is sure. The server is drained before it, not
        after: the last probe of a search need not wait for what it left behind.

        A request can only be judged when it has waited as long as the longest limit, so the stretch is that much longer
        than `at_most_s`, where the time of the whole search allows.
        """
        self._drain()
        self._probes += 1
        sent, in_flight = Sent(int(1.5 * rate_qps * at_most_s) + 1000), Group()
        cpu, begun = time.process_time(), time.perf_counter()
        end = begun + min(at_most_s + self._longest_s, max(0.0, self.remaining_s()))
        with StallWatch(self._tolerance_s, self._longest_s) as stalls:
            arrivals = gevent.spawn(self._arrive, sent, in_flight, rate_qps, begun)
            counted, disturbed = self._watch(sent, in_flight, stalls, rate_qps, begun, end)
            arrivals.kill()
        found = self._judged(sent, counted, disturbed, rate_qps, begun, cpu)
        self._undrained = (in_flight, found.verdict != "met")
        return found

    def _arrive(self, sent: Sent, in_flight: Group, rate_qps: float, begun: float) -> None:
        """Spawn a greenlet per arrival, on schedule, whatever became of the earlier ones."""
        due = begun
        for gap in gaps(self._plan.arrivals, rate_qps, self._plan.seed * 7919 + self._probes):
            due += gap
            # Late arrivals go out together; a sleep between them is only for the answers to be read meanwhile.
            gevent.sleep(max(0.0, due - time.perf_counter()))
            in_flight.spawn(self._one, sent, sent.schedule(due), due)

    def _one(self, sent: Sent, number: int, due: float) -> None:
        sent.late[number] = time.perf_counter() - due
        reply = self._send()
        sent.finish(number, time.perf_counter() - due, reply.failure)

    def _watch(
        self, sent: Sent, in_flight: Group, stalls: StallWatch, rate_qps: float, begun: float, end: float
    ) -> tuple[Numbers, int]:
        """Look at the evidence until it decides; the requests that count, and how many stalls disturbed.

        Those younger than the longest limit cannot be judged yet. A look stops the requests in flight, so it must be
        brief: counting misses, no histogram.
        """
        since, looked = begun + min(_SETTLE_S, (end - begun) / 4), 0
        p99_ms: float | None = None
        while True:
            gevent.sleep(_LOOK_S)
            now = time.perf_counter()
            over = now >= end or len(in_flight) > _MOST_IN_FLIGHT
            judged = sent.between(since, now - self._longest_s)
            if over or len(judged) >= max(10, _LOOK_GROWTH * looked):
                looked = len(judged)
                counted = judged if self._plan.shares_cores else judged[stalls.undisturbed(sent.scheduled[judged])]
                enough = now - self._longest_s - since >= _LEAST_COUNTED_S
                if over or (enough and self._verdict(sent, counted, rate_qps) in ("met", "missed")):
                    return counted, len(judged) - len(counted)
                p99_ms = float(np.quantile(sent.waited(counted, now), 0.99)) * 1e3 if len(counted) else None
            self._progress(rate_qps, p99_ms)

    def _evidence(self, sent: Sent, counted: Numbers, rate_qps: float) -> tuple[Evidence, ...]:
        return tuple(Evidence.of(sent.missed(counted, limit), limit * rate_qps) for limit, _ in self._limits)

    def _failures(self, sent: Sent, counted: Numbers) -> FailureEvidence | None:
        allowed = self._plan.slo.error_rate
        return None if allowed is None else FailureEvidence(Evidence.of(sent.failed[counted]), allowed)

    def _verdict(self, sent: Sent, counted: Numbers, rate_qps: float) -> Verdict:
        allowed = [share for _, share in self._limits]
        return judge(self._evidence(sent, counted, rate_qps), allowed, self._failures(sent, counted))

    def _judged(
        self, sent: Sent, counted: Numbers, disturbed: int, rate_qps: float, begun: float, cpu: float
    ) -> Probed:
        now = time.perf_counter()
        # From here on nothing is sent, so a pause does no harm.
        latencies = sent.latency[counted]
        histogram = LatencyHistogram.of(sent.waited(counted, now))
        late = sent.late[counted]
        verdict, reason = self._verdict(sent, counted, rate_qps), ""
        late_p99_ms = float(np.quantile(late, 0.99)) * 1e3 if len(late) else 0.0
        cores = (time.process_time() - cpu) / (now - begun)
        if verdict == "missed" and (reason := self._spoiled(sent, counted, late_p99_ms, cores)):
            verdict = "invalid"
        probe = Probe(
            rate_qps=rate_qps,
            verdict=verdict,
            reason=reason,
            started_s=begun - self._started,
            duration_s=now - begun,
            requests=len(latencies),
            completed=int((~np.isnan(latencies)).sum()),
            disturbed=disturbed,
            misses=int(sent.missed(counted, min(self._limits)[0]).sum()),
            errors=int(sent.failed[counted].sum()),
            error_kinds=sent.kinds_of(counted),
            achieved_qps=sent.count / (now - begun),
            p50_ms=histogram.percentile_ms(50),
            p95_ms=histogram.percentile_ms(95),
            p99_ms=histogram.interval_ms(99),
            late_p99_ms=late_p99_ms,
            generator_cpu=cores,
            histogram=histogram.encode(),
        )
        allowed = tuple(share for _, share in self._limits)
        return Probed(probe, self._evidence(sent, counted, rate_qps), allowed, self._failures(sent, counted))

    def _spoiled(self, sent: Sent, counted: Numbers, late_p99_ms: float, cores: float) -> str:
        """Why a miss cannot be blamed on the server: the generator itself was late or busy, or the machine stood still.

        A generator that sends late only makes latencies look longer, so a rate that is met stays met. Where it shares
        cores with the server, a busy server makes it late: the miss stands, unless it is gone without the lateness.
        """
        if cores >= _BUSY:
            return f"the generator used {cores:.0%} of a core"
        if late_p99_ms <= self._tolerance_s * 1e3:
            return ""
        reason = f"the generator sent {late_p99_ms:.3g} ms late (p99)"
        shares = [sent.missed(counted, limit, as_sent=True).mean() for limit, _ in self._limits]
        if self._plan.shares_cores:
            return reason if all(share <= ok for share, (_, ok) in zip(shares, self._limits, strict=True)) else ""
        # A standstill makes some requests late, but not most of a probe's.
        return reason if max(shares) < _MOST else ""

    def _drain(self) -> None:
        """Let the server answer what it was sent, so that no backlog spoils the next probe; not for ever."""
        in_flight, missed = self._undrained
        # A part of what is left, or a server that hangs would leave no time to say so.
        left = max(0.0, self.remaining_s())
        patience = min(_DRAIN_S, left / 3) if missed else min(self._longest_s + 0.2, left)
        in_flight.join(timeout=patience)
        in_flight.kill()
        end = time.perf_counter() + min(_RECOVER_S, left / 4)
        while missed and self.base_s and time.perf_counter() < end:
            latencies, _ = self.lone(1, end)
            if latencies and latencies[0] < 2 * self.base_s:
                return

    def _progress(self, rate_qps: float, p99_ms: float | None) -> None:
        now = time.perf_counter()
        if now - self._reported < 0.5:
            return
        self._reported = now
        elapsed = now - self._started
        fraction = min(1.0, elapsed / self._plan.max_s)
        self._report(Progress(phase="probe", elapsed_s=elapsed, fraction=fraction, rate_qps=rate_qps, p99_ms=p99_ms))
