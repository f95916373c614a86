"""The percentiles that a spec's SLO limits, which displays show of every trial."""

from __future__ import annotations

from results.percentiles import Percentile
from tuner.spec.reading import LoadedSpec


def limited_percentiles(loaded: LoadedSpec) -> tuple[Percentile, ...]:
    """Each once, in the order of the limits. Of several services those of all: a trial's latencies are those of the
    service that is nearest to its limit. A goodput and a rate of tokens limit no percentile of one time.
    """
    slos = [one.loaded.spec.slo for one in loaded.services if not one.best_effort]
    found: dict[Percentile, None] = {}
    for limit in (limit for slo in slos if slo for limit in slo.limits):
        if limit.metric in ("latency", "ttft", "tpot", "itl"):
            found[Percentile(limit.metric, limit.percentile)] = None
    return tuple(found)
