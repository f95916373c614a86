"""What to deploy, and why: from a study's records and second measurements to a recommendation in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from results import Choice, Recommendation, State, TrialCounts, TrialRecord
from results.text import assigned
from tuner.search.objective import Objective, pareto_front, replicas_for
from tuner.spec.reading import LoadedSpec

_NOTABLE = 0.05  # interference that is more than noise
_AGREES = 0.15  # relative difference of two measurements that is worth a warning on a shared machine


def recommend(
    loaded: LoadedSpec, records: Sequence[TrialRecord], confirmations: Mapping[int, TrialRecord],
    stopped: str | None = None,
) -> Recommendation:  # fmt: skip
    """The best configuration by its second measurement; by its first where there is no second (an interrupted run).

    A configuration that did not hold the SLO the second time is not recommended, however good it looked at first.
    `stopped` says why the search ended early.
    """
    objective = Objective.of(loaded.spec.objective)
    confirmed = objective.ranked(confirmations.values())
    refuted = {number for number, again in confirmations.items() if objective.losses(again) is None}
    firsts = [record for record in objective.ranked(records) if record.number not in refuted]
    best = next(iter(confirmed), None) or next(iter(firsts), None)
    counts = _count(records)
    if best is None:
        reasons = _why_nothing(records, refuted, counts)
        return Recommendation(
            service=loaded.spec.service.name, configuration=None, capacity_qps=None, p99_ms=None, error_rate=None,
            cost_per_hour=None, cost_per_million_requests=None, meets_slo=False, confirmed=False, trial=None,
            trials=counts, reasons=tuple(reasons),
        )  # fmt: skip
    numbers = {again.number for again in confirmed}
    measured = [*confirmed, *(record for record in firsts if record.number not in numbers)]
    front = [_choice(record, numbers) for record in pareto_front(measured) if record.number != best.number]
    chosen = _choice(best, numbers)
    return Recommendation(
        service=loaded.spec.service.name,
        trials=counts,
        alternatives=tuple(front),
        reasons=(*_reasons(loaded, objective, best, records, confirmations), *([stopped] if stopped else [])),
        **{name: getattr(chosen, name) for name in Choice.model_fields},
    )


def find_current(loaded: LoadedSpec, records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The trial of the configuration that the spec names as the one deployed today."""
    current = loaded.spec.current
    if current is None:
        return None
    ranks = loaded.space.ranks(current)
    return next((record for record in records if loaded.space.ranks(record.configuration) == ranks), None)


def _choice(record: TrialRecord, confirmed: set[int]) -> Choice:
    assert record.capacity_qps is not None  # noqa: S101 (only complete trials are chosen)
    return Choice(
        configuration=record.configuration,
        capacity_qps=record.capacity_qps,
        p99_ms=record.p99_ms,
        error_rate=record.error_rate,
        cost_per_hour=record.cost_per_hour,
        cost_per_million_requests=record.cost_per_million_requests,
        meets_slo=True,
        confirmed=record.number in confirmed,
        trial=record.number,
        services=record.services,
        interference=record.interference,
    )


def _count(records: Sequence[TrialRecord]) -> TrialCounts:
    states: list[State] = [record.state for record in records]
    return TrialCounts(
        complete=states.count("complete"), pruned=states.count("pruned"),
        infeasible=states.count("infeasible"), failed=states.count("failed"),
    )  # fmt: skip


def _why_nothing(records: Sequence[TrialRecord], refuted: set[int], counts: TrialCounts) -> list[str]:
    if not records:
        return ["No trial has finished."]
    reasons = [
        f"None of {len(records)} configurations met the SLO: {counts.infeasible} infeasible, {counts.failed} failed, "
        f"{counts.pruned} pruned."
        if not refuted
        else f"{len(refuted)} configurations met the SLO at first, but not when they were measured again."
    ]
    texts = [record.reason for record in records if record.reason]
    most_common = sorted(set(texts), key=texts.count, reverse=True)[:3]
    return [*reasons, *(f"{texts.count(text)} of {len(records)}: {text}" for text in most_common)]


