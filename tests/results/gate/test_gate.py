"""The gate: silent where nothing has changed, loud where it has; what it writes is what pipelines read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from results import Estimate, MachineEffect, TrialRecord
from results.gate import (
    GateDecision,
    GateMeasurement,
    Setting,
    decide_gate,
    gate_markdown,
    github_annotations,
    write_gate,
)
from results.gate.output import gate_junit, gate_text
from results.machine import TimedWork
from results.percentiles import Percentile

OWN = 0.015  # what a measurement's interval says of its own error


def measurement(capacity: float, p99_ms: float = 48.0, price: float = 0.1, own: float = OWN) -> GateMeasurement:
    spread = float(np.exp(1.96 * own))
    return GateMeasurement(
        Estimate(value=capacity, low=capacity / spread, high=capacity * spread), Estimate.exactly(p99_ms), price
    )


def of_trial(p95_ms: float, p99_ms: float, percentile: Percentile) -> GateMeasurement:
    found = TrialRecord.model_validate(
        {"number": 0, "state": "complete", "configuration": {}, "capacity_qps": {"value": 100, "low": 99, "high": 101},
         "p95_ms": p95_ms, "p99_ms": {"value": p99_ms, "low": p99_ms, "high": p99_ms}, "cost_per_hour": 0.1}
    )  # fmt: skip
    measured = GateMeasurement.of(found, percentile)
    assert measured is not None
    return measured


@pytest.mark.parametrize(("percent", "regressed"), [(95, False), (99, True)])
def test_the_percentile_that_the_slo_limits_is_compared_and_no_other(
    tmp_path: Path, percent: float, *, regressed: bool
) -> None:
    """The p99 has doubled, the p95 is what it was."""
    compared = Percentile("latency", percent)
    setting = Setting(percentile=compared)
    now = [of_trial(31, 100, compared), of_trial(29, 98, compared)]
    found = decide_gate(of_trial(30, 48, compared), now, setting, last=True)
    assert (found.outcome == "regressed") == regressed
    [latency] = [one for one in found.findings if one.percentile is not None]
    assert latency.metric == f"p{percent}_ms"
    write_gate(tmp_path, "s", found, setting)
    assert f"p{percent}_ms" in [one["metric"] for one in json.loads((tmp_path / "gate.json").read_text())["metrics"]]
    assert f"p{percent} at that rate" in gate_text("s", found)
    assert f"| p{percent} at that rate |" in gate_markdown("s", found, setting)
    assert f'name="p{percent}_ms"' in gate_junit("s", found)


def gates(change: float, noise: float, count: int, own: float = 0.01) -> list[GateDecision]:
    """`own` is the error that the baseline's interval tells."""
    generator = np.random.default_rng(1)
    setting, found = Setting(), []
    for _ in range(count):
        baseline, measured = measurement(100 * np.exp(generator.normal(0, noise)), own=own), []
        for number in range(1, setting.looks + 2):
            measured.append(measurement(100 * change * np.exp(generator.normal(0, noise))))
            if number > 1:
                decision = decide_gate(baseline, measured, setting, last=number == setting.looks + 1)
                if decision.outcome != "undecided":
                    break
        found.append(decision)
    return found


@pytest.mark.parametrize("noise", [0.005, 0.015, 0.025])
def test_false_alarms_are_as_rare_as_stated(noise: float) -> None:
    alarms = sum(one.outcome == "regressed" for one in gates(1.0, noise, 400))
    assert alarms <= 0.05 * 400


def test_a_tenth_less_is_caught_early() -> None:
    found = gates(0.9, 0.015, 200)
    assert sum(one.outcome == "regressed" for one in found) >= 0.95 * 200
    assert np.median([one.measurements for one in found]) == 2


def test_a_new_price_that_the_noise_hides_is_not_passed() -> None:
    """The capacity is what it was, and the price 9% more."""
    now = [measurement(100, price=0.109)] * 4
    pairs = ((100, 108), (100, 93), (100, 106))
    found = decide_gate(measurement(100), now, Setting(), last=True, pairs=pairs)
    capacity, cost = found.findings[:2]
    assert (capacity.outcome, cost.outcome, found.outcome) == ("passed", "inconclusive", "inconclusive")
    same = [measurement(100) for _ in now]
    assert decide_gate(measurement(100), same, Setting(), last=True, pairs=pairs).outcome == "passed"


def test_more_is_no_regression() -> None:
    assert all(one.outcome == "passed" for one in gates(1.2, 0.015, 50))


