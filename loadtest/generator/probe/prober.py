"""Loads a server and judges what comes back. Runs inside the generator's gevent loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import gevent
import numpy as np

from loadtest.generator.load import LoadSegment
from loadtest.generator.probe.criteria import Criteria
from loadtest.generator.probe.record import probed
from loadtest.generator.probe.running import RunningProbe
from loadtest.generator.probe.server import ServerUnderTest
from loadtest.judge.capacity import Opinion, Probed
from loadtest.judge.settling import settle_s
from loadtest.plan import LimitedTime, Verdict

_MIN_COUNTED_S = 1.5  # a hiccup at the start must not decide a probe
_MIN_HOPELESS_S = 0.75  # except where most requests are late
_LOOK_S = 0.25
_LOOK_GROWTH = 1.25  # look again only when there is this much more evidence
_MAX_IN_FLIGHT = 10_000
_DRAIN_S, _RECOVER_S = 5.0, 2.0  # at most, or
_BACKLOG_LIMITS = 2.0  # as many times the longest limit: a burst alone leaves one and a half of them behind


def _is_sure(verdict: Verdict) -> bool:
    return verdict in ("met", "missed")


@dataclass(frozen=True)
class StopRule:
    """When a probe ends before its time: as soon as its verdict is `enough` (never, if it is to be `whole`), or when
    `ended` says so from outside.
    """

    enough: Callable[[Verdict], bool] = _is_sure
    ended: Callable[[], bool] = lambda: False
    whole: bool = False


class OpenLoopProber:
    """Probes one server, whose lone requests take `base_s` (0: not known). `share` is the server's part of a common
    rate, where others are loaded at the same time.

    Several probers of the same endpoint may take turns: what one probe leaves behind is the endpoint's.
    """

    def __init__(self, endpoint: ServerUnderTest, base_s: float, share: float = 1.0) -> None:
        self.endpoint = endpoint
        self._criteria, self._share = Criteria.of(endpoint.plan, base_s), share

    def remaining_s(self) -> float:
        """Time left for the whole search."""
        return self.endpoint.remaining_s()

    @property
    def wait_s(self) -> float:
        """How long after it was due a request can be judged, as a rule."""
        return self._criteria.wait_s

    def probe(
        self, rate_qps: float, at_most_s: float, edge_utilisation: float = 0.85, *, stop: StopRule | None = None,
        opinion: Opinion | None = None,
    ) -> Probed:  # fmt: skip
        """One stretch of load, ended by `stop`: as soon as its verdict is sure, where no other rule is given. In a
        closed loop the rate is a guess.

        The server is drained before it, not after: the last probe of a search need not wait for what it left behind.
        A request can only be judged when it has waited as long as the longest limit, so the stretch is that much longer
        than `at_most_s`, where the time of the whole search allows.
        """
        self.drain()
        endpoint, plan = self.endpoint, self.endpoint.plan
        if endpoint.cache is not None:
            endpoint.cache.begin()
        endpoint.probes += 1
        longest_s = min(at_most_s + self.wait_s, max(0.0, self.remaining_s()))
        begun = endpoint.load.start(LoadSegment(rate_qps, plan.seed * 7919 + endpoint.probes, longest_s, plan.users))
        look = RunningProbe(self._criteria, rate_qps, edge_utilisation, begun, endpoint.load.sent(), np.arange(0))
        self._watch(look, longest_s, stop or StopRule(), opinion)
        found = probed(look, endpoint.load.stop(), endpoint.reporter.started, endpoint.load.workers)
        if endpoint.cache is not None:  # asked when all else is known: a busy server takes a while to say
            hit_rate = endpoint.cache.hit_rate()
            found = replace(found, probe=found.probe.model_copy(update={"prefix_cache_hit_rate": hit_rate}))
        if found.verdict == "invalid" and endpoint.reinforce is not None:
            endpoint.load.drain(0.0)
            endpoint.reinforce()
            endpoint.reinforce = None
        endpoint.must_recover = found.verdict != "met"
        return found

    def _watch(self, look: RunningProbe, longest_s: float, stop: StopRule, opinion: Opinion | None) -> None:
        """Look at the evidence until it decides. A look takes milliseconds, so a thread takes it: arrivals go on."""
        load, arrivals, closed_loop = self.endpoint.load, self.endpoint.arrivals, self.endpoint.plan.users is not None
        unsettled_s = settle_s(self._criteria.memory_s, longest_s, counts_alone=opinion is None)
        since, looked = look.begun + unsettled_s, 0
        shown: tuple[float | None, LimitedTime | None] = (None, None)
        min_s = max(_MIN_COUNTED_S, min(arrivals.cycle_s, longest_s))
        while True:
            gevent.sleep(_LOOK_S)
            now = time.perf_counter()
            look.sent = load.sent()
            over = now >= look.begun + longest_s or stop.ended() or load.in_flight() > _MAX_IN_FLIGHT
            until = self._criteria.judgeable_until(load, look.sent, self.endpoint.slowest_s)
            judged = look.sent.between(since, until)
            if over or len(judged) >= max(10, _LOOK_GROWTH * looked):
                looked = len(judged)
                look.count(judged, load.stalls(), arrivals)
                if over or not stop.whole:
                    gevent.get_hub().threadpool.apply(look.weigh, (opinion,))
                passed_s = until - since
                long_enough = not stop.whole and passed_s >= (min(_MIN_HOPELESS_S, min_s) if look.hopeless else min_s)
                if over or (long_enough and stop.enough(look.verdict)):
                    return
                if len(look.counted):
                    shown = gevent.get_hub().threadpool.apply(look.shown, (now,))
            shown_qps = None if closed_loop else look.rate_qps / self._share
            self.endpoint.reporter.moved("probe", shown_qps, *shown)

    def drain(self) -> None:
        """Let the server answer what it was sent, so that no backlog burdens the next probe; not for ever."""
        endpoint, base_s = self.endpoint, self._criteria.base_s
        # A part of what is left, or a server that hangs would leave no time to say so.
        left = max(0.0, self.remaining_s())
        if endpoint.probes:
            endpoint.reporter.moved("drain")
        backlog_s = _BACKLOG_LIMITS * self._criteria.memory_s
        max_wait_s = min(max(_DRAIN_S, backlog_s), left / 3) if endpoint.must_recover else min(self.wait_s + 0.2, left)
        endpoint.load.drain(max_wait_s)
        endpoint.note(endpoint.load.sent().answers_s())
        endpoint.recover(base_s, min(max(_RECOVER_S, backlog_s), left / 4))
