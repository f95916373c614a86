"""All that a report shows of a study, in one value: the same for HTML, Markdown, and what comes later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from results.explanation import Explanation
from results.percentiles import Percentile, shown_percentiles
from results.records import Choice, Recommendation, TrialRecord
from results.trial_parts import TrialEvidence


@dataclass(frozen=True)
class StudySlo:
    """The SLO that was asked for, as sentences for people (`texts`) and as numbers. `tail_ms` is the limit on the p99,
    or the percentile nearest to it from the 95th up (`percentile`), where there is one, `ttft_ms` the one on the first
    token of a streamed answer, and `late` the share of requests that may be late: later than `late_ms`, a limit on the
    whole answer at whatever percentile, where there is one. `limited` are all percentiles with a limit.
    """

    texts: tuple[str, ...] = ()
    tail_ms: float | None = None
    percentile: float = 99.0
    late: float = 0.01
    late_ms: float | None = None
    ttft_ms: float | None = None
    limited: tuple[Percentile, ...] = ()

    @property
    def tail_name(self) -> str:
        """What a line at `tail_ms` is called, where p99s are drawn: a limit on another percentile says so."""
        return "SLO" if self.percentile == 99 else f"SLO p{self.percentile:g}"


@dataclass(frozen=True)
class StudyQuestion:
    """What was asked. `objective` is a sentence for people. `metrics` are the objective's; the first one ranks, and
    `maximised` says whether more of it is better. `gpu_parameters` ask for a GPU or a share of one. `currency` is a
    sign (`$`, written before) or a code (`EUR`, written after).
    """

    parameters: tuple[str, ...]
    slo: StudySlo
    objective: str
    space_size: str
    gpu_parameters: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("cost_per_million_requests",)
    maximised: bool = False
    currency: str = "$"


@dataclass(frozen=True)
class StudyProgress:
    """How far a study is: `running` trials are under way, of a `budget` (None: as many as are worth it). `ended` is an
    ISO time in UTC. `damaged` says what of the study cannot be read, and was left out.
    """

    budget: int | None = None
    running: int = 0
    ended: str | None = None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class FurtherLaunches:
    """Launches of a configuration after its trial, by the trial's number: `confirmations` in their order, and `pooled`
    one record for all of its launches together.
    """

    confirmations: Mapping[int, tuple[TrialRecord, ...]] = field(default_factory=dict)
    pooled: Mapping[int, TrialRecord] = field(default_factory=dict)


@dataclass(frozen=True)
class StudySummary:
    """What was asked, what was measured, and what is recommended.

    `values` has the metric that ranks, by the trial's number. `current` is the trial of the configuration that is
    deployed today; None where none was named or measured. `evidence` is that of the recommendation and its
    alternatives.
    """

    service: str
    question: StudyQuestion
    recommendation: Recommendation
    records: tuple[TrialRecord, ...]
    launches: FurtherLaunches = FurtherLaunches()
    current: TrialRecord | None = None
    values: Mapping[int, float] = field(default_factory=dict)
    explanation: Explanation | None = None
    evidence: Mapping[int, TrialEvidence] = field(default_factory=dict)
    progress: StudyProgress = StudyProgress()
    provenance: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def latest(self, record: TrialRecord) -> TrialRecord:
        """What is known of a trial's configuration by all of its launches together, or by the latest where they were
        not put together.
        """
        confirmations = self.launches.confirmations.get(record.number)
        return self.launches.pooled.get(record.number) or (confirmations[-1] if confirmations else record)

    @cached_property
    def percentiles(self) -> tuple[Percentile, ...]:
        """What is shown of the times of each trial's requests."""
        return shown_percentiles(self.question.slo.limited, self.records)

    @property
    def chosen(self) -> Choice | None:
        """The recommendation as a choice like its alternatives; None where nothing met the SLO."""
        best = self.recommendation
        if best.configuration is None or best.capacity_qps is None or best.trial is None:
            return None
        return Choice(**{name: getattr(best, name) for name in Choice.model_fields})
