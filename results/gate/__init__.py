"""The gate for CI: has a service become worse than an earlier recommendation of it?

`decide` is the statistics; `output` writes what pipelines read. Measuring is the tuner's.
"""

from results.gate.decision import Comparison, GateDecision, GateMeasurement, Outcome, Setting, decide_gate
from results.gate.live import Expected, Live, LiveStep, Verification, expected_curve, verified
from results.gate.output import gate_document, gate_junit, gate_markdown, gate_text, github_annotations, write_gate

__all__ = [
    "Comparison",
    "Expected",
    "GateDecision",
    "GateMeasurement",
    "Live",
    "LiveStep",
    "Outcome",
    "Setting",
    "Verification",
    "decide_gate",
    "expected_curve",
    "gate_document",
    "gate_junit",
    "gate_markdown",
    "gate_text",
    "github_annotations",
    "verified",
    "write_gate",
]