def _reasons(
    loaded: LoadedSpec, objective: Objective, best: TrialRecord, records: Sequence[TrialRecord],
    confirmations: Mapping[int, TrialRecord],
) -> list[str]:  # fmt: skip
    reasons = [_what_it_serves(loaded, best), *_side_by_side(best)]
    if objective.target_qps is not None and best.capacity_qps and best.cost_per_hour is not None:
        fleet = replicas_for(objective.target_qps, best.capacity_qps.value)
        reasons.append(
            f"{fleet} of them carry {objective.target_qps:g} requests/s for {fleet * best.cost_per_hour:.4g} an hour."
        )
    first = next((record for record in records if record.number == best.number), None)
    reasons += _how_sure(best, first, confirmed=best.number in confirmations)
    reasons += _against_current(loaded, objective, best, [confirmations.get(one.number, one) for one in records])
    reasons += _against_next(objective, best, records, confirmations)
    if best.bottleneck:
        reasons.append(f"Its bottleneck at that rate: {best.bottleneck}.")
    return [*reasons, *(note for note in best.notes if note not in reasons)]


def _what_it_serves(loaded: LoadedSpec, best: TrialRecord) -> str:
    assert best.capacity_qps is not None  # noqa: S101
    capacity = best.capacity_qps
    within = " and ".join(loaded.slo_texts) or "the SLO"
    text = f"{assigned(best.configuration)} holds {capacity.value:.4g} requests/s within {within}"
    if capacity.low < capacity.high:
        text += f" (95% interval {capacity.low:.4g} to {capacity.high:.4g})"
    if best.cost_per_hour is not None and best.cost_per_million_requests is not None:
        text += f", for {best.cost_per_hour:.4g} an hour: {best.cost_per_million_requests:.4g} per million requests"
    return f"{text}."


def _side_by_side(best: TrialRecord) -> list[str]:
    """What each of several services has of it, and what they cost each other."""
    if not best.services:
        return []
    each = [
        f"{one.name} {one.capacity_qps:.4g} requests/s"
        + (f" (alone {one.alone_qps.value:.4g})" if one.alone_qps is not None else "")
        for one in best.services
        if one.capacity_qps is not None
    ]
    reasons = [f"Together: {', '.join(each)}."]
    if best.interference is not None:
        reasons.append(
            f"Beside each other they hold {best.interference:.0%} less than if each did as well as alone."
            if best.interference >= _NOTABLE
            else "They do not hold each other up: together they do as well as alone."
        )
    return reasons


def _how_sure(best: TrialRecord, first: TrialRecord | None, *, confirmed: bool) -> list[str]:
    if not confirmed:
        return ["It was measured once only: the run ended before it could be measured again."]
    if first is None or first.capacity_qps is None or best.capacity_qps is None:
        return []
    before, after = first.capacity_qps.value, best.capacity_qps.value
    text = f"Measured again on a fresh launch: {after:.4g} requests/s, after {before:.4g} at first."
    if abs(after / before - 1) > _AGREES:
        text += " The two differ widely: the machine or the server is unsteady, so leave headroom."
    return [text]


def _against_current(
    loaded: LoadedSpec, objective: Objective, best: TrialRecord, records: Sequence[TrialRecord]
) -> list[str]:
    if loaded.spec.current is None:
        return []
    today = find_current(loaded, records)
    shown = assigned(loaded.spec.current)
    if today is None:
        return [f"The current configuration ({shown}) was not measured."]
    if today.number == best.number:
        return ["It is the current configuration: nothing measured was better."]
    now, then = objective.values(today), objective.values(best)
    if now is None or then is None:
        return [f"The current configuration ({shown}) does not serve within the SLO: {today.reason or today.state}."]
    more = objective.maximised[0]
    return [
        f"Against the current configuration ({shown}): {objective.metrics[0]} {then[0]:.4g} instead of {now[0]:.4g}, "
        f"{abs(then[0] / now[0] - 1):.0%} {'more' if then[0] > now[0] else 'less'}"
        f"{'' if (then[0] > now[0]) == more else ', which is no improvement' if then[0] != now[0] and more else ''}."
    ]


def _against_next(
    objective: Objective, best: TrialRecord, records: Sequence[TrialRecord], confirmations: Mapping[int, TrialRecord]
) -> list[str]:
    latest = [confirmations.get(record.number, record) for record in records]
    ranked = [record for record in objective.ranked(latest) if record.number != best.number]
    ours, theirs = objective.values(best), objective.values(ranked[0]) if ranked else None
    if ours is None or theirs is None or len(objective.metrics) > 1 or not ours[0]:
        return []
    apart = abs(theirs[0] / ours[0] - 1)
    return [f"The next best, {assigned(ranked[0].configuration)}, is {apart:.1%} away in {objective.metrics[0]}."]
