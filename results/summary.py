"""All that a report shows of a study, in one value: the same for HTML, Markdown, and what comes later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from results.records import Choice, Recommendation, TrialRecord


@dataclass(frozen=True)
class StudySummary:
    """What was asked, what was measured, and what is recommended.

    `confirmations` holds second measurements by their trial's number. `slo` and `objective` are sentences for people.
    `current` is the trial of the configuration that is deployed today; None where none was named or measured.
    `started` and `ended` are ISO times. `currency` is a sign (`$`, written before) or a code (`EUR`, written after).
    """

    service: str
    recommendation: Recommendation
    records: tuple[TrialRecord, ...]
    confirmations: Mapping[int, TrialRecord]
    parameters: tuple[str, ...]
    slo: tuple[str, ...]
    objective: str
    current: TrialRecord | None
    space_size: str
    provenance: Mapping[str, str] = field(default_factory=dict)
    started: str | None = None
    ended: str | None = None
    notes: tuple[str, ...] = ()
    currency: str = "$"

    def latest(self, record: TrialRecord) -> TrialRecord:
        """The second measurement of a trial where there is one: longer, and so the better estimate."""
        return self.confirmations.get(record.number, record)

    @property
    def chosen(self) -> Choice | None:
        """The recommendation as a choice like its alternatives; None where nothing met the SLO."""
        best = self.recommendation
        if best.configuration is None or best.capacity_qps is None or best.trial is None:
            return None
        return Choice(**{name: getattr(best, name) for name in Choice.model_fields})
