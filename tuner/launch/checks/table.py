"""Signs that a replayed table was not made for this spec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from results.text import counted, given, milliseconds
from runners import ReplayRunner, Runner
from search_spaces import Parameter
from search_spaces.reading import quoted
from tuner.spec.reading import LoadedSpec

_MAX_LOOKED_UP = 20_000  # configurations
_MAX_CHOICES, _MAX_SHOWN = 100, 3
_FAR_BELOW = 1 / 200  # of the limit: no server that is loaded up to it has such a p99


def doubts(loaded: LoadedSpec, runner: Runner) -> Iterator[str]:
    """A sentence for each sign that the table does not fit the spec; nothing where no table is replayed."""
    if not isinstance(runner, ReplayRunner):
        return
    name, size = loaded.spec.runner.table, loaded.space.size
    if size.exact and size.count <= _MAX_LOOKED_UP and not any(runner.has(one) for one in loaded.space):
        yield f"runner.table: no row of {name} is a configuration of the space, so nothing can be replayed"
    for parameter in loaded.space.parameters:
        yield from _absent(parameter, runner)
    if runner.unread:
        yield (
            f"runner.table: of {name} not read: {_some(runner.unread)}; read are capacity_qps, saturated_qps, p99_ms, "
            "price_per_hour, trial_s and status"
        )
    if runner.unpriced:
        unpriced = counted(runner.unpriced, "row")
        yield f"runner.table: {unpriced} of {name} without a price_per_hour: the spec's prices are taken"
    yield from _other_limits(loaded, runner)


def _absent(parameter: Parameter, runner: ReplayRunner) -> Iterator[str]:
    """Parameters of which no row has a value of the space, though the table has others: a spelling, more often than
    not.
    """
    if len(parameter.choices) > _MAX_CHOICES:
        return
    absent, others = runner.compared(parameter.name, parameter.choices)
    if absent and others:
        yield f"runner.table: {parameter.name}: no row has {_some(absent)}; there are {_some(others)}"


def _some(values: Sequence[object]) -> str:
    more = " and others" if len(values) > _MAX_SHOWN else ""
    return ", ".join(quoted(given(one), 40)[1:-1] for one in values[:_MAX_SHOWN]) + more


def _other_limits(loaded: LoadedSpec, runner: ReplayRunner) -> Iterator[str]:
    name, limits = loaded.spec.runner.table, loaded.spec.slo.limits if loaded.spec.slo is not None else ()
    limit_ms = next((1e3 * one.limit_s for one in limits if (one.metric, one.percentile) == ("latency", 99)), None)
    if limit_ms is None:
        return
    if slower := runner.slower_than(limit_ms):
        yield (
            f"runner.table: {counted(slower, 'row')} of {name} with a capacity {'has' if slower == 1 else 'have'} a "
            f"p99 above {milliseconds(limit_ms)}, as if measured under another SLO"
        )
    if runner.max_p99_ms is not None and 0 < runner.max_p99_ms < _FAR_BELOW * limit_ms:
        yield f"runner.table: p99_ms of {name} is {runner.max_p99_ms:g} at most: is it in seconds?"
