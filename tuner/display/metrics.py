"""The running study as metrics for Prometheus, beside whatever else shows it."""

from __future__ import annotations

import math
import threading
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from results import Recommendation, TrialRecord
from search_spaces import Configuration
from tuner.display.protocol import Display, StudyOutline
from tuner.errors import UnfitEnvironmentError

_STATES = ("complete", "pruned", "infeasible", "failed")
_PHASES = ("start", "launch", "quality", "warmup", "load", "probe", "drain", "stop")


class _Metrics:
    """What can be counted of a study, as Prometheus reads it."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.trials = Gauge("tune_trials", "Finished trials by state.", ["state"], registry=registry)
        self.budget = Gauge("tune_budget_trials", "Trials that the study may make.", registry=registry)
        self.under_way = Gauge("tune_trials_running", "Trials under way.", registry=registry)
        self.phase = Gauge("tune_phase", "Trials in each phase.", ["phase"], registry=registry)
        self.cost = Gauge("tune_best_cost_per_million_requests", "Of the best so far.", registry=registry)
        self.capacity = Gauge("tune_best_capacity_qps", "Requests/s of the best so far.", registry=registry)
        self.load = Counter("tune_load_test_seconds", "Seconds of load tests.", registry=registry)
        self.confirmations = Counter("tune_confirmations", "Second measurements that are over.", registry=registry)
        for state in _STATES:
            self.trials.labels(state).set(0)
        for figure in (self.cost, self.capacity):
            figure.set(math.nan)  # nothing meets the SLO yet, and a best cost of 0 would say otherwise


class MetricsDisplay:
    """Tells another display everything, and http://HOST:PORT/metrics what can be counted."""

    def __init__(self, inner: Display, port: int, host: str = "127.0.0.1") -> None:
        """Raises UnfitEnvironmentError where the port is taken, or the host is not this machine's."""
        self._inner = inner
        self._lock = threading.Lock()
        self._running: dict[int, str] = {}
        self._metrics = _Metrics()
        self._show_phases()
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=self._metrics.registry)
        except OSError as error:
            raise UnfitEnvironmentError(
                f"cannot serve metrics on {host}:{port}: {error.strerror}; change `metrics_port` or `metrics_host`"
            ) from error

    def study_started(self, outline: StudyOutline) -> None:
        """Shows the budget, and the trials of earlier runs with their best."""
        self._metrics.budget.set(outline.budget.trials)
        for state, count in outline.earlier.states.items():
            self._metrics.trials.labels(state).set(count)
        self._show_best(outline.earlier.best)
        self._inner.study_started(outline)

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int | None) -> None:
        """Counts it as under way."""
        self._in_phase(number, "start")
        self._inner.trial_started(number, configuration, position, budget)

    def phase(self, number: int, name: str, fraction: float) -> None:
        """Shown by its first word."""
        self._in_phase(number, name.split(" ", 1)[0])
        self._inner.phase(number, name, fraction)

    def trial_finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """Counts it, and shows the best."""
        self._ended(record)
        self._metrics.trials.labels(record.state).inc()
        self._show_best(best)
        self._inner.trial_finished(record, best)

    def trial_lost(self, number: int) -> None:
        """It is under way no more."""
        self._over(number)
        self._inner.trial_lost(number)

    def confirmation_started(self, first: TrialRecord, position: int, count: int) -> None:
        """Counts it as under way."""
        self._in_phase(first.number, "start")
        self._inner.confirmation_started(first, position, count)

    def confirmation_finished(self, first: TrialRecord, confirmation: TrialRecord) -> None:
        """Counts it."""
        self._ended(confirmation)
        self._metrics.confirmations.inc()
        self._inner.confirmation_finished(first, confirmation)

    def notice(self, text: str) -> None:
        """Passed on."""
        self._inner.notice(text)

    def recommended(self, recommendation: Recommendation, output: Path) -> None:
        """Passed on."""
        self._inner.recommended(recommendation, output)

    def close(self) -> None:
        """The port is free again. May be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._inner.close()

    def _show_best(self, best: TrialRecord | None) -> None:
        if best is not None and best.capacity_qps is not None:
            self._metrics.capacity.set(best.capacity_qps.value)
            if best.cost_per_million_requests is not None:
                self._metrics.cost.set(best.cost_per_million_requests)

    def _ended(self, record: TrialRecord) -> None:
        self._metrics.load.inc(record.timing.load_s or 0.0)
        self._over(record.number)

    def _over(self, number: int) -> None:
        with self._lock:
            self._running.pop(number, None)
        self._show_phases()

    def _in_phase(self, number: int, name: str) -> None:
        with self._lock:
            if self._running.get(number) == name:
                return
            self._running[number] = name
        self._show_phases()

    def _show_phases(self) -> None:
        with self._lock:
            running = list(self._running.values())
        self._metrics.under_way.set(len(running))
        for phase in _PHASES:
            self._metrics.phase.labels(phase).set(running.count(phase))
