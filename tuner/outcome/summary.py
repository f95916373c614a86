"""From a stored study to all that the report, the dashboard, the plan and the exports show of it."""

from __future__ import annotations

from results import Explanation, StudySummary
from tuner.outcome.recommendation import pooled_records, recommend
from tuner.search.contenders import believed, find_current
from tuner.search.objective import Objective
from tuner.spec.reading import LoadedSpec
from tuner.study.archive import Archive

_NOTABLE = 0.02  # the least share of the variance that is worth a word


def summarise(loaded: LoadedSpec, archive: Archive) -> StudySummary:
    """`loaded` is the archive's own spec, or what has since become of it (`current:` may change).

    Raises UnfitEnvironmentError when the storage is lost.
    """
    found = archive.snapshot()
    objective = Objective.of(loaded.spec.objective)
    beliefs = believed(objective, found.records, found.confirmations, found.outlook.expected)
    pooled = pooled_records(objective, found.records, found.confirmations, beliefs)
    recommendation = recommend(loaded, found.records, found.confirmations, found.stopped, found.outlook)
    shown = (recommendation.trial, *(one.trial for one in recommendation.alternatives))
    explanation = None if found.explanation is None else Explanation.model_validate(found.explanation)
    return StudySummary(
        service=loaded.spec.service.name,
        recommendation=recommendation,
        records=found.records,
        confirmations=found.confirmations,
        pooled={record.number: record for record in pooled},
        parameters=loaded.space.names,
        slo=loaded.slo_texts,
        slo_p99_ms=loaded.p99_limit_ms,
        slo_late=0.01 if loaded.tail_limit is None else 1 - loaded.tail_limit.percentile / 100,
        objective=str(objective),
        current=find_current(loaded, found.records),
        currency="$" if loaded.spec.prices.currency == "USD" else loaded.spec.prices.currency,
        space_size=str(loaded.space.size),
        provenance=found.provenance,
        ended=None if found.running else found.ended,
        notes=_what_mattered(explanation),
        budget=found.budget,
        running=found.running,
        explanation=explanation,
        evidence={number: archive.evidence(number) for number in shown if number is not None},
        gpu_parameters=tuple(
            service.prefix + one.name
            for service in loaded.services
            for one in service.loaded.space.parameters
            if one.role in ("gpu_type", "gpu_memory", "gpus")
        ),
        metrics=objective.metrics,
        maximised=objective.maximised[0],
        values={record.number: values[0] for record in found.records if (values := objective.values(record))},
    )


def _what_mattered(explanation: Explanation | None) -> tuple[str, ...]:
    if explanation is None:
        return ()
    shares = [f"{name} {share:.0%}" for name, share in explanation.importance.items() if share >= _NOTABLE]
    return (f"What {explanation.metric} depends on, as predicted: {', '.join(shares)}.",) if shares else ()
