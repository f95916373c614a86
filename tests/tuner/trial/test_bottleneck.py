"""What held a configuration back is told from the rate that it held, and from what neighbours left it."""

from __future__ import annotations

import pytest

from loadtest import Measurement, Neighbours, Probe
from runners import Resources, Usage
from tuner.trial.bottleneck import name_bottleneck, reported_probe


def probe(rate_qps: float, verdict: str, lost_cores: float = 0.0, duration_s: float = 5.0) -> Probe:
    beside = Neighbours(
        duration_s=duration_s, server_cores=1, server_used_cores=0.5, others_cores=lost_cores,
        server_waited_cores=lost_cores, reason="others" if lost_cores else "",
    )  # fmt: skip
    return Probe.model_validate(
        {"rate_qps": rate_qps, "verdict": verdict, "started_s": 1.0, "duration_s": duration_s, "requests": 100,
         "completed": 100, "misses": 0, "errors": 0, "achieved_qps": rate_qps, "p50_ms": 5.0, "p95_ms": 6.0,
         "p99_ms": None, "late_p99_ms": 0, "generator_cpu": 0, "histogram": "", "neighbours": beside}
    )  # fmt: skip


def measured(*probes: Probe, best_qps: float | None = None) -> Measurement:
    return Measurement(
        outcome="measured", warmup_s=1.0, load_s=9.0, load_started_s=1.0, probes=probes, best_qps=best_qps
    )


@pytest.mark.parametrize(
    ("found", "used", "named"),
    [
        (measured(probe(50, "met")), 0.5, "wait"),
        (measured(probe(50, "met")), 0.9, "cpu"),
        (measured(probe(50, "met", lost_cores=0.4)), 0.5, "cpu"),  # it would have used what neighbours took
        (measured(probe(50, "missed")), 0.5, None),  # that is over pauses, too
        (measured(probe(50, "missed")), 0.9, "cpu"),
        (measured(probe(50, "undecided"), best_qps=50), 0.5, "wait"),
    ],
)
def test_a_server_waits_only_where_it_held_a_rate_with_cores_to_spare(
    found: Measurement, used: float, named: str | None
) -> None:
    assert name_bottleneck(found, Usage(cpu_cores_mean=used), Resources(cpu_cores=1)) == named


def test_what_was_used_is_that_of_the_rate_that_is_reported() -> None:
    held = probe(50, "undecided")
    assert reported_probe(measured(probe(40, "met"), held, probe(60, "undecided"), best_qps=50)) is held
    longer = probe(50, "met", duration_s=9.0)
    assert reported_probe(measured(held, longer, best_qps=50)) is longer
    assert reported_probe(measured(probe(50, "invalid"), best_qps=50)) is None
