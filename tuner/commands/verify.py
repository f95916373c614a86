"""`tune verify DIR --prometheus URL`: does a deployment do what its recommendation was measured to do?"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from results import Estimate, StudySummary
from results.files import write_text
from results.gate import Expected, LiveStep, Setting, Verification, expected_curve, verified
from results.percentiles import P99, Percentile, standing_percentile
from results.text import figure, milliseconds, share, visible
from results.trial_parts import ProbeRecord
from tuner.commands.options.stored import read_study
from tuner.errors import ExitCode, UsageError, with_options
from tuner.outcome.prometheus import Prometheus, Series
from tuner.spec.limited import limited_percentiles
from tuner.spec.reading import LoadedSpec

_METRIC = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)\s*(\{.*\})?", re.DOTALL)
_MAX_END_S = 1e11  # the year 5138
_MIN_STEP_S = 1.0
_OUTCOMES = {"holds": ExitCode.DONE, "slower": ExitCode.GATE_FAILED, "inconclusive": ExitCode.GATE_INCONCLUSIVE}


@dataclass(frozen=True)
class Window:
    """How much of the past is looked at, in stretches of `step_s`, until `end_s` (seconds since 1970)."""

    length_s: float
    step_s: float
    end_s: float


@dataclass(frozen=True)
class VerifyOptions:
    """The command line of `verify`."""

    folder: Path
    prometheus: str
    metric: str | None
    rate: str | None
    p99: str | None
    replicas: str
    window: Window
    setting: Setting
    output: Path | None
    as_json: bool
    storage: str | None
    study: str | None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> VerifyOptions:
        """Made from the options as the command line parsed them. Raises UsageError."""
        rest = dict(options)
        end_s = time.time() if (given := rest.pop("end")) is None else given
        if not 0 < end_s < _MAX_END_S:
            raise UsageError(f"--end {end_s:g}: seconds since 1970, such as 1767225600")
        window = Window(rest.pop("length"), rest.pop("step"), end_s)
        return cls(window=window, setting=Setting(rest.pop("false_alarms"), rest.pop("detect"), looks=1), **rest)


@dataclass(frozen=True)
class Queries:
    """PromQL of a deployment's rate, of its latency's percentile, and of the bounds of its histogram (None: there is
    none).
    """

    rate: str
    latency: str
    buckets: str | None
    to_ms: float
    percentile: Percentile = P99


def verify(options: VerifyOptions) -> ExitCode:
    """Raises UsageError for queries that give nothing, UnfitEnvironmentError where no Prometheus answers."""
    summary, loaded = read_study(options.folder, options.storage, options.study)
    if loaded.colocated:
        raise UsageError("verify compares one service's latency curve; several services have one each, together")
    queries = queries_of(options, _limited(loaded))
    server = Prometheus(options.prometheus)
    probes, capacity = _measured(summary, queries.percentile)
    bounds = [] if queries.buckets is None else list(bounds_of(server, queries, options.window.end_s))
    expected = _expected(summary, probes, capacity, queries.percentile, bounds)
    steps = live_steps(server, queries, options)
    limit_ms, setting = _limit_ms(loaded, queries.percentile), replace(options.setting, percentile=queries.percentile)
    found = verified(steps, expected, capacity, limit_ms, setting)
    folder = options.output or options.folder / "verify"
    folder.mkdir(parents=True, exist_ok=True)
    document = verify_document(summary.service, found, queries.percentile)
    write_text(folder / "verify.json", json.dumps(document, indent=2) + "\n")
    lines = _lines(summary.service, found, limit_ms, queries.percentile)
    click.echo(json.dumps(document, indent=2) if options.as_json else "\n".join(lines))
    return _OUTCOMES[found.outcome]


def _limited(loaded: LoadedSpec) -> Percentile:
    """The percentile of the whole answer's latency that is compared: what the SLO limits of it, or else the p99."""
    return standing_percentile([one for one in limited_percentiles(loaded) if one.metric == "latency"])


def _limit_ms(loaded: LoadedSpec, percentile: Percentile) -> float | None:
    limits = loaded.spec.slo.limits if loaded.spec.slo else ()
    same = (1e3 * one.limit_s for one in limits if (one.metric, one.percentile) == ("latency", percentile.percent))
    return min(same, default=None)


