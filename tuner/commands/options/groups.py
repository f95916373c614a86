"""The options of the commands that have many: the main job, `tune plan`, `tune gate` and `tune verify`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from tuner.commands.options.tracking import TRACKING_OPTIONS
from tuner.commands.options.types import MAX_SEED, PATH, RUNNERS, Budget, Change, Licence, Parsed, Rate, whichever_first

Function = TypeVar("Function", bound=Callable[..., Any])

_RUN_OPTIONS = (
    click.option(
        "--budget", type=Budget(), multiple=True, callback=whichever_first, show_default="auto",
        help="How many trials (20) or how much time (2h, 90m) to spend; give it twice for whichever comes first. auto: "
        "until another trial is not worth what it costs.",
    ),
    click.option(
        "--max-cost", type=Parsed("money"), metavar="MONEY",
        help="The most that the machines may cost, at the spec's prices.",
    ),
    click.option("--output", type=PATH, metavar="DIR", help="Where results go.  [default: tuning/SERVICE]"),
    click.option(
        "--storage", metavar="URL", envvar="TUNE_STORAGE", show_envvar=True,
        help="Optuna storage.  [default: SQLite, study.db in the output folder]",
    ),
    click.option("--runner", type=RUNNERS, help="Where servers run, instead of what the spec says."),
    click.option(
        "--parallel", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N",
        help="How many trials to run at once. Each waits for cores of its own, or for room in the cluster.",
    ),
    click.option(
        "--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True, help="Makes the search repeatable."
    ),
    click.option("--resume", is_flag=True, help="Continue the study of an interrupted run."),
    click.option(
        "--warm-start", type=PATH, multiple=True, metavar="DIR|FILE",
        help="Learn from an earlier run's folder, or from results of other tools: Model Analyzer, GuideLLM, AIPerf, "
        "vLLM, SGLang, inference-perf, llm-d, AIConfigurator. May be repeated.",
    ),
    click.option(
        "--json", "as_json", is_flag=True,
        help="Print the recommendation as JSON to standard output, and events to standard error.",
    ),
    click.option(
        "--metrics-port", type=click.IntRange(1, 65535), metavar="PORT",
        help="Serve metrics of the run for Prometheus, on --metrics-host.",
    ),
    click.option(
        "--metrics-host", default="127.0.0.1", show_default=True, metavar="HOST",
        help="Where to serve metrics; in a container 0.0.0.0, so that Prometheus can read them.",
    ),
)  # fmt: skip

_STUDY_OPTIONS = (
    click.option("--storage", metavar="URL", help="Where the study is kept.  [default: DIR/study.db]"),
    click.option("--study", metavar="NAME", help="Which study there, by its service's name.  [default: the only one]"),
)

_VERIFY_OPTIONS = (
    click.option("--prometheus", required=True, metavar="URL", help="The Prometheus with the deployment's metrics."),
    click.option("--metric", metavar="NAME{LABELS}", help="The histogram of the deployment's latencies."),
    click.option("--rate", metavar="QUERY", help="PromQL for its requests/s.  [default: from the metric]"),
    click.option("--p99", metavar="QUERY", help="PromQL for its p99 in seconds.  [default: from the metric]"),
    click.option(
        "--replicas", default="1", show_default=True, metavar="N|QUERY", help="How many replicas share the traffic."
    ),
    click.option(
        "--range", "length", type=Parsed("duration"), default="1h", show_default=True, metavar="TIME",
        help="How much of the past to look at.",
    ),
    click.option(
        "--step", type=Parsed("duration"), default="60s", show_default=True, metavar="TIME",
        help="Length of the stretches that are compared: at least two scrapes.",
    ),
    click.option("--end", type=float, metavar="SECONDS", help="Until when, in seconds since 1970.  [default: now]"),
    click.option(
        "--false-alarms", type=Parsed("share"), default="2%", show_default=True, metavar="SHARE",
        help="How many deployments that hold may be called slower.",
    ),
    click.option(
        "--detect", type=Change(), default="15%", show_default=True, metavar="SHARE",
        help="The change of the latency that matters.",
    ),
    click.option("--output", type=PATH, metavar="DIR", help="Where verify.json goes.  [default: DIR/verify]"),
    click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON to standard output."),
    *_STUDY_OPTIONS,
)  # fmt: skip


_PLAN_OPTIONS = (
    click.option("--qps", type=Rate(), metavar="N", help="Requests/s at the peak."),
    click.option(
        "--traffic", metavar="CSV|prometheus:URL",
        help="Recorded traffic: a CSV file with `time` and `rate`, or prometheus:URL?query=...; --qps scales its peak.",
    ),
    click.option(
        "--pattern", type=click.Choice(["steady", "daily", "burst", "periodic"]), default="steady", show_default=True,
        help="How --qps is spread over a day.",
    ),
    click.option(
        "--valley", type=Rate(above_zero=False), metavar="N", help="Requests/s at the lowest point.  [default: a fifth]"
    ),
    click.option(
        "--misses", type=Parsed("share"), metavar="SHARE",
        help="The share of all requests that may be late.  [default: as the SLO has it, 1% of a p99]",
    ),
    click.option(
        "--spare", type=click.IntRange(0, 1000), default=1, show_default=True, help="Spare replicas (N+1)."
    ),
    click.option(
        "--zones", type=click.IntRange(1, 100), default=1, show_default=True,
        help="Zones to spread over, so that the others suffice when one is lost.",
    ),
    click.option(
        "--least", type=click.IntRange(1, 100_000), default=1, show_default=True, help="The least replicas to keep."
    ),
    click.option(
        "--cold-start", type=Parsed("duration"), metavar="TIME",
        help="How long a new replica takes to serve.  [default: as measured]",
    ),
    click.option("--recommended-only", is_flag=True, help="Plan with the recommended configuration only."),
    click.option(
        "--spot", type=Parsed("share"), metavar="SHARE", help="The spot price, as a share of the price on demand."
    ),
    click.option(
        "--spot-share", type=Parsed("share"), default="100%", show_default=True, metavar="SHARE",
        help="The share of the replicas that may be spot.",
    ),
    click.option(
        "--reserved", type=Parsed("share"), metavar="SHARE",
        help="The reserved price, as a share of the price on demand.",
    ),
    click.option("--own-price", type=Parsed("money"), metavar="MONEY", help="The price of a machine of your own."),
    click.option(
        "--own-monthly", type=Parsed("money"), default="0", show_default=True, metavar="MONEY",
        help="What its power and hosting cost a month.",
    ),
    click.option(
        "--own-replicas", type=click.IntRange(1, 10_000), default=1, show_default=True,
        help="How many replicas it holds.",
    ),
    click.option("--output", type=PATH, metavar="DIR", help="Where the plan goes.  [default: the run's folder]"),
    click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON to standard output."),
    *_STUDY_OPTIONS,
)  # fmt: skip

_SHARE_OPTIONS = (
    click.option(
        "--licence", required=True, type=Licence(), metavar="SPDX",
        help="The licence to publish under, such as CC0-1.0.",
    ),
    click.option("--about", default="", metavar="TEXT", help="A sentence on what was measured; published as it is."),
    click.option(
        "--keep", multiple=True, metavar="PARAMETER", help="Publish this parameter's texts unchanged. May be repeated."
    ),
    click.option("--prices", is_flag=True, help="Publish the prices, and not just their proportions."),
    click.option("--output", type=PATH, metavar="DIR", help="Where the files go.  [default: DIR/shared]"),
    *_STUDY_OPTIONS,
)  # fmt: skip

_GATE_OPTIONS = (
    click.option(
        "--baseline", type=PATH, required=True, metavar="FILE", help="The recommendation.json to compare with."
    ),
    click.option("--measure", is_flag=True, help="Measure the baseline's configuration again, with the spec of DIR."),
    click.option("--service", type=PATH, metavar="SPEC", help="Measure it again, with this spec as it is now."),
    click.option("--runner", type=RUNNERS, help="Where servers run, instead of what the spec says."),
    click.option(
        "--false-alarms",
        type=Parsed("share"),
        default="5%",
        show_default=True,
        metavar="SHARE",
        help="The share of gates that may fail although nothing has changed.",
    ),
    click.option(
        "--detect",
        type=Change(),
        default="10%",
        show_default=True,
        metavar="SHARE",
        help="The change that matters: measuring stops early if it is improbable.",
    ),
    click.option(
        "--output", type=PATH, metavar="DIR", help="Where gate.json, gate.md, junit.xml go.  [default: DIR/gate]"
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, MAX_SEED),
        default=0,
        show_default=True,
        help="The seed of the load's arrivals.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON to standard output."),
    *_STUDY_OPTIONS,
)


_WORKER_OPTIONS = (
    click.option(
        "--storage", metavar="URL", envvar="TUNE_STORAGE", show_envvar=True, required=True,
        help="Where the study is kept, such as postgresql://...",
    ),
    _STUDY_OPTIONS[1],
    click.option("--service", type=PATH, metavar="SPEC", help="The spec, if it names files.  [default: as stored]"),
    click.option("--output", type=PATH, metavar="DIR", help="Where logs go.  [default: tuning/SERVICE]"),
    click.option("--runner", type=RUNNERS, help="Where servers run, instead of what the spec says."),
    click.option(
        "--parallel", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N",
        help="How many trials to run at once.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print events as JSON to standard error."),
    click.option(
        "--trust", is_flag=True,
        help="Run the study's commands even if they differ from those that a worker ran here before.",
    ),
)  # fmt: skip


def _together(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """One decorator for several options, which the help shows in this order."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


study_options = _together(*_STUDY_OPTIONS)
worker_options = _together(*_WORKER_OPTIONS)
share_options = _together(*_SHARE_OPTIONS)
run_options = _together(*_RUN_OPTIONS, *TRACKING_OPTIONS)
verify_options = _together(*_VERIFY_OPTIONS)
gate_options = _together(*_GATE_OPTIONS)
plan_options = _together(*_PLAN_OPTIONS)
