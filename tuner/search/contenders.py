"""From a study's records to what each configuration's launches have shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from results import Estimate, TrialRecord
from results.machine import TimedWork
from tuner.search.beliefs import Beliefs, believe
from tuner.search.launches import LAUNCH_SPREAD, Contender, Expectation, Floats, LaunchFigure, log_capacity_of
from tuner.search.machine_speed import contenders_at_mean_speed
from tuner.search.memory import MemoryLimit
from tuner.search.objective import Objective, cost_per_million_requests, undecided
from tuner.spec.reading import LoadedSpec

_WIDTH = 2 * 1.96  # of a 95% interval, in standard deviations
_REFUTED = 0.5  # of its launches did not hold the SLO: so it does not


def find_current(loaded: LoadedSpec, records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The trial of the configuration that the spec names as the one deployed today."""
    current = loaded.spec.current
    if current is None:
        return None
    ranks = loaded.space.ranks(current)
    return next((record for record in records if loaded.space.ranks(record.configuration) == ranks), None)


def refuted(record: TrialRecord, confirmations: Sequence[TrialRecord]) -> bool:
    """Whether a configuration that served at first has not done so in half of its launches or more, those aside that
    were too short to tell.
    """
    launches = [one for one in (record, *confirmations) if not undecided(one)]
    lost = sum(one.state in ("infeasible", "failed") for one in launches)
    return bool(confirmations) and bool(lost) and lost >= _REFUTED * len(launches)


def believed(
    objective: Objective, records: Sequence[TrialRecord], confirmations: Mapping[int, Sequence[TrialRecord]],
    expected: Mapping[int, Expectation] | None = None, memory: MemoryLimit | None = None,
) -> Beliefs | None:  # fmt: skip
    """What is believed of every configuration that served, or was pruned; None where none served.

    `confirmations` are further launches by the number of their trial, `expected` what the other trials make one expect
    of a trial's log capacity. Where the machine's speed was timed, launches are compared at its mean. Configurations
    that differ in more `memory` alone than was used are one server, of which all launches count; but each has the
    energy that it was measured with.
    """
    same = {} if memory is None or objective.by_energy else memory.servers(records, confirmations)
    by_latency, by_cost = objective.metrics[0] == "p99_ms", objective.metrics[0].startswith(("cost", "energy"))
    log_tokens = _log_tokens(objective, records, confirmations)
    found: dict[int, Contender] = {}
    prices, p99s = [], []
    for record in records:
        launches = [record, *confirmations.get(record.number, ())]
        shown = [one for launch in launches if (one := _shown(launch, objective, by_latency=by_latency))]
        if not shown or refuted(record, launches[1:]):
            continue
        expectation = None if by_latency or expected is None else expected.get(record.number)
        hourly = objective.hourly(record)
        price = math.nan if hourly is None else math.log(max(hourly, 1e-12))
        scale = (price if by_cost and not math.isnan(price) else 0.0) - log_tokens[record.number]
        server = same.get(record.number, record.number)
        found[record.number] = Contender(server, tuple(shown), expectation, scale)
        prices.append(price)
        p99s.append(next((one.latency.p99_ms.value for one in launches if one.latency.p99_ms), math.nan))
    if all(launch.below for one in found.values() for launch in one.launches):
        return None
    log_price = np.array(prices)[:, None]

    def losses(figures: Floats) -> Floats:
        if by_latency:
            return -figures
        per_request = objective.losses_at(figures, np.array(p99s)[:, None], log_price)[0]
        return np.asarray(per_request - np.array([log_tokens[number] for number in found])[:, None])

    at_mean, effect = contenders_at_mean_speed(_together(found))
    beliefs = believe(at_mean, losses, {number: one.number for number, one in found.items()})
    by_capacity = not by_latency and objective.metrics[0] != "best_effort_qps"
    return replace(beliefs, machine=effect if by_capacity else None)


def _log_tokens(
    objective: Objective, records: Sequence[TrialRecord], confirmations: Mapping[int, Sequence[TrialRecord]]
) -> dict[int, float]:
    """The logarithm of a request's tokens by each trial's number: 0 where the objective counts none. Answers differ in
    length where a server ends them itself. A trial that was pruned does not know its own, and is given the mean.
    """
    known: dict[int, float] = {}
    for record in records:
        launches = (record, *confirmations.get(record.number, ()))
        tokens = [math.log(one) for launch in launches if (one := objective.tokens(launch))]
        if tokens:
            known[record.number] = float(np.mean(tokens))
    usual = float(np.mean(list(known.values()))) if known else 0.0
    return {record.number: known.get(record.number, usual) for record in records}