def test_what_looks_worse_and_is_not_sure_enough_says_why() -> None:
    noisy = [measurement(capacity) for capacity in (26, 68, 38)]
    found = decide_gate(measurement(100), noisy, Setting(), last=True)
    one = found.findings[0]
    assert found.outcome == one.outcome == "inconclusive"
    assert one.high < 0
    assert one.fails_beyond < one.change < one.matters == pytest.approx(-0.1)
    said = f"cannot tell: -10.0% is not ruled out, and worse is only what lies beyond {one.fails_beyond:+.1%}, since"
    assert said in gate_text("s", found)
    assert said in gate_markdown("s", found, Setting())
    assert decide_gate(measurement(100), noisy[:1] * 3, Setting(), last=True).findings[0].outcome == "regressed"


def on_machines(sensitivity: float, doubt: float, slower: float, capacity: float) -> GateDecision:
    """The baseline held 100 requests/s where fixed work took 3 ms; now it takes `slower` times that."""
    effect = MachineEffect(work_ms=3.0, sensitivity=sensitivity, doubt=doubt)
    baseline = replace(measurement(100), work=TimedWork(np.log(3.0), 0.0), machine=effect)
    now = [
        replace(measurement(capacity * share), work=TimedWork(np.log(3.0 * slower), 0.02))
        for share in (0.99, 1.0, 1.01)
    ]
    return decide_gate(baseline, now, Setting(), last=True)


@pytest.mark.parametrize(
    ("sensitivity", "doubt", "slower", "capacity", "outcome"),
    [
        (1.0, 0.05, 1.25, 80, "passed"),  # the machine's doing, as the tuning run knows
        (1.0, 0.05, 0.8, 100, "regressed"),  # a faster machine hides nothing
        (0.0, 0.05, 1.25, 80, "regressed"),  # a server that waits for a GPU does not feel it
        (0.5, 0.5, 1.25, 80, "inconclusive"),  # nobody knows
        (0.5, 0.5, 1.01, 80, "regressed"),  # nor need to, on one machine
        (0.5, 0.5, 1.01, 100, "passed"),
    ],
)
def test_a_machine_that_is_slower_today_is_no_regression_of_the_service(
    sensitivity: float, doubt: float, slower: float, capacity: float, outcome: str
) -> None:
    found = on_machines(sensitivity, doubt, slower, capacity)
    assert found.outcome == outcome
    said = f"The machine ran at {1 / slower:.0%} of the speed that it had for the baseline."
    assert (said in gate_text("s", found)) == (slower != 1.01)
    assert (said in gate_markdown("s", found, Setting())) == (slower != 1.01)


def test_one_launch_that_could_not_be_timed_leaves_the_others_say() -> None:
    effect = MachineEffect(work_ms=3.0, sensitivity=1.0, doubt=0.05)
    baseline = replace(measurement(100), work=TimedWork(np.log(3.0), 0.0), machine=effect)
    timed = replace(measurement(80), work=TimedWork(np.log(3.75), 0.02))
    found = decide_gate(baseline, [timed, timed, measurement(80)], Setting(), last=True)
    assert found.outcome == "passed"
    assert "(measured: 80.0 requests/s)" in gate_text("s", found)


@pytest.mark.parametrize("work_ms", [0.4, 1.0, 3.0])
def test_a_run_is_its_own_baseline_however_fast_the_machine(work_ms: float) -> None:
    effect = MachineEffect(work_ms=work_ms, sensitivity=1.0, doubt=0.1)
    same = replace(measurement(100), work=TimedWork(np.log(work_ms), 0.0), machine=effect)
    found = decide_gate(same, [same], Setting(looks=1), last=True)
    assert found.outcome == "passed"
    assert found.machine is not None
    assert found.machine.speed == 1


def test_what_the_timing_does_not_explain_costs_the_gate_nothing() -> None:
    effect = MachineEffect(work_ms=3.0, sensitivity=0.5, doubt=0.5)
    baseline = replace(measurement(100), work=TimedWork(np.log(3.0), 0.0), machine=effect)
    now = [replace(measurement(97), work=TimedWork(np.log(3.1), 0.08))] * 3
    timed, untimed = (decide_gate(one, now, Setting(), last=True) for one in (baseline, measurement(100)))
    assert timed.findings == untimed.findings


def test_a_baseline_of_a_machine_that_was_not_timed_is_compared_as_measured() -> None:
    now = [replace(measurement(80), work=TimedWork(np.log(5.0), 0.02))] * 3
    found = decide_gate(measurement(100), now, Setting(), last=True)
    assert found.outcome == "regressed"
    assert found.machine is None


@pytest.mark.parametrize("broken", [{"work_ms": 0}, {"sensitivity": 1e6}, {"doubt": -1}])
def test_a_baseline_whose_machine_cannot_be_is_refused(broken: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(broken))):
        MachineEffect.model_validate({"work_ms": 3.0, "sensitivity": 1.0, "doubt": 0.1} | broken)


