"""The load test: finds the highest arrival rate at which an endpoint holds its SLO, and says how sure it is.

It runs as a program of its own (`python -m loadtest`: a plan on standard input, JSON lines out), because importing
Locust patches the whole process: only that child does. It knows nothing of runners, prices or searches; what it is
asked and what it answers are the plain values of `loadtest.plan`.
"""

from loadtest.arrivals.recorded import RecordedTraffic, TraceError, read_recorded
from loadtest.arrivals.trace import Trace, read_trace
from loadtest.bundle import pack, variables
from loadtest.client import LoadGenerator, LoadTestError, WrongLocustfile, check_locustfile, read_log
from loadtest.figures import BackgroundMeasurement, Interval, StageTimes, WarmupPoint
from loadtest.histogram import LatencyHistogram
from loadtest.llm import Lengths, LlmPlan, PrefixCache
from loadtest.neighbours import MachineSpeed, Neighbours, ServerProcesses, Slowness
from loadtest.plan import (
    ONE_LAUNCH,
    TOO_SHORT,
    WARMUP_FAILED,
    Answer,
    Background,
    Burst,
    JointPlan,
    LoadPlan,
    Measurement,
    Probe,
    Progress,
    Stage,
    Target,
    TargetMeasurement,
    Verdict,
)
from loadtest.request.answers import WrongCheck, checker
from loadtest.request.auth import secret_headers
from loadtest.request.bodies import Body, read_bodies, read_others
from loadtest.request.reply import may_be_load
from loadtest.request.request_check import PlanError
from loadtest.request.v2 import infer_request
from loadtest.request_plan import AnswerCheck, Auth, FormField, OtherRequest, RequestPlan
from loadtest.slo import LatencyLimit, Slo

__all__ = [
    "ONE_LAUNCH",
    "TOO_SHORT",
    "WARMUP_FAILED",
    "Answer",
    "AnswerCheck",
    "Auth",
    "Background",
    "BackgroundMeasurement",
    "Body",
    "Burst",
    "FormField",
    "Interval",
    "JointPlan",
    "LatencyHistogram",
    "LatencyLimit",
    "Lengths",
    "LlmPlan",
    "LoadGenerator",
    "LoadPlan",
    "LoadTestError",
    "MachineSpeed",
    "Measurement",
    "Neighbours",
    "OtherRequest",
    "PlanError",
    "PrefixCache",
    "Probe",
    "Progress",
    "RecordedTraffic",
    "RequestPlan",
    "ServerProcesses",
    "Slo",
    "Slowness",
    "Stage",
    "StageTimes",
    "Target",
    "TargetMeasurement",
    "Trace",
    "TraceError",
    "Verdict",
    "WarmupPoint",
    "WrongCheck",
    "WrongLocustfile",
    "check_locustfile",
    "checker",
    "infer_request",
    "may_be_load",
    "pack",
    "read_bodies",
    "read_log",
    "read_others",
    "read_recorded",
    "read_trace",
    "secret_headers",
    "variables",
]
