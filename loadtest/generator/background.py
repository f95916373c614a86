"""Best-effort services: their users ask them all the time while the other services are measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import gevent

from loadtest.figures import BackgroundMeasurement, Interval
from loadtest.generator.load import LoadSegment
from loadtest.generator.probe.server import ServerUnderTest
from loadtest.judge.capacity import CapacityResult
from loadtest.plan import Background, Measurement

_ALONE_S, _ALONE_SHARE = 4.0, 0.08  # how long each is asked alone, at most this share of the time
_SETTLE = 0.25  # of it, which does not count
_DRAIN_S = 5.0


@dataclass
class BackgroundLoad:
    """One best-effort service and its users. `alone_qps` is None until it was asked alone."""

    background: Background
    endpoint: ServerUnderTest
    alone_qps: Interval | None = None

    def ask_alone(self) -> None:
        """Measure what the service answers while no other is asked anything. Blocks for a few seconds."""
        length_s = min(_ALONE_S, _ALONE_SHARE * self.endpoint.plan.max_s)
        begun = self._start()
        gevent.sleep(length_s)
        self.alone_qps = self._answered(begun + _SETTLE * length_s, begun + length_s)
        self.stop()

    def start(self) -> None:
        """Its users begin, and go on until `stop`."""
        self._start()

    def stop(self) -> None:
        """No more of its requests; blocks until those under way are answered."""
        self.endpoint.load.stop()
        self.endpoint.load.drain(_DRAIN_S)

    def measured(self, found: Measurement, started: float) -> BackgroundMeasurement:
        """How it did in each of the measurement's probes. `started` is when the plan was read."""
        during = []
        for probe in found.probes:
            begun = started + probe.started_s
            during.append(self._answered(begun, begun + probe.duration_s))
        best = next((number for number, one in enumerate(found.probes) if one.rate_qps == found.best_qps), None)
        sent = self.endpoint.load.sent()
        return BackgroundMeasurement(
            name=self.background.name,
            alone_qps=self.alone_qps,
            throughput_qps=None if best is None else during[best],
            probes_qps=tuple(during),
            error_rate=float(sent.failed[: sent.count].mean()) if sent.count else None,
        )

    def _start(self) -> float:
        plan = self.endpoint.plan
        return self.endpoint.load.start(LoadSegment(1.0, plan.seed, plan.max_s, plan.users))

    def _answered(self, begin: float, end: float) -> Interval:
        """Good answers per second between two times of this process's clock."""
        sent = self.endpoint.load.sent()
        rows = slice(0, sent.count)
        done = sent.scheduled[rows] + sent.latency[rows]  # nan where none came
        count = int((~sent.failed[rows] & (done >= begin) & (done < end)).sum())
        length_s = max(1e-3, end - begin)
        spread = 1.96 * math.sqrt(count)
        return Interval(
            value=count / length_s, low=max(0.0, count - spread) / length_s, high=(count + spread) / length_s
        )


def ask_alone(loads: Sequence[BackgroundLoad]) -> CapacityResult | None:
    """Ask each service alone, one after the other. Returns why the measurement must end here; None if all answer."""
    for one in loads:
        one.ask_alone()
        if one.alone_qps is None or not one.alone_qps.value:
            kinds = sorted(set(one.endpoint.load.sent().kinds.values()))
            if kinds:
                return CapacityResult(
                    "infeasible", f"{one.background.name}: every request failed: {', '.join(kinds[:3])}"
                )
            # Not its fault: it runs when nobody else wants a core, and somebody always did.
            return CapacityResult(
                "invalid", f"{one.background.name}: nothing was left to it, though it was asked alone"
            )
    return None
