"""What a recorded table says that cannot be meant for this spec."""

from __future__ import annotations

from collections.abc import Iterator

from results.text import counted, milliseconds
from runners import ReplayRunner, Runner
from tuner.spec.reading import LoadedSpec

_MAX_LOOKED_UP = 20_000  # configurations


def doubts(loaded: LoadedSpec, runner: Runner) -> Iterator[str]:
    """Each in a sentence; none where nothing is replayed."""
    if not isinstance(runner, ReplayRunner):
        return
    name, size = loaded.spec.runner.table, loaded.space.size
    if size.exact and size.count <= _MAX_LOOKED_UP and not any(runner.has(one) for one in loaded.space):
        yield f"runner.table: no row of {name} is a configuration of the space, so nothing can be replayed"
    limits = loaded.spec.slo.limits if loaded.spec.slo is not None else ()
    limit_ms = next((1e3 * one.limit_s for one in limits if (one.metric, one.percentile) == ("latency", 99)), None)
    if limit_ms is not None and (slower := runner.slower_than(limit_ms)):
        yield (
            f"runner.table: {counted(slower, 'row')} of {name} with a capacity {'has' if slower == 1 else 'have'} a "
            f"p99 above {milliseconds(limit_ms)}, as if measured under another SLO"
        )
