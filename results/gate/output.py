"""The gate's decision for people and pipelines: as text, Markdown, JUnit XML, JSON and GitHub's annotations."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from results.files import write_text
from results.gate.decision import Comparison, GateDecision, Setting
from results.text import NONE, energy, figure, goodput, markdown, milliseconds, money, visible

_NAMES = {
    "capacity_qps": "requests/s within the SLO",
    "cost_per_million_requests": "cost per million requests",
}
_HEADS = {
    "passed": "passed", "regressed": "failed: it has become worse", "undecided": "undecided",
    "inconclusive": "inconclusive: the noise hides a change of the size that matters",
}  # fmt: skip

Named = Callable[[str], str]

_SAME_SPEED = 0.03  # in logs: less is not worth a word


def write_gate(folder: Path, service: str, decision: GateDecision, setting: Setting, named: Named = str) -> None:
    """`gate.json`, `gate.md`, `junit.xml`. Raises OSError when they cannot be written. `named` says an advice with
    arguments as the reader knows them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "gate.json", json.dumps(gate_document(service, decision, setting), indent=2) + "\n")
    write_text(folder / "gate.md", gate_markdown(service, decision, setting, named))
    write_text(folder / "junit.xml", gate_junit(service, decision))


def gate_text(service: str, decision: GateDecision, named: Named = str) -> str:
    """A line per metric under the verdict."""
    lines = [_head(service, decision)]
    lines += [f"  {_line(one, decision.currency)}" for one in decision.findings]
    lines += [f"  {_good(decision)}"] if decision.goodput else []
    lines += [f"  {_energy(decision)}"] if decision.energy else []
    lines += [f"  {_machine(decision)}"] if _machine(decision) else []
    lines += [f"  {visible(decision.moved)}"] if decision.moved else []
    reason = decision.reason or named(_surer(decision))
    return "\n".join([*lines, *([f"  {visible(reason)}"] if reason else [])])


def _head(service: str, decision: GateDecision) -> str:
    return f"gate {_HEADS[decision.outcome]}: {visible(service)}"


def _machine(decision: GateDecision) -> str:
    """What the machine's own speed did; empty where it was the baseline's, or not timed."""
    machine = decision.machine
    if machine is None or abs(math.log(machine.speed)) < _SAME_SPEED:
        return ""
    doubt = 100 * math.expm1(1.96 * machine.doubt)
    return (
        f"The machine ran at {machine.speed:.0%} of the speed that it had for the baseline. Capacity and cost are "
        f"compared as they would be at that speed (measured: {figure(machine.measured_qps)} requests/s), give or take "
        f"{doubt:.2g}%."
    )


def _surer(decision: GateDecision) -> str:
    """What to do where the noise hides too much; empty where it does not."""
    if decision.outcome != "inconclusive":
        return ""
    again = "`measure` launches it again, up to four times. " if decision.measurements == 1 else ""
    return f"To be surer: {again}A quieter machine, a longer load.max_trial or a larger change (`detect`) helps."


def gate_document(service: str, decision: GateDecision, setting: Setting) -> dict[str, Any]:
    """Changes are relative: 0.1 is a tenth more."""
    return {
        "schema": 1,
        "service": service,
        "outcome": decision.outcome,
        "reason": decision.reason,
        "moved": decision.moved,
        "currency": decision.currency,
        "measurements": decision.measurements,
        "false_alarm_rate": setting.false_alarms,
        "detects": setting.detect,
        "machine": None if decision.machine is None else decision.machine._asdict(),
        "goodput": [{"share": one.share, "of": one.of} for one in decision.goodput],
        "energy_per_million_output_tokens": list(decision.energy),
        "metrics": [
            {
                "metric": one.metric,
                "baseline": one.before,
                "measured": one.after,
                "change": {"value": one.change, "low": one.low, "high": one.high},
                "noise_floor": one.floor,
                "outcome": one.outcome,
            }
            for one in decision.findings
        ],
    }


