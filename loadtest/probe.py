"""Loads a server with open-loop arrivals and judges what comes back. Runs inside the generator's gevent loop."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import gevent
import numpy as np
from gevent.pool import Group
from numpy.typing import NDArray

from loadtest.arrivals import gaps
from loadtest.capacity import Probed
from loadtest.histogram import LatencyHistogram
from loadtest.plan import LoadPlan, Probe, Progress
from loadtest.verdict import Evidence

Send = Callable[[], str | None]  # blocks its greenlet; returns what went wrong, or None

_SETTLE_S = 0.5  # the first stretch after a change of rate is not counted
_LEAST_COUNTED_S = 2.0  # a hiccup at the start must not decide a probe
_LOOK_S = 0.25
_MOST = 0.5
_LOOK_GROWTH = 1.15  # look again only when there is this much more evidence
_MOST_IN_FLIGHT = 10_000


@dataclass
class Sent:
    """What became of the requests of one probe, by their number; grows as they are scheduled."""

    size: int
    count: int = 0
    scheduled: NDArray[np.float64] = field(init=False)
    latency: NDArray[np.float64] = field(init=False)
    late: NDArray[np.float64] = field(init=False)
    failed: NDArray[np.bool_] = field(init=False)
    kinds: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.scheduled = np.full(self.size, np.inf)
        self.latency = np.full(self.size, np.nan)
        self.late = np.zeros(self.size)
        self.failed = np.zeros(self.size, dtype=bool)

    def counted(self, since: float, until: float) -> NDArray[np.bool_]:
        """Which requests were scheduled in that stretch."""
        scheduled = self.scheduled[: self.count]
        return (scheduled >= since) & (scheduled <= until)

    def missed(self, counted: NDArray[np.bool_], limit_s: float, *, as_sent: bool = False) -> NDArray[np.bool_]:
        """Of the counted: answered too late, wrongly or not at all. `as_sent` forgives the generator's lateness."""
        latency = self.latency[: self.count][counted]
        if as_sent:
            latency = latency - self.late[: self.count][counted]
        return self.failed[: self.count][counted] | ~(latency <= limit_s)


