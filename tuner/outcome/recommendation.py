"""What to do, and why: makes a recommendation from a study's records and all launches of each configuration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from loadtest import WARMUP_FAILED
from results import Choice, Recommendation, TrialCounts, TrialRecord
from results.text import counted, without_figures
from search_spaces.reading import foreign
from tuner.errors import as_asked
from tuner.outcome.doubts import UNCONFIRMED, doubts
from tuner.outcome.reasons import Grounds, counts_of, reasons
from tuner.search.beliefs import Beliefs
from tuner.search.contenders import believed, find_current, pooled_record, refuted
from tuner.search.decision import Decision, decide_deployment
from tuner.search.objective import Objective, pareto_front, undecided, unready
from tuner.spec.reading import LoadedSpec
from tuner.study.memory_limit import memory_limit
from tuner.study.outlook import Outlook

_REASONS = 3  # that are shown where nothing is recommended

Launches = Mapping[int, Sequence[TrialRecord]]


@dataclass(frozen=True)
class Weighed:
    """What is believed of a study's configurations, and their records by all of their launches."""

    beliefs: Beliefs | None
    pooled: Sequence[TrialRecord]


def weigh(loaded: LoadedSpec, records: Sequence[TrialRecord], confirmations: Launches, outlook: Outlook) -> Weighed:
    """Weigh a study's records. This takes most of the time of a look at a study, so it is done once and passed on."""
    objective = Objective.of(loaded.spec.objective)
    beliefs = believed(objective, records, confirmations, outlook.expected, memory_limit(loaded))
    return Weighed(beliefs, pooled_records(objective, records, confirmations, beliefs))


def recommend(
    loaded: LoadedSpec, records: Sequence[TrialRecord], confirmations: Launches, stopped: str | None = None,
    outlook: Outlook | None = None, weighed: Weighed | None = None,
) -> Recommendation:  # fmt: skip
    """Recommend the best configuration by all of its launches, or today's if none is surely better.

    A configuration that did not hold the SLO in half of its launches is not recommended, however good it looked at
    first. One that was launched once only is, where none was launched again (an interrupted run). `confirmations` are
    the further launches by the number of their trial; `stopped` says why the search ended early.
    """
    objective, outlook = Objective.of(loaded.spec.objective), outlook or Outlook()
    weighed = weighed or weigh(loaded, records, confirmations, outlook)
    beliefs, pooled = weighed.beliefs, {one.number: one for one in weighed.pooled}
    serving = [one.number for one in objective.ranked(pooled.values()) if beliefs and one.number in beliefs]
    counts = counts_of(records)
    if beliefs is None or not serving:
        return _nothing(loaded, records, confirmations, counts)
    decision = _decide(loaded, objective, beliefs, pooled, serving, records, confirmations)
    best = pooled[decision.number]
    repeats = confirmations.get(best.number, ())
    first = next(one for one in records if one.number == best.number)
    launches = [one for one in (first, *repeats) if one.state == "complete"]
    lost = [one for one in (first, *repeats) if one.state != "complete" and not undecided(one)]
    further = sum(map(len, confirmations.values()))
    grounds = Grounds(loaded, objective, decision, beliefs, best, launches, pooled, outlook, further, lost)
    front = pareto_front([pooled[number] for number in serving])
    chosen = _choice(best, records, confirmations)
    return Recommendation(
        service=loaded.spec.service.name,
        slo=loaded.slo_texts,
        currency=loaded.spec.prices.currency,
        trials=counts,
        decision=decision.action,
        doubt=None if decision.doubt is None else decision.doubt.reason,
        confidence=loaded.spec.objective.confidence,
        probability_best=decision.probability_best,
        probability_near_best=decision.probability_alike,
        probability_cheaper=decision.probability_better,
        saving=decision.saving,
        untried_improvement=outlook.untried_improvement,
        machine=beliefs.machine,
        alternatives=tuple(_choice(one, records, confirmations) for one in front if one.number != best.number),
        reasons=tuple(map(as_asked, (*reasons(grounds), *([stopped] if stopped else [])))),
        **{name: getattr(chosen, name) for name in Choice.model_fields},
    )


def pooled_records(
    objective: Objective, records: Sequence[TrialRecord], confirmations: Launches, beliefs: Beliefs | None
) -> list[TrialRecord]:
    """For each trial one record of all launches of its configuration together."""
    return [pooled_record(objective, one, confirmations.get(one.number, ()), beliefs) for one in records]


