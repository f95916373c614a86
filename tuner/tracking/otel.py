"""OpenTelemetry: a trace of the study with a span per trial and its phases, and metrics, sent by OTLP over HTTP."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import Recommendation
from search_spaces.masking import harmless_url, remember, remember_url
from tuner import __version__
from tuner.display import StudyOutline
from tuner.errors import UsageError, needing_extra
from tuner.tracking.figures import figures, parameters, text
from tuner.tracking.protocol import FinishedTrial, TrackerDownError

_TIMEOUT_S = 5.0  # for a sending with its retries; the SDK's own is 10 s
# Metric: what of a trial it shows, its unit as UCUM writes it, and what it is.
_PERCENTILES = {"p50": "50th", "p90": "90th", "p95": "95th", "p99": "99th", "p999": "99.9th"}
_TIMES = {
    "ttft": "time to the first token",
    "tpot": "mean time between an answer's tokens",
    "itl": "gaps between tokens",
}
_LATENCIES = {
    f"tune.trial.{name}": (f"{name}_ms", "ms", f"{nth} percentile of the last trial's latency.")
    for name, nth in _PERCENTILES.items()
}
_TOKENS = {
    f"tune.trial.{time}.{name}": (f"{time}_{name}_ms", "ms", f"{nth} percentile of the last trial's {about}.")
    for time, about in _TIMES.items()
    for name, nth in _PERCENTILES.items()
}
_GAUGES = {
    "tune.trial.capacity": ("capacity_qps", "{request}/s", "Requests per second of the last trial within the SLO."),
    **_LATENCIES,
    **_TOKENS,
    "tune.trial.cost": ("cost_per_million_requests", "{currency}", "Cost per million requests of the last trial."),
}
_BEST_GAUGES = {
    "tune.best.capacity": ("capacity_qps", "{request}/s", "Requests per second of the best trial so far."),
    "tune.best.cost": ("cost_per_million_requests", "{currency}", "Cost per million requests of the best so far."),
}


@dataclass
class _EndedSpans:
    """A span processor that keeps spans that ended until they are sent."""

    spans: list[Any]

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Nothing is known of it yet."""

    def on_end(self, span: Any) -> None:
        """Waits for `take`."""
        self.spans.append(span)

    def _on_ending(self, span: Any) -> None:
        """Part of the SDK's protocol."""

    def shutdown(self) -> None:
        """Nothing is open."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 (the SDK's protocol)
        """What is kept is sent by the tracker."""
        return True

    def take(self) -> Sequence[Any]:
        """The spans that ended since the last call."""
        taken, self.spans = self.spans, []
        return taken


class OtelTracker:
    """Sends to the OTLP receiver at `endpoint` (its paths are `/v1/traces` and `/v1/metrics`). Headers, and with them
    secrets, come from `OTEL_EXPORTER_OTLP_HEADERS`, attributes of the resource from `OTEL_RESOURCE_ATTRIBUTES`.
    """

    def __init__(self, endpoint: str) -> None:
        """Nothing is connected yet. Raises UsageError for what is no URL of HTTP, and UnfitEnvironmentError where the
        SDK is not installed.
        """
        remember_url(endpoint)
        if not endpoint.startswith(("http://", "https://")):
            raise UsageError("`otlp_endpoint` is no URL of OTLP over HTTP, such as http://127.0.0.1:4318")
        remember(*(one.partition("=")[2] for one in os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(",")))
        with needing_extra("`otlp_endpoint`", "otel"):
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import InMemoryMetricReader
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what fails is said once, and by us
        self._endpoint = endpoint
        base = endpoint.rstrip("/")
        self._trace_exporter: Any = OTLPSpanExporter(endpoint=f"{base}/v1/traces", timeout=_TIMEOUT_S)
        self._metric_exporter: Any = OTLPMetricExporter(endpoint=f"{base}/v1/metrics", timeout=_TIMEOUT_S)
        resource = Resource.create({"service.name": "tune", "service.version": __version__})
        self._kept = _EndedSpans([])
        traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        traces.add_span_processor(self._kept)  # type: ignore[arg-type]
        self._reader = InMemoryMetricReader()
        meters = MeterProvider([self._reader], resource=resource, shutdown_on_exit=False)
        self._tracer, self._meter = traces.get_tracer("tune", __version__), meters.get_meter("tune", __version__)
        self._trials = self._meter.create_counter("tune.trials", "{trial}", "Trials that are over, by state.")
        self._durations = self._meter.create_histogram("tune.trial.duration", "s", "How long trials take.")
        self._gauges = {
            name: self._meter.create_gauge(name, unit, about)
            for name, (_, unit, about) in (_GAUGES | _BEST_GAUGES).items()
        }
        self._study: Any = None
        self._service = ""

    @property
    def name(self) -> str:
        """Without the account that may stand in the URL."""
        return f"OpenTelemetry at {harmless_url(self._endpoint)}"

    def begin(self, outline: StudyOutline) -> None:
        """Begins the study's span, which is sent in the end."""
        self._service = outline.service
        about: dict[str, Any] = {
            "tune.service": outline.service, "tune.objective": outline.objective, "tune.slo": outline.slo,
            "tune.study": outline.study, "tune.earlier_trials": outline.earlier.count,
        }  # fmt: skip
        self._study = self._tracer.start_span(f"tune {outline.service}", attributes=about)

    def trial(self, trial: FinishedTrial) -> None:
        """Sends its span, those of its phases, and the metrics."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        record = trial.record
        attributes: dict[str, Any] = {"tune.trial": record.number, "tune.state": record.state,
                                      "tune.confirmation": trial.confirmation}  # fmt: skip
        attributes |= {f"tune.parameter.{name}": value for name, value in parameters(record.configuration).items()}
        attributes |= {f"tune.{name}": value for name, value in figures(record).items()}
        texts = {"tune.reason": record.reason, "tune.bottleneck": record.bottleneck}
        attributes |= {name: text(value) for name, value in texts.items() if value}
        span = self._tracer.start_span(
            trial.name, set_span_in_context(self._study), start_time=trial.started_ns, attributes=attributes
        )
        if record.state == "failed":
            span.set_status(Status(StatusCode.ERROR, text(record.reason or "")))
        ends = [started for _, started in trial.phases[1:]] + [trial.ended_ns]
        # A trial that was refused before its launch has no phase at all.
        for (name, started), ended in zip(trial.phases, ends, strict=False):
            self._tracer.start_span(name, set_span_in_context(span), start_time=started).end(ended)
        span.end(trial.ended_ns)
        self._count(trial)
        self._send()

    def end(self, recommendation: Recommendation | None, folder: Path) -> None:  # noqa: ARG002 (files are no telemetry)
        """Ends the study's span and sends it."""
        if recommendation is not None:
            for name, value in parameters(recommendation.configuration or {}).items():
                self._study.set_attribute(f"tune.parameter.{name}", value)
            for name, number in figures(recommendation).items():
                self._study.set_attribute(f"tune.{name}", number)
            self._study.set_attribute("tune.decision", str(recommendation.decision))
            self._study.set_attribute("tune.meets_slo", recommendation.meets_slo)
        self._study.end(time.time_ns())
        self._send()

    def _count(self, trial: FinishedTrial) -> None:
        about = {"tune.service": self._service}
        state: dict[str, Any] = {"tune.state": trial.record.state, "tune.confirmation": trial.confirmation}
        self._trials.add(1, about | state)
        self._durations.record((trial.ended_ns - trial.started_ns) / 1e9, about | state)
        shown = [(_GAUGES, figures(trial.record)), (_BEST_GAUGES, figures(trial.best) if trial.best else {})]
        for gauges, values in shown:
            for name, (key, _, _) in gauges.items():
                if key in values:
                    self._gauges[name].set(values[key], about)

    def _send(self) -> None:
        """Raises TrackerDownError where the receiver does not take it."""
        results = [self._trace_exporter.export(self._kept.take())]
        if (metrics := self._reader.get_metrics_data()) is not None:
            results.append(self._metric_exporter.export(metrics, timeout_millis=_TIMEOUT_S * 1e3))
        if any(result.name != "SUCCESS" for result in results):
            raise TrackerDownError("nothing there takes spans and metrics by OTLP over HTTP")