def test_a_higher_price_fails_though_the_capacity_is_the_same() -> None:
    found = decide_gate(measurement(100), [measurement(100, price=0.12)] * 2, Setting(), last=True)
    assert found.outcome == "regressed"
    assert {one.metric: one.outcome for one in found.findings}["capacity_qps"] == "passed"


def test_a_much_higher_p99_fails() -> None:
    found = decide_gate(measurement(100, p99_ms=20), [measurement(100, p99_ms=45)] * 3, Setting(), last=True)
    assert {one.metric: one.outcome for one in found.findings}["p99_ms"] == "regressed"


def test_what_the_noise_hides_is_inconclusive_and_no_pass() -> None:
    hidden = gates(1.0, 0.15, 20, own=0.12)  # as a recommendation of several launches says it
    assert sum(one.outcome == "inconclusive" for one in hidden) >= 19
    seen = gates(1.0, 0.01, 100)
    assert sum(one.outcome == "passed" for one in seen) >= 95


def test_inconclusive_is_said_where_pipelines_read(tmp_path: Path) -> None:
    shown = [measurement(60), measurement(100), measurement(150)]
    found = decide_gate(measurement(100), shown, Setting(), last=True)
    assert found.outcome == "inconclusive"
    write_gate(tmp_path, "s", found, Setting())
    suite = ET.fromstring((tmp_path / "junit.xml").read_text(encoding="utf-8"))
    assert suite.attrib["failures"] == "0"
    assert next(iter(suite)).find("skipped") is not None
    assert "inconclusive" in (tmp_path / "gate.md").read_text(encoding="utf-8")
    assert github_annotations("s", found)[0].startswith("::warning")


def test_what_is_inconclusive_says_what_would_make_it_surer() -> None:
    once = decide_gate(measurement(100), [measurement(85, own=0.1)], Setting(looks=1), last=True)
    assert once.outcome == "inconclusive"
    assert "To be surer: `measure` launches it again, up to four times. A quieter machine" in gate_text("s", once)
    passed = decide_gate(measurement(100), [measurement(101)] * 2, Setting(), last=True)
    assert "To be surer" not in gate_text("s", passed)


def test_what_was_too_short_to_tell_is_no_passed_test() -> None:
    suite = ET.fromstring(gate_junit("s", GateDecision("inconclusive", (), 1, "too short to tell")))
    skipped = next(iter(suite)).find("skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == "too short to tell"


def test_recorded_tables_are_exact() -> None:
    exact = measurement(100, own=0.0)
    assert decide_gate(exact, [measurement(100, own=0.0)], Setting(looks=1), last=True).outcome == "passed"
    assert decide_gate(exact, [measurement(99, own=0.0)], Setting(looks=1), last=True).outcome == "regressed"


def test_what_pipelines_read(tmp_path: Path) -> None:
    setting = Setting()
    bad = decide_gate(measurement(100), [measurement(80)] * 2, setting, last=True)
    write_gate(tmp_path, "a<b", bad, setting)
    suite = ET.fromstring((tmp_path / "junit.xml").read_text(encoding="utf-8"))
    assert suite.attrib["failures"] == "2"
    assert [case.attrib["name"] for case in suite if case.find("failure") is not None] == [
        "capacity_qps", "cost_per_million_requests"
    ]  # fmt: skip
    document = json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))
    assert document["outcome"] == "regressed"
    assert document["metrics"][0]["change"]["value"] == pytest.approx(-0.2)
    assert "**worse**" in gate_markdown("a|b", bad, setting)
    assert github_annotations("x", bad)[0].startswith("::error title=tune gate::requests/s within the SLO: 80.0")


def test_energy_is_shown_before_and_now(tmp_path: Path) -> None:
    before, now = (replace(measurement(100), energy_wh=one) for one in (97.2, 103.0))
    done = decide_gate(before, [now], Setting(), last=True)
    write_gate(tmp_path, "a", done, Setting())
    said = "energy of the GPUs, before and now: 97.2 Wh per million output tokens, 103 Wh per million output tokens"
    assert said in gate_text("a", done)
    assert f"{said}." in gate_markdown("a", done, Setting())
    document = json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))
    assert document["energy_per_million_output_tokens"] == [97.2, 103.0]


def test_hostile_text_is_text(tmp_path: Path) -> None:
    hostile = GateDecision("regressed", (), 1, "</failure><script>alert(1)</script>\x1b[31m%0A::error::x\n::warning::y")
    write_gate(tmp_path, "x", hostile, Setting())
    assert ET.fromstring((tmp_path / "junit.xml").read_text(encoding="utf-8")).attrib["failures"] == "1"
    assert "<script>" not in (tmp_path / "gate.md").read_text(encoding="utf-8").replace("\\<", "")
    [line] = github_annotations("x", hostile)
    assert "\n" not in line
    assert "%250A" in line