def _decide(
    loaded: LoadedSpec, objective: Objective, beliefs: Beliefs, pooled: Mapping[int, TrialRecord],
    serving: Sequence[int], records: Sequence[TrialRecord], confirmations: Launches,
) -> Decision:  # fmt: skip
    today = find_current(loaded, list(pooled.values()))
    current = today.number if today is not None and today.number in serving else None
    confirmed = [number for number in serving if _served(confirmations.get(number, ()))]
    confidence, up = loaded.spec.objective.confidence, objective.maximised[0]
    decision = decide_deployment(beliefs, current, confidence, confirmed or serving, maximised=up)
    if decision.action == "keep" and confirmed:
        # What was launched once only is not recommended. Where that is probably better, the reasons say so.
        of_all = decide_deployment(beliefs, current, confidence, serving, maximised=up)
        return decision if of_all.number == decision.number else replace(decision, doubt=UNCONFIRMED)
    if decision.action != "deploy":
        return decision
    named = loaded.spec.current is not None
    launches = {one.number: (one, *confirmations.get(one.number, ())) for one in records}
    found = doubts(decision, beliefs, confidence, today, launches, serving, names_current=named)
    doubt = next(found, None)
    return decision if doubt is None else replace(decision, action="uncertain", doubt=doubt)


def _served(launches: Sequence[TrialRecord]) -> int:
    return sum(one.state == "complete" for one in launches)


def _nothing(
    loaded: LoadedSpec, records: Sequence[TrialRecord], confirmations: Launches, counts: TrialCounts
) -> Recommendation:
    return Recommendation(
        service=loaded.spec.service.name, slo=loaded.slo_texts, currency=loaded.spec.prices.currency,
        configuration=None, capacity_qps=None, p99_ms=None, error_rate=None, cost_per_hour=None,
        cost_per_million_requests=None, meets_slo=False, confirmed=False, trial=None, trials=counts,
        reasons=tuple(map(as_asked, (*_unpriced(loaded, records), *_why_nothing(records, confirmations, counts)))),
    )  # fmt: skip


def _choice(record: TrialRecord, records: Sequence[TrialRecord], confirmations: Launches) -> Choice:
    """`record` is that of all launches together."""
    assert record.capacity_qps is not None  # noqa: S101 (only complete trials are chosen)
    repeats = confirmations.get(record.number, ())
    return Choice(
        configuration=record.configuration,
        capacity_qps=record.capacity_qps,
        p50_ms=record.latency.p50_ms,
        p90_ms=record.latency.p90_ms,
        p95_ms=record.latency.p95_ms,
        p99_ms=record.latency.p99_ms,
        p999_ms=record.latency.p999_ms,
        latencies_at_qps=record.latency.latencies_at_qps,
        latencies_from_requests=record.latency.latencies_from_requests,
        error_rate=record.latency.error_rate,
        cost_per_hour=record.cost_per_hour,
        cost_per_million_requests=record.cost_per_million_requests,
        meets_slo=True,
        confirmed=_served(repeats) > 0,
        trial=record.number,
        services=record.services,
        interference=record.interference,
        chain=record.chain,
        language=record.language,
        launches=_served([*(one for one in records if one.number == record.number), *repeats]),
    )


def _unpriced(loaded: LoadedSpec, records: Sequence[TrialRecord]) -> list[str]:
    """That some served, of which the objective is not known."""
    objective = Objective.of(loaded.spec.objective)
    unknown = sum(one.state == "complete" and objective.values(one) is None for one in records)
    if not unknown:
        return []
    return [f"{counted(unknown, 'trial')} served within the SLO, of which {objective.metrics[0]} is not known."]


def _why_nothing(records: Sequence[TrialRecord], confirmations: Launches, counts: TrialCounts) -> list[str]:
    if not records:
        return ["No trial has finished."]
    lost = sum(refuted(one, confirmations.get(one.number, ())) for one in records if one.state == "complete")
    said = [
        f"{counted(len(records), 'trial')}: {counts.infeasible} infeasible, {counts.failed} failed, "
        f"{counts.pruned} pruned."
        if not lost
        else f"{counted(lost, 'configuration')} met the SLO at first, but not when measured again."
    ]
    # What held at first may have been refuted by a server that died.
    said += most_frequent([*records, *(one for many in confirmations.values() for one in many)])
    if any(undecided(one) and not unready(one) for one in records):
        said.append("A trial that was too short to tell needs more time (load.max_trial) or a quieter machine.")
    if any(WARMUP_FAILED in (one.reason or "") for one in records):
        said.append("Ask the server by hand: are request.path, the request's body and request.check right?")
    return said


def most_frequent(records: Sequence[TrialRecord]) -> list[str]:
    """Of how many trials each is the reason, the most frequent first. What differs by chance or in what was measured
    alone is one reason.
    """
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for record in records:
        if record.reason:
            kinds[without_figures(record.reason, record.configuration)].append(foreign(record.reason))
    ranked = sorted(kinds.values(), key=len, reverse=True)
    said = []
    for alike in ranked[:_REASONS]:
        example = "" if len(set(alike)) == 1 else ", for example"
        said.append(f"{len(alike)} of {len(records)}{example}: {alike[-1]}")
    if others := sum(map(len, ranked[_REASONS:])):
        said.append(f"{others} of {len(records)}: for other reasons, which the report has.")
    return said
