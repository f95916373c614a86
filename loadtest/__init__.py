"""The load test: finds the highest arrival rate at which an endpoint holds its SLO, and says how sure it is.

It runs as a program of its own (`python -m loadtest`: a plan on standard input, JSON lines out), because importing
Locust patches the whole process: only that child does. It knows nothing of runners, prices or searches; what it is
asked and what it answers are the plain values of `loadtest.plan`.
"""

from loadtest.client import LoadGenerator, LoadTestError
from loadtest.plan import (
    Answer,
    Interval,
    LatencyLimit,
    LoadPlan,
    Measurement,
    Probe,
    Progress,
    RequestPlan,
    Slo,
    Verdict,
)

__all__ = [
    "Answer",
    "Interval",
    "LatencyLimit",
    "LoadGenerator",
    "LoadPlan",
    "LoadTestError",
    "Measurement",
    "Probe",
    "Progress",
    "RequestPlan",
    "Slo",
    "Verdict",
]
