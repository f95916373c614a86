"""All that a report shows of a study, in one value: the same for HTML, Markdown, and what comes later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from results.explanation import Explanation
from results.records import (
    Choice,
    Recommendation,
    TrialRecord,
)
from results.trial_parts import (
    TrialEvidence,
)


@dataclass(frozen=True)
class StudySummary:
    """What was asked, what was measured, and what is recommended.

    `confirmations` holds the further launches of a trial's configuration by the trial's number, in their order, and
    `pooled` one record for all of its launches together. `slo` and `objective` are sentences for people,
    `slo_p99_ms` is the limit on the p99, or the percentile nearest to it, where there is one, and `slo_late` the share
    of requests that may be later. `metrics` are the objective's; the first one ranks,
    `values` has it by the trial's number, and `maximised` says whether more is better.
    `current` is the trial of the configuration that is deployed today; None where none was named or measured.
    `ended` is an ISO time; `running` trials are under way, of a `budget` (None: as many as are worth it).
    `evidence` is that of the recommendation and its alternatives. `gpu_parameters` ask for a GPU or a share of one.
    `damaged` says what of the study cannot be read, and was left out.
    `currency` is a sign (`$`, written before) or a code (`EUR`, written after).
    """

    service: str
    recommendation: Recommendation
    records: tuple[TrialRecord, ...]
    confirmations: Mapping[int, tuple[TrialRecord, ...]]
    parameters: tuple[str, ...]
    slo: tuple[str, ...]
    objective: str
    current: TrialRecord | None
    space_size: str
    provenance: Mapping[str, str] = field(default_factory=dict)
    ended: str | None = None
    notes: tuple[str, ...] = ()
    slo_p99_ms: float | None = None
    slo_late: float = 0.01
    metrics: tuple[str, ...] = ("cost_per_million_requests",)
    maximised: bool = False
    values: Mapping[int, float] = field(default_factory=dict)
    budget: int | None = None
    running: int = 0
    explanation: Explanation | None = None
    evidence: Mapping[int, TrialEvidence] = field(default_factory=dict)
    gpu_parameters: tuple[str, ...] = ()
    currency: str = "$"
    pooled: Mapping[int, TrialRecord] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    def latest(self, record: TrialRecord) -> TrialRecord:
        """What is known of a trial's configuration by all of its launches together, or by the latest where they were
        not put together.
        """
        again = self.confirmations.get(record.number)
        return self.pooled.get(record.number) or (again[-1] if again else record)

    @property
    def chosen(self) -> Choice | None:
        """The recommendation as a choice like its alternatives; None where nothing met the SLO."""
        best = self.recommendation
        if best.configuration is None or best.capacity_qps is None or best.trial is None:
            return None
        return Choice(**{name: getattr(best, name) for name in Choice.model_fields})