def _together(trials: Mapping[int, Contender]) -> list[Contender]:
    """One for each server, with all of its launches, in the order of the first. What is expected of it goes by the
    trial that it has its number from, whichever came first: memory that no launch came near has a price, and holds
    nothing.
    """
    servers: dict[int, Contender] = {}
    for one in trials.values():
        before = servers.get(one.number)
        launches = one.launches if before is None else (*before.launches, *one.launches)
        servers[one.number] = replace(trials.get(one.number, one), launches=launches)
    return list(servers.values())


def pooled_record(
    objective: Objective, record: TrialRecord, confirmations: Sequence[TrialRecord], beliefs: Beliefs | None
) -> TrialRecord:
    """One record for all launches of a configuration: the latest that served, with the capacity (and so the cost), or
    the p99 where that is the objective, that is believed of them together. Where it is refuted, the latest of all that
    were not too short to tell.
    """
    launches = [record, *confirmations]
    served = [one for one in launches if one.state == "complete"]
    if not served or refuted(record, confirmations) or beliefs is None or record.number not in beliefs:
        return ([one for one in launches if not undecided(one)] or launches)[-1]
    latest = served[-1]
    if beliefs.launch_spread == 0:
        return latest
    believed_ = beliefs.figure(record.number)
    if objective.metrics[0] == "p99_ms":
        p99 = Estimate(value=1 / believed_.value, low=1 / believed_.high, high=1 / believed_.low)
        return latest.model_copy(update={"latency": latest.latency.model_copy(update={"p99_ms": p99})})
    if objective.metrics[0] == "best_effort_qps":
        return latest.model_copy(update={"best_effort_qps": believed_})
    cost = latest.cost_per_million_requests
    if cost is not None and latest.cost_per_hour is not None:
        cost = cost_per_million_requests(latest.cost_per_hour, believed_.value)
    services = tuple(
        one.model_copy(update={"capacity_qps": None if one.capacity_qps is None else one.share * believed_.value})
        for one in latest.services
    )
    language = latest.language and latest.language.at(believed_.value, latest.cost_per_hour)
    update = {"capacity_qps": believed_, "cost_per_million_requests": cost, "services": services, "language": language}
    return latest.model_copy(update=update)


def to_beat(objective: Objective, records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The best of the complete trials, each with the capacity that it has with a probability of about 84%: one standard
    deviation below what was measured, of its measurement and of launches together. None where none is complete. How
    much more it may hold, as beside neighbours on the machine, says nothing of that.

    A trial that promises less than this is not measured to its end. The highest of many noisy figures is a lucky one:
    were it the one to beat, most of what follows would be pruned, the truly best among it. Exact figures stand.
    """
    return next(iter(objective.ranked([_surely(record) for record in records])), None)


def _surely(record: TrialRecord) -> TrialRecord:
    capacity = record.capacity_qps
    if record.state != "complete" or capacity is None or not _error(capacity):
        return record
    below = math.log(capacity.value / capacity.low) / (_WIDTH / 2)
    share = math.exp(-math.hypot(below, LAUNCH_SPREAD))
    less = Estimate(value=share * capacity.value, low=share * capacity.low, high=share * capacity.high)
    cost = record.cost_per_million_requests
    update = {"capacity_qps": less, "cost_per_million_requests": None if cost is None else cost / share}
    return record.model_copy(update=update)


def _shown(record: TrialRecord, objective: Objective, *, by_latency: bool) -> LaunchFigure | None:
    shared, work = record.timing.final_round, TimedWork.of(record)
    if record.state == "pruned":
        # What it answers at full load, whatever the latency, is more than it holds within the SLO.
        bound = min((one for one in (record.capacity_bound_qps, record.saturated_qps) if one), default=None)
        if by_latency or not bound:
            return None
        return LaunchFigure(math.log(bound), 0.0, True, shared, *work)
    if objective.values(record) is None:
        return None
    estimate = record.latency.p99_ms if by_latency else objective.modelled(record).capacity_qps
    if estimate is None or estimate.value <= 0:
        return None
    if by_latency:
        return LaunchFigure(-math.log(estimate.value), _error(estimate), False, shared, *work)
    return LaunchFigure(log_capacity_of(record, estimate), _error(estimate), False, shared, *work)


def _error(estimate: Estimate) -> float:
    if not 0 < estimate.low < estimate.high:
        return 0.0
    return math.log(estimate.high / estimate.low) / _WIDTH
