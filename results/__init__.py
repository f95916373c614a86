"""What a study found: records, tables, the recommendation's file, reports.

It takes finished values and writes files; it launches, measures and decides nothing, and knows neither Locust nor
runners. pandas is imported only where a table is made, since that takes half a second.
"""

from results.explanation import Explanation, Surface
from results.files import ResultsError, read_recommendation, write_recommendation
from results.records import (
    Choice,
    Recommendation,
    TrialCounts,
    TrialRecord,
)
from results.report.report import write_report
from results.summary import FurtherLaunches, StudyProgress, StudyQuestion, StudySlo, StudySummary
from results.tables import RESERVED_COLUMNS, trials_frame, write_trials, writes_parquet
from results.trial_parts import (
    ChainRecord,
    Costs,
    Estimate,
    Identity,
    LanguageRecord,
    Latencies,
    MachineEffect,
    MachineRecord,
    Observations,
    ProbeRecord,
    Rates,
    ServerFacts,
    ServiceRecord,
    StageRecord,
    State,
    Timing,
    TokenTimes,
    TrialEvidence,
    UsageSample,
    Use,
    WarmupSample,
)

__all__ = [
    "RESERVED_COLUMNS",
    "ChainRecord",
    "Choice",
    "Costs",
    "Estimate",
    "Explanation",
    "FurtherLaunches",
    "Identity",
    "LanguageRecord",
    "Latencies",
    "MachineEffect",
    "MachineRecord",
    "Observations",
    "ProbeRecord",
    "Rates",
    "Recommendation",
    "ResultsError",
    "ServerFacts",
    "ServiceRecord",
    "StageRecord",
    "State",
    "StudyProgress",
    "StudyQuestion",
    "StudySlo",
    "StudySummary",
    "Surface",
    "Timing",
    "TokenTimes",
    "TrialCounts",
    "TrialEvidence",
    "TrialRecord",
    "UsageSample",
    "Use",
    "WarmupSample",
    "read_recommendation",
    "trials_frame",
    "write_recommendation",
    "write_report",
    "write_trials",
    "writes_parquet",
]
