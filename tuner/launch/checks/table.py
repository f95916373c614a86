"""Signs that a replayed table was not made for this spec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from results.text import assigned, counted, given, milliseconds
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
    name = loaded.spec.runner.table
    yield from _coverage(loaded, runner)
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


def check_table(loaded: LoadedSpec, runner: ReplayRunner) -> None:
    """Raises SpecError where no row is a configuration of the space, so that nothing could be replayed."""
    choices = [one.choices for one in loaded.space.parameters]
    if runner.fits(choices) and not (_listed(loaded) and len(runner.beyond(loaded.space)) == runner.size):
        return
    name = loaded.spec.runner.table
    differ = list(_differences(loaded.space.parameters, runner))
    why = "; ".join(differ[:_MAX_SHOWN]) or "each of them breaks space.constraints"
    raise loaded.error(
        ("runner", "table"), f"no row of {name} is a configuration of the space, so nothing can be replayed: {why}"
    )


def _differences(parameters: Sequence[Parameter], runner: ReplayRunner) -> Iterator[str]:
    """What the rows have in place of the choices: where no row has any of them, or else wherever a row has another."""
    found = [(one, *runner.others(one.name, one.choices)) for one in parameters]
    apart = [(one, others) for one, others, alone in found if alone]
    for one, others in apart or [(one, others) for one, others, _ in found if others]:
        yield f"{one.name} is {_some(others)} there, and {_some(one.choices)} in the space"


def _listed(loaded: LoadedSpec) -> bool:
    """Whether the space is small enough to be looked up."""
    return loaded.space.size.exact and loaded.space.size.count <= _MAX_LOOKED_UP


def _coverage(loaded: LoadedSpec, runner: ReplayRunner) -> Iterator[str]:
    """What of the table and of the space is left over, where each is compared with the other."""
    name, size, today = loaded.spec.runner.table, loaded.space.size, loaded.spec.current
    beyond = runner.beyond(loaded.space) if _listed(loaded) else []
    found = runner.size - len(beyond)
    if found < size.count:
        yield f"runner.table: {name} has rows for {found:,} of {size} configurations; the others count as infeasible"
    if beyond:
        lines = "line {} of {} is no configuration" if len(beyond) == 1 else "lines {} of {} are no configurations"
        yield f"runner.table: {lines.format(_some(beyond), name)} of the space, and not read"
    if today is not None and not runner.has(today):
        yield f"runner.table: current, {assigned(today)}, has no row in {name}, so nothing is compared with it"


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