def gate_markdown(service: str, decision: GateDecision, setting: Setting, named: Named = str) -> str:
    """For a pull request, and for GitHub's step summary."""
    lines = [f"## Performance gate {_HEADS[decision.outcome]}: {markdown(service)}", ""]
    if reason := decision.reason or named(_surer(decision)):
        lines += [markdown(reason), ""]
    if decision.findings:
        lines += ["| metric | baseline | now | change | 95% interval | |", "| --- | ---: | ---: | ---: | ---: | --- |"]
        lines += [f"| {' | '.join(_cells(one, decision.currency))} |" for one in decision.findings]
        floor = decision.findings[0].floor
        lines += [
            "",
            f"{decision.measurements} {'measurement' if decision.measurements == 1 else 'measurements'}; one is off by "
            f"{floor:.1%} (the noise floor). Where nothing has changed, at most {setting.false_alarms:.0%} of such "
            "gates fail.",
        ]
    if machine := _machine(decision):
        lines += ["", machine]
    if decision.moved:
        lines += ["", markdown(decision.moved)]
    if decision.goodput:
        lines += ["", f"{_good(decision)}."]
    if decision.energy:
        lines += ["", f"{_energy(decision)}."]
    return "\n".join(lines) + "\n"


def gate_junit(service: str, decision: GateDecision) -> str:
    """A test case per metric."""
    failures = [one for one in decision.findings if one.outcome == "regressed"]
    failed = len(failures) + (decision.outcome == "regressed" and not failures)
    suite = ET.Element(
        "testsuite", name=f"tune gate: {visible(service)}", tests=str(max(1, len(decision.findings))),
        failures=str(failed), errors="0",
    )  # fmt: skip
    for one in decision.findings:
        case = ET.SubElement(suite, "testcase", classname="tune.gate", name=one.metric)
        line = _line(one, decision.currency)
        if one.outcome == "regressed":
            ET.SubElement(case, "failure", message=line).text = line
        elif one.outcome == "inconclusive":
            ET.SubElement(case, "skipped", message=line)
    if decision.reason:
        case = ET.SubElement(suite, "testcase", classname="tune.gate", name="slo")
        if decision.outcome == "regressed":
            ET.SubElement(case, "failure", message=visible(decision.reason)).text = visible(decision.reason)
        elif decision.outcome == "inconclusive":
            ET.SubElement(case, "skipped", message=visible(decision.reason))
    ET.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def github_annotations(service: str, decision: GateDecision) -> Sequence[str]:
    """GitHub's workflow commands: an error for each metric that is worse; else a notice, or a warning where nothing
    could be told.
    """
    worse = [_line(one, decision.currency) for one in decision.findings if one.outcome == "regressed"]
    worse += [decision.reason] if decision.reason and decision.outcome == "regressed" else []
    mild = "warning" if decision.outcome == "inconclusive" else "notice"
    kind, texts = ("error", worse) if worse else (mild, [_head(service, decision)])
    return [f"::{kind} title=tune gate::{_command(visible(text))}" for text in texts]


def _good(decision: GateDecision) -> str:
    each = (goodput(*one) for one in decision.goodput)
    return "at the capacity, before and now: " + ", ".join(text for text in each if text)


def _energy(decision: GateDecision) -> str:
    return "energy of the GPUs, before and now: " + ", ".join(text for one in decision.energy if (text := energy(one)))


def _cells(one: Comparison, currency: str) -> tuple[str, ...]:
    between = NONE if one.low == one.high else f"{one.low:+.1%} to {one.high:+.1%}"
    return (
        _NAMES[one.metric] if one.percentile is None else f"{one.percentile.name} at that rate",
        _value(one, one.before, currency),
        _value(one, one.after, currency),
        _percent(one.change),
        between,
        f"**{_verdict(one)}**" if one.outcome == "regressed" else _verdict(one),
    )


def _line(one: Comparison, currency: str) -> str:
    name, before, after, change, between, _ = _cells(one, currency)
    sure = "" if between == NONE else f" ({between})"
    verdict = f", {_verdict(one)}" if _verdict(one) else ""
    return f"{name}: {after} after {before}, {change}{sure}{verdict}"


def _verdict(one: Comparison) -> str:
    """Nothing where it passed. The interval is of one comparison alone, so what lies in it need not be sure enough."""
    if one.outcome != "inconclusive":
        return {"passed": "", "regressed": "worse", "undecided": "not sure"}[one.outcome]
    return (
        f"cannot tell: {one.matters:+.1%} is not ruled out, and worse is only what lies beyond "
        f"{one.fails_beyond:+.1%}, since all looks and metrics share the false alarms"
    )


def _percent(change: float) -> str:
    return "the same" if abs(change) < 0.0005 else f"{change:+.1%}"


def _value(one: Comparison, value: float, currency: str) -> str:
    if one.metric == "cost_per_million_requests":
        return money(value, currency)
    return figure(value) if one.percentile is None else milliseconds(value)


def _command(text: str) -> str:
    """A workflow command, escaped as GitHub wants it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
