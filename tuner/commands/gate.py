"""`tune gate DIR --baseline FILE`: has the service become worse than it was recommended as?"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import click

from results import Recommendation, ResultsError, StudySummary, read_recommendation
from results.gate import (
    GateDecision,
    GateMeasurement,
    Setting,
    decide_gate,
    gate_document,
    gate_markdown,
    gate_text,
    github_annotations,
    write_gate,
)
from results.percentiles import P99, Percentile, standing_percentile
from results.text import assigned, visible
from runners import ReplayRunner, RunnerUnavailable
from search_spaces import Configuration
from search_spaces.reading import quoted
from tuner.commands.options.stored import read_study
from tuner.display import make_display
from tuner.errors import ExitCode, UnfitEnvironmentError, UsageError, with_options
from tuner.launch.checks.before_launch import check
from tuner.launch.render import resources
from tuner.launch.runner import make_runner
from tuner.search.objective import undecided
from tuner.spec.limited import limited_percentiles
from tuner.spec.reading import LoadedSpec, load_spec
from tuner.study.opening import has_prices, request_sources, trial_setup
from tuner.study.remeasure import GateRun


@dataclass(frozen=True)
class GateOptions:
    """The command line of the gate."""

    folder: Path
    baseline: Path
    measure: bool = False
    service: Path | None = None
    runner: str | None = None
    false_alarms: float = 0.05
    detect: float = 0.10
    output: Path | None = None
    seed: int = 0
    as_json: bool = False
    storage: str | None = None
    study: str | None = None


def gate(options: GateOptions) -> ExitCode:
    """Raises UsageError for a baseline that is none, UnfitEnvironmentError where nothing can be launched."""
    try:
        before = read_recommendation(options.baseline)
    except ResultsError as error:
        raise UsageError(f"--baseline: {error}") from error
    if GateMeasurement.of(before) is None or before.configuration is None:
        raise UsageError(
            f"--baseline {options.baseline} recommends nothing: no configuration held the SLO then\n"
            "Name the recommendation.json of a run that found one."
        )
    if options.detect >= 1:
        raise UsageError("--detect must be below 100%: a capacity cannot fall by more")
    if options.runner is not None and options.service is None and not options.measure:
        raise UsageError("--runner launches nothing by itself: add --measure, or name a spec with --service")
    folder = options.output or options.folder / "gate"
    setting = Setting(options.false_alarms, options.detect)
    if options.service is not None or options.measure:
        decision = _measured(options, before, setting, folder)
    else:
        decision = _finished(options, before, setting)
    write_gate(folder, before.service, decision, setting, with_options)
    _tell(options, before.service, decision, setting, folder)
    return {"regressed": ExitCode.GATE_FAILED, "inconclusive": ExitCode.GATE_INCONCLUSIVE}.get(
        decision.outcome, ExitCode.DONE
    )


def _finished(options: GateOptions, before: Recommendation, setting: Setting) -> GateDecision:
    """Decide from what a run has already found: one measurement, and one look."""
    summary, loaded = read_study(options.folder, options.storage, options.study)
    _same_service(before, loaded)
    percentile = _percentile(before, loaded)
    baseline, found = (GateMeasurement.of(one, percentile) for one in (before, summary.recommendation))
    if found is None or baseline is None:
        return decide_on_nothing(summary)
    once = replace(setting, looks=1, percentile=percentile)
    decision = decide_gate(baseline, [found], once, last=True, pairs=_pairs(summary))
    refuse_generators_limit(summary, decision)
    return replace(decision, currency=loaded.spec.prices.currency, moved=_moved(before, summary.recommendation))


def decide_on_nothing(summary: StudySummary) -> GateDecision:
    """Of a run that recommends nothing: worse only where trials have shown that."""
    if any(not undecided(summary.latest(one)) for one in summary.records):
        return GateDecision("regressed", (), 1, "no configuration holds the SLO any more")
    said = "its trials were too short to tell" if summary.records else "it has no finished trial"
    return GateDecision("inconclusive", (), 0, f"the run has shown nothing yet: {said}")


def refuse_generators_limit(summary: StudySummary, decision: GateDecision) -> None:
    """Raises UnfitEnvironmentError where the capacity is worse, and the load generator was what held it back."""
    number = summary.recommendation.trial
    recommended = next((summary.latest(one) for one in summary.records if one.number == number), None)
    capacity = decision.findings[0]
    if capacity.outcome != "regressed" or recommended is None or recommended.bottleneck != "client":
        return
    raise UnfitEnvironmentError(
        "the load generator did not get as far as the baseline: it was the limit of what the run recommends\n"
        "Run where nothing else runs, or give the generator more processes (load.workers)."
    )


def _percentile(before: Recommendation, loaded: LoadedSpec) -> Percentile:
    """What is compared of the latency: what the SLO limits, where the baseline has it (a table's has the p99 alone)."""
    found = standing_percentile(limited_percentiles(loaded))
    return P99 if found.of(before) is None else found


def _moved(before: Recommendation, now: Recommendation) -> str | None:
    """Where two configurations are compared, and not one with itself."""
    if before.configuration is None or now.configuration is None or before.configuration == now.configuration:
        return None
    was, found = assigned(before.configuration), assigned(now.configuration)
    return f"The run recommends {found}, and the baseline is of {was}: each figure is of its own."


def _measured(options: GateOptions, before: Recommendation, setting: Setting, folder: Path) -> GateDecision:
    """Decide from fresh launches of the configuration that was recommended."""
    loaded, configuration, pairs = _what(options, before)
    loaded = loaded.with_runner(options.runner)
    runner = make_runner(loaded)
    check(loaded, table_has_prices=has_prices(runner))
    if isinstance(runner, ReplayRunner) and not runner.has(configuration):
        raise UsageError(f"runner.table: no row is of the baseline's configuration ({assigned(configuration)})")
    for one in loaded.services:
        if refusal := runner.refuses(resources(one.loaded.space, one.own(configuration))):
            raise UnfitEnvironmentError(
                f"the baseline's configuration ({assigned(configuration)}) cannot run here: it {refusal}\n"
                "Run the gate on a machine like the baseline's."
            )
    sources = request_sources(loaded)
    setting = replace(setting, percentile=_percentile(before, loaded))
    baseline = GateMeasurement.of(before, setting.percentile)
    assert baseline is not None  # noqa: S101 (it has a capacity)
    display = make_display(
        as_json=options.as_json, currency=loaded.spec.prices.currency, limited=limited_percentiles(loaded)
    )
    try:
        for leftover in runner.remove_leftovers():
            display.notice(f"removed what a crashed run left: {leftover}")
        setup = trial_setup(loaded, sources, runner, folder, options.seed, fresh=True)
        decision = GateRun(setup, configuration, baseline, setting, display, pairs).measure_and_decide()
        return replace(decision, currency=loaded.spec.prices.currency)
    except RunnerUnavailable as error:
        raise UnfitEnvironmentError(str(error)) from error
    finally:
        display.close()
        runner.close()


def _what(
    options: GateOptions, before: Recommendation
) -> tuple[LoadedSpec, Configuration, tuple[tuple[float, float], ...]]:
    """The spec, the configuration, and what is known of the noise."""
    pairs: tuple[tuple[float, float], ...] = ()
    if options.service is not None:
        loaded = load_spec(options.service)
    else:
        summary, loaded = read_study(options.folder, options.storage, options.study)
        pairs = _pairs(summary)
    _same_service(before, loaded)
    configuration = before.configuration or {}
    if set(configuration) != set(loaded.space.names):
        raise UsageError(
            f"the baseline's parameters ({', '.join(configuration)}) are not those of the spec "
            f"({', '.join(loaded.space.names)})\nMake a new baseline: run tune on the spec as it is now."
        )
    return loaded, configuration, pairs


def _pairs(summary: StudySummary) -> tuple[tuple[float, float], ...]:
    """Capacities that were measured twice."""
    firsts = {one.number: one.capacity_qps for one in summary.records}
    return tuple(
        (first.value, confirmation.capacity_qps.value)
        for number, launches in summary.launches.confirmations.items()
        for confirmation in launches
        if (first := firsts.get(number)) is not None and confirmation.capacity_qps is not None
    )


def _same_service(before: Recommendation, loaded: LoadedSpec) -> None:
    """Another service's figures, those of another SLO, and amounts of another currency, compare with nothing here."""
    name, currency = loaded.spec.service.name, loaded.spec.prices.currency
    if before.service != name:
        raise UsageError(f"the baseline is of {before.service}, not of {name}; name that service's own baseline")
    if before.slo is not None and sorted(before.slo) != sorted(loaded.slo_texts):
        was, now = (" and ".join(map(visible, texts)) or "the table's" for texts in (before.slo, loaded.slo_texts))
        raise UsageError(
            f"the baseline held its rate within another SLO: {was}, and here it is {now}\n"
            "Make a new baseline: run tune with the SLO as it is now."
        )
    if before.cost_per_hour is not None and before.currency not in (None, currency):
        raise UsageError(
            f"the baseline's prices are in {quoted(before.currency)}, those of {name} in {currency}\n"
            "Make a new baseline: run tune with the prices as they are now."
        )


def _tell(options: GateOptions, service: str, decision: GateDecision, setting: Setting, folder: Path) -> None:
    if options.as_json:
        click.echo(json.dumps(gate_document(service, decision, setting), indent=2))
    else:
        click.echo(gate_text(service, decision, with_options))
        click.echo(f"  files: {folder} (gate.json, gate.md, junit.xml)")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(gate_markdown(service, decision, setting, with_options))
        except OSError as error:  # the decision stands in files of its own
            click.echo(f"tune: GITHUB_STEP_SUMMARY cannot be written: {error}", err=True)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(service, decision):
            click.echo(line, err=options.as_json)
