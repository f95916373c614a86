"""Sums up a stored study: everything that the report, the dashboard, the plan and the exports show of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from results import (
    Explanation,
    FurtherLaunches,
    StudyProgress,
    StudyQuestion,
    StudySlo,
    StudySummary,
    TrialRecord,
)
from results.text import currency_sign
from tuner.outcome.recommendation import recommend, weigh
from tuner.search.contenders import find_current
from tuner.search.objective import Objective
from tuner.spec.limited import limited_percentiles
from tuner.spec.load import SloLimit
from tuner.spec.reading import LoadedSpec
from tuner.study.storage.archive import Archive, Snapshot
from tuner.study.storage.damage import misfits

_SHOWN = 3
_NOTABLE = 0.02  # the least share of the variance that is worth a word


def summarise(loaded: LoadedSpec, archive: Archive) -> StudySummary:
    """`loaded` is the archive's own spec, or what has since become of it (`current:` may change).

    Raises UnfitEnvironmentError when the storage is lost.
    """
    found = _of_this_space(loaded, archive.snapshot())
    objective = Objective.of(loaded.spec.objective)
    weighed = weigh(loaded, found.records, found.confirmations, found.outlook)
    recommendation = recommend(loaded, found.records, found.confirmations, found.stopped, found.outlook, weighed)
    shown = (recommendation.trial, *(one.trial for one in recommendation.alternatives))
    return StudySummary(
        service=loaded.spec.service.name,
        recommendation=recommendation,
        question=_question(loaded, objective),
        records=found.records,
        launches=FurtherLaunches(found.confirmations, {record.number: record for record in weighed.pooled}),
        current=find_current(loaded, found.records),
        progress=StudyProgress(found.budget, found.running, None if found.running else found.ended, found.damaged),
        provenance=found.provenance,
        notes=(*_left_out(found.damaged), *_what_mattered(found.explanation)),
        explanation=found.explanation,
        evidence={
            number: archive.evidence(number, last_served(found.confirmations.get(number, ())))
            for number in shown
            if number is not None
        },
        values={record.number: values[0] for record in found.records if (values := objective.values(record))},
    )


def last_served(confirmations: Sequence[TrialRecord]) -> int:
    """Which launch of a trial is the last that served, 0 being its own: what its latencies are shown of."""
    return max((place for place, one in enumerate(confirmations, start=1) if one.state == "complete"), default=0)


def _question(loaded: LoadedSpec, objective: Objective) -> StudyQuestion:
    late_limit = _late_limit(loaded)
    return StudyQuestion(
        parameters=loaded.space.names,
        gpu_parameters=tuple(
            service.prefix + one.name
            for service in loaded.services
            for one in service.loaded.space.parameters
            if one.role in ("gpu_type", "gpu_memory", "gpu_compute", "gpus")
        ),
        space_size=str(loaded.space.size),
        slo=StudySlo(
            texts=loaded.slo_texts,
            tail_ms=loaded.p99_limit_ms,
            percentile=max((one.percentile for one in _tail_limits(loaded)), default=99.0),
            late=_late(loaded),
            late_ms=None if loaded.colocated or late_limit is None else late_limit[1],
            ttft_ms=None if loaded.ttft_limit is None else loaded.ttft_limit[0],
            limited=limited_percentiles(loaded),
        ),
        objective=str(objective),
        metrics=objective.metrics,
        maximised=objective.maximised[0],
        currency=currency_sign(loaded.spec.prices.currency),
    )


def _tail_limits(loaded: LoadedSpec) -> list[SloLimit]:
    found = (one.loaded.tail_limit for one in loaded.services if not one.best_effort)
    return [one for one in found if one is not None]


def _late_limit(loaded: LoadedSpec) -> tuple[float, float] | None:
    """Of the limits on the whole answer, those within a goodput included, the one at the percentile nearest to the
    99th: that percentile, and the limit in ms. None where the SLO sets none.
    """
    limits = [
        (one.percentile, 1e3 * limit_s)
        for one in (loaded.spec.slo.limits if loaded.spec.slo else ())
        for metric, limit_s in (one.good or ((one.metric, one.limit_s),))
        if metric == "latency"
    ]
    return min(limits, key=lambda one: abs(one[0] - 99), default=None)


def _late(loaded: LoadedSpec) -> float:
    """The share of requests that may be later than the limit: on the whole answer, or else on its first token, or on
    what else the SLO limits.
    """
    if (limit := _late_limit(loaded)) is not None:
        return 1 - limit[0] / 100
    if loaded.ttft_limit is not None:
        return 1 - loaded.ttft_limit[1] / 100
    others = [one.percentile for one in (loaded.spec.slo.limits if loaded.spec.slo else ())]
    return 1 - min(others, key=lambda one: abs(one - 99), default=99.0) / 100


def _of_this_space(loaded: LoadedSpec, found: Snapshot) -> Snapshot:
    """The records whose configuration is one of the space."""
    trials, of_confirmations = misfits(loaded, found.records, found.confirmations)
    if not trials and not of_confirmations:
        return found
    return replace(
        found,
        records=tuple(one for one in found.records if one.number not in trials),
        confirmations={
            key: one for key, one in found.confirmations.items() if key not in of_confirmations and key not in trials
        },
        damaged=(*found.damaged, *trials.values(), *of_confirmations.values()),
    )


def _left_out(damaged: tuple[str, ...]) -> tuple[str, ...]:
    more = f" (and {len(damaged) - _SHOWN} more)" if len(damaged) > _SHOWN else ""
    return (f"Left out, since it cannot be read: {'; '.join(damaged[:_SHOWN])}{more}.",) if damaged else ()


def _what_mattered(explanation: Explanation | None) -> tuple[str, ...]:
    if explanation is None:
        return ()
    shares = [f"{name} {share:.0%}" for name, share in explanation.importance.items() if share >= _NOTABLE]
    return (f"What {explanation.metric} depends on, as predicted: {', '.join(shares)}.",) if shares else ()