def queries_of(options: VerifyOptions, percentile: Percentile = P99) -> Queries:
    """The queries that are given, or else those of the metric, for that percentile; a query of the p99 that is given
    asks for no other. Raises UsageError if there is neither.
    """
    if options.metric is None and not (options.rate and options.p99):
        raise UsageError(
            "which metric? --metric NAME{labels}, the histogram of the deployment's latencies, as in\n"
            "--metric 'http_request_duration_seconds{service=\"embedder\"}', or --rate QUERY and --p99 QUERY"
        )
    window = f"[{options.window.step_s:g}s]"
    if options.metric is None:
        return Queries(options.rate or "", options.p99 or "", None, 1e3)
    parts = _METRIC.fullmatch(options.metric.strip())
    if parts is None:
        raise UsageError(f'--metric {visible(options.metric)} is not NAME or NAME{{label="value"}}')
    name, labels, share_ = parts[1].removesuffix("_bucket"), parts[2] or "", percentile.percent / 100
    return Queries(
        options.rate or f"sum(rate({name}_count{labels}{window}))",
        options.p99 or f"histogram_quantile({share_:g}, sum by (le) (rate({name}_bucket{labels}{window})))",
        None if options.p99 else f"group by (le) ({name}_bucket{labels})",
        1.0 if name.endswith(("_ms", "_milliseconds")) and not options.p99 else 1e3,  # a query's p99 is in seconds
        P99 if options.p99 else percentile,
    )


def bounds_of(server: Prometheus, queries: Queries, at_s: float) -> Iterator[float]:
    """The histogram's upper bounds in milliseconds."""
    for text in server.labels(queries.buckets or "", "le", at_s):
        with contextlib.suppress(ValueError):
            if math.isfinite(bound := float(text)):
                yield bound * queries.to_ms


def _measured(summary: StudySummary, percentile: Percentile) -> tuple[Sequence[ProbeRecord], Estimate]:
    """The recommendation's probes and its capacity. Raises UsageError, before Prometheus is asked for anything."""
    best = summary.recommendation
    if best.trial is None or best.capacity_qps is None:
        raise UsageError(best.trials.nothing_to("verify", summary.service))
    evidence = summary.evidence.get(best.trial)
    probes = () if evidence is None else evidence.probes
    _expected(summary, probes, best.capacity_qps, percentile)
    return probes, best.capacity_qps


def _expected(
    summary: StudySummary, probes: Sequence[ProbeRecord], capacity: Estimate, percentile: Percentile,
    bounds: Sequence[float] = (),
) -> Expected:  # fmt: skip
    found = expected_curve(probes, capacity, bounds, percentile)
    if found is None and percentile != P99 and expected_curve(probes, capacity) is not None:
        raise UsageError(
            f"{summary.service} has no {percentile.name} curve: the probes of its recommendation's trial have no "
            f"{percentile.name}\nAn earlier version stored them without it; run tune again, or compare the p99 with "
            "--rate QUERY and --p99 QUERY."
        )
    if found is None:
        raise UsageError(
            f"{summary.service} has no latency curve: the probes of its recommendation's trial are not stored\n"
            "A replayed table has none either; run tune on the real service."
        )
    return found


def live_steps(server: Prometheus, queries: Queries, options: VerifyOptions) -> list[LiveStep]:
    """Each stretch that has both a rate and a latency, of one replica; none where there was no traffic, which has none.
    Raises UsageError where there was some, and nothing to compare.
    """
    window = options.window
    if window.step_s < _MIN_STEP_S or window.length_s < 2 * window.step_s:
        raise UsageError(f"--step must be at least {_MIN_STEP_S:g} s, and --range several steps")
    start_s = window.end_s - window.length_s + window.step_s  # the first value looks a step back

    def asked(query: str) -> dict[float, float]:
        return _one(query, server.over_time(query, start_s, window.end_s, window.step_s))

    rates = asked(queries.rate)
    if not any(rate > 0 for rate in rates.values()):
        return []
    latencies = asked(queries.latency)
    replicas = _replicas(options.replicas, asked)
    found = []
    for at in sorted(rates.keys() & latencies.keys()):
        count = replicas if isinstance(replicas, float) else replicas.get(at, 0.0)
        if count > 0 and rates[at] > 0 and latencies[at] > 0:
            found.append(LiveStep(at, rates[at] / count, latencies[at] * queries.to_ms))
    if not found:
        raise UsageError(
            f"{visible(queries.rate)} gives traffic, and no moment of it has both a {queries.percentile.name} "
            f"({visible(queries.latency)}) and a replica (--replicas {visible(options.replicas)})"
        )
    return found