class OpenLoopProber:
    """One server, one plan. `report` is called about twice a second."""

    def __init__(self, plan: LoadPlan, send: Send, report: Callable[[Progress], None], started: float) -> None:
        self._plan, self._send, self._report, self._started = plan, send, report, started
        self._limits = [(limit.limit_ms / 1e3, 1 - limit.percentile / 100) for limit in plan.slo.latency]
        self._longest_s = max(limit for limit, _ in self._limits)
        self._probes = 0
        self._in_flight, self._overloaded = Group(), False
        self._reported = 0.0
        self.base_s = 0.0

    def remaining_s(self) -> float:
        """Time left for the whole search."""
        return self._started + self._plan.max_s - time.perf_counter()

    def lone(self, count: int, until: float) -> tuple[list[float], Counter[str]]:
        """Requests one after the other: their latencies, and what went wrong with those that failed."""
        latencies: list[float] = []
        kinds: Counter[str] = Counter()
        while len(latencies) + kinds.total() < count and time.perf_counter() < until:
            begun = time.perf_counter()
            with gevent.Timeout(max(0.1, until - begun), False):
                kind = self._send()
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
        end = time.perf_counter() + duration_s
        done: Counter[bool] = Counter()

        def keep_sending() -> None:
            while time.perf_counter() < end:
                failed = self._send() is not None
                if time.perf_counter() <= end + 0.05:
                    done[failed] += 1
                if failed:
                    gevent.sleep(0.02)

        workers = Group()
        for _ in range(concurrency):
            workers.spawn(keep_sending)
        workers.join(timeout=duration_s + self._longest_s + 1.0)
        workers.kill()
        return done[False] / duration_s, done[True] / max(1, done.total())

    def probe(self, rate_qps: float, at_most_s: float) -> Probed:
        """One stretch of open-loop load, ended as soon as its verdict is sure.

        It begins when the server has answered what an earlier probe left; after the last probe nobody waits.
        """
        self._drain()
        self._probes += 1
        at_most_s = min(at_most_s, max(_LOOK_S, self.remaining_s()))
        sent = Sent(int(rate_qps * (at_most_s + 1) * 1.5) + 200)
        self._in_flight = in_flight = Group()
        cpu, begun = time.process_time(), time.perf_counter()
        arrivals = gevent.spawn(self._arrive, sent, in_flight, rate_qps, begun)
        found, counted = self._watch(sent, in_flight, rate_qps, begun, at_most_s, cpu)
        arrivals.kill()
        self._overloaded = found.verdict != "met"
        # Counting thousands of latencies would hold up the arrivals, so it waits until they have ended.
        return replace(found, probe=_with_percentiles(found.probe, _waited(sent, counted)))

    def _arrive(self, sent: Sent, in_flight: Group, rate_qps: float, begun: float) -> None:
        """Spawn a greenlet per arrival, on schedule, whatever became of the earlier ones."""
        due = begun
        for gap in gaps(self._plan.arrivals, rate_qps, self._plan.seed * 7919 + self._probes):
            due += gap
            wait = due - time.perf_counter()
            gevent.sleep(max(0.0, wait))
            number = sent.count
            if number >= sent.size:
                return
            sent.scheduled[number] = due
            sent.count += 1
            in_flight.spawn(self._one, sent, number, due)

    def _one(self, sent: Sent, number: int, due: float) -> None:
        sent.late[number] = time.perf_counter() - due
        kind = self._send()
        sent.latency[number] = time.perf_counter() - due
        if kind is not None:
            sent.failed[number] = True
            sent.kinds[kind] += 1

    def _watch(
        self, sent: Sent, in_flight: Group, rate_qps: float, begun: float, at_most_s: float, cpu: float
    ) -> tuple[Probed, NDArray[np.bool_]]:
        """Look at the evidence until it decides, and say which requests it counts.

        Requests younger than the longest limit cannot be judged yet.
        """
        since, looked = begun + min(_SETTLE_S, at_most_s / 4), 0
        found: Probed | None = None
        while True:
            gevent.sleep(_LOOK_S)
            now = time.perf_counter()
            over = now - begun >= at_most_s or len(in_flight) > _MOST_IN_FLIGHT
            counted = sent.counted(since, now - self._longest_s)
            total = int(counted.sum())
            if over or total >= max(10, _LOOK_GROWTH * looked):
                looked = total
                found = self._judge(sent, counted, rate_qps, begun, cpu)
                enough = now - self._longest_s - since >= _LEAST_COUNTED_S
                if over or (enough and found.verdict in ("met", "missed")):
                    return found, counted
            self._progress(rate_qps, _waited(sent, counted))

    def _judge(self, sent: Sent, counted: NDArray[np.bool_], rate_qps: float, begun: float, cpu: float) -> Probed:
        now = time.perf_counter()
        evidence = tuple(Evidence.of(sent.missed(counted, limit), limit * rate_qps) for limit, _ in self._limits)
        allowed = tuple(share for _, share in self._limits)
        tightest = min(self._limits)[0]
        late = sent.late[: sent.count][counted]
        errors = int(sent.failed[: sent.count][counted].sum())
        probe = Probe(
            rate_qps=rate_qps,
            verdict="undecided",
            started_s=begun - self._started,
            duration_s=now - begun,
            requests=int(counted.sum()),
            completed=int((~np.isnan(sent.latency[: sent.count][counted])).sum()),
            misses=int(sent.missed(counted, tightest).sum()),
            errors=errors,
            error_kinds=dict(sent.kinds),
            achieved_qps=sent.count / (now - begun),
            p50_ms=None,
            p95_ms=None,
            p99_ms=None,
            late_p99_ms=float(np.quantile(late, 0.99)) * 1e3 if len(late) else 0.0,
            generator_cpu=(time.process_time() - cpu) / (now - begun),
            histogram="",
        )
        found = Probed(probe, evidence, allowed, self._plan.slo.error_rate)
        verdict, reason = found.verdict, ""
        if verdict == "missed" and (reason := self._spoiled(sent, counted, probe)):
            verdict = "invalid"
        done = probe.model_copy(update={"verdict": verdict, "reason": reason})
        return Probed(done, evidence, allowed, self._plan.slo.error_rate)

    def _spoiled(self, sent: Sent, counted: NDArray[np.bool_], probe: Probe) -> str:
        """Why a miss cannot be blamed on the server: the generator itself was late, or the whole machine stood still.

        A generator that sends late only makes latencies look longer, so a rate that is met stays met. Where it shares
        cores with the server, a busy server makes it late: the miss stands, unless it is gone without the lateness.
        """
        lateness = max(5.0, 0.1 * min(self._limits)[0] * 1e3)
        reason = f"the generator sent {probe.late_p99_ms:.3g} ms late (p99)"
        if probe.late_p99_ms <= lateness:
            return ""
        shares = [sent.missed(counted, limit, as_sent=True).mean() for limit, _ in self._limits]
        if self._plan.shares_cores:
            return reason if all(share <= ok for share, (_, ok) in zip(shares, self._limits, strict=True)) else ""
        # A standstill makes some requests late, but not most of a probe's.
        return reason if max(shares) < _MOST else ""

    def _drain(self) -> None:
        """Let the server answer what it was sent, so that no backlog spoils the next probe; not for ever."""
        patience = min(5.0, max(0.5, self.remaining_s())) if self._overloaded else self._longest_s + 0.2
        self._in_flight.join(timeout=patience)
        self._in_flight.kill()
        end = time.perf_counter() + min(2.0, max(0.0, self.remaining_s()))
        while self._overloaded and self.base_s and time.perf_counter() < end:
            latencies, _ = self.lone(1, end)
            if latencies and latencies[0] < 2 * self.base_s:
                return

    def _progress(self, rate_qps: float, latencies: NDArray[np.float64]) -> None:
        now = time.perf_counter()
        if now - self._reported < 0.5:
            return
        self._reported = now
        elapsed = now - self._started
        p99 = float(np.quantile(latencies, 0.99)) * 1e3 if len(latencies) else None
        fraction = min(1.0, elapsed / self._plan.max_s)
        self._report(Progress(phase="probe", elapsed_s=elapsed, fraction=fraction, rate_qps=rate_qps, p99_ms=p99))


def _waited(sent: Sent, counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Latencies in seconds; a request that has no answer yet has waited at least until now."""
    latencies, scheduled = sent.latency[: len(counted)][counted], sent.scheduled[: len(counted)][counted]
    return np.where(np.isnan(latencies), time.perf_counter() - scheduled, latencies)


def _with_percentiles(probe: Probe, latencies_s: NDArray[np.float64]) -> Probe:
    histogram = LatencyHistogram.of(latencies_s.tolist())
    figures = {
        "p50_ms": histogram.percentile_ms(50),
        "p95_ms": histogram.percentile_ms(95),
        "p99_ms": histogram.interval_ms(99),
        "histogram": histogram.encode(),
    }
    return probe.model_copy(update=figures)
