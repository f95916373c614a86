"""What a burst leaves behind is the server's work still: it must not be taken for latencies of the first probe."""

from __future__ import annotations

import pytest

from benchmarks.truth import models
from benchmarks.truth.real import served
from loadtest import LatencyLimit, LoadGenerator, LoadPlan, RequestPlan, Slo


@pytest.mark.usefixtures("needs_machine")
def test_the_first_probe_does_not_meet_the_bursts_backlog() -> None:
    """A server in batches goes on with requests whose client has left, as most do: with one and a half limits' worth.

    Measured at once, 18 of the first 27 requests were late at two thirds of what the server holds.
    """
    about_qps = 40.0
    speed = about_qps / models.capacity_qps("batches", 0.01, models.LIMITS["batches"])
    slo = Slo(latency=(LatencyLimit(percentile=99, limit_ms=1e3 * models.LIMITS["batches"] / speed),))
    with served("batches", speed, seed=1) as url, LoadGenerator() as generator:
        plan = LoadPlan(url=url, request=RequestPlan(method="GET", path="/"), slo=slo, max_s=12, seed=1, cores=(1,))
        found = generator.measure(plan, lambda _: None)
    first = found.probes[0]
    assert first.rate_qps < 1.2 * about_qps
    assert first.misses <= (0 if first.rate_qps < about_qps else 0.2 * first.requests), first
    assert found.capacity_qps is not None, found.reason
    assert 0.7 * about_qps < found.capacity_qps.value < 1.3 * about_qps