def _replicas(text: str, asked: Any) -> float | dict[float, float]:
    """How many share the traffic: a number, or a query."""
    with contextlib.suppress(ValueError):
        if not 1 <= (number := float(text)) < math.inf:
            raise UsageError(f"--replicas {text}: at least 1")
        return number
    found: dict[float, float] = asked(text)
    return found


def _one(query: str, series: list[Series]) -> dict[float, float]:
    known = [one for one in series if one.times_s]
    if len(known) != 1:
        advice = (
            "wrap it in sum(...)" if known else "is it scraped, and was there any traffic? See Prometheus' own page"
        )
        raise UsageError(f"{visible(query)} gives {len(known) or 'no'} series for that time; {advice}")
    if any(map(math.isinf, known[0].values)):  # left out, the slowest stretches would be forgiven
        raise UsageError(f"{visible(query)} gives infinite values, as above the highest bucket; mend it")
    pairs = zip(known[0].times_s, known[0].values, strict=True)
    return {at: value for at, value in pairs if math.isfinite(value)}


def verify_document(service: str, found: Verification, percentile: Percentile = P99) -> dict[str, Any]:
    """`verify.json`; changes are relative: 0.1 is a tenth more. `p99_ms` is None where another percentile is compared,
    which `latency_ms` is either way.
    """
    one, live = found.comparison, found.live
    compared = None if one is None else {
        "expected": one.before, "live": one.after,
        "change": {"value": one.change, "low": one.low, "high": one.high}, "noise_floor": one.floor,
    }  # fmt: skip
    return {
        "schema": 1,
        "service": service,
        "outcome": found.outcome,
        "reason": None if found.reason is None else with_options(found.reason),
        "percentile": percentile.percent,
        "latency_ms": compared,
        "p99_ms": compared if percentile == P99 else None,
        "traffic_per_replica": {
            **asdict(live), "capacity": live.capacity.model_dump(), "probed_qps": list(live.probed_qps),
        },
        "advice": [with_options(text) for text in found.advice],
    }  # fmt: skip


def _lines(service: str, found: Verification, limit_ms: float | None, percentile: Percentile) -> Iterator[str]:
    heads = {
        "holds": "holds: no slower than it was measured", "slower": "does not hold: it is slower than it was measured",
        "inconclusive": "cannot be told",
    }  # fmt: skip
    one, live = found.comparison, found.live
    yield f"{visible(service)} {heads[found.outcome]}"
    if one is not None:
        yield f"  {percentile.name:<15} {milliseconds(one.after)} where {milliseconds(one.before)} were measured"
        yield f"  change          {one.change:+.1%} ({one.low:+.1%} to {one.high:+.1%})"
    if found.reason:
        yield f"  reason          {visible(with_options(found.reason))}"
    if live.steps:
        used, peak = live.mean_qps / live.capacity.value, live.peak_qps / live.capacity.value
        yield f"  a replica got   {figure(live.mean_qps)} requests/s ({used:.0%} of its capacity)"
        yield f"  at the peak     {figure(live.peak_qps)} requests/s ({peak:.0%})"
        probed = " to ".join(map(figure, live.probed_qps))
        yield f"  compared        {live.compared} of {live.steps} stretches; {probed} requests/s were probed"
    if live.over_limit is not None and limit_ms is not None and live.steps:
        above = f"the {percentile.name} was above {milliseconds(limit_ms)}"
        yield f"  over the limit  {above} for {share(live.over_limit)} of the time"
    yield from (f"\n{with_options(text)}" for text in found.advice)
