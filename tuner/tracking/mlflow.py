"""MLflow: a parent run for the study, a child run for every trial, the run's files as artifacts."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from results import Recommendation
from search_spaces.masking import harmless_url, remember, remember_url
from tuner.display import StudyOutline
from tuner.errors import needing_extra
from tuner.tracking.figures import artifacts, figures, parameters, text
from tuner.tracking.protocol import FinishedTrial, TrackerDownError

# Where the user says nothing else: a server that is down is given up after seconds (MLflow's own defaults are seven
# tries of two minutes), nothing is printed between our lines, and nobody else is told of the run.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN")
_STUDY = "tune.study"
_BEST = ("cost_per_million_requests", "capacity_qps")  # of the best so far, as curves of the parent run


class MlflowTracker:
    """Writes to the tracking server at `uri`, into the experiment `$MLFLOW_EXPERIMENT_NAME`, else the
    service's name. Account and token come from MLflow's own variables, `MLFLOW_TRACKING_USERNAME` and so on.
    """

    def __init__(self, uri: str) -> None:
        """Raises UnfitEnvironmentError where MLflow is not installed. Nothing is connected yet."""
        remember_url(uri)
        remember(*(os.environ.get(name) for name in _SECRETS))
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        with needing_extra("`mlflow_tracking_uri`", "mlflow"):
            from mlflow import MlflowClient
        for logger in ("mlflow", "urllib3.connectionpool"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        self._uri = uri
        self._make_client = MlflowClient
        self._client: Any = None
        self._experiment = self._parent = ""
        self._finished = 0

    @property
    def name(self) -> str:
        """Without the account that may stand in the URI."""
        return f"MLflow at {harmless_url(self._uri) if '://' in self._uri else text(self._uri)}"

    def begin(self, outline: StudyOutline) -> None:
        """Opens the parent run, or goes on with that of the run that is resumed."""
        self._client = self._make_client(tracking_uri=self._uri)
        self._experiment = self._experiment_id(os.environ.get("MLFLOW_EXPERIMENT_NAME") or outline.service)
        self._finished = outline.earlier.count
        if outline.study and (parent := self._earlier(outline.study)) is not None:
            self._parent = parent
            self._client.update_run(parent, status="RUNNING")
            self._close_children()
            return
        tags = {
            _STUDY: outline.study,
            "tune.objective": outline.objective,
            "tune.slo": outline.slo,
            "tune.earlier_trials": outline.earlier.count,
        }
        run = self._client.create_run(
            self._experiment, run_name=outline.service, tags={name: text(value) for name, value in tags.items()}
        )
        self._parent = run.info.run_id

    def _earlier(self, study: str) -> str | None:
        """The parent run that an earlier part of this run has written; the newest of several."""
        found = self._client.search_runs(
            [self._experiment], f"tags.`{_STUDY}` = '{study}'", order_by=["attributes.start_time DESC"], max_results=1
        )
        return str(found[0].info.run_id) if found else None

    def _close_children(self) -> None:
        """A run that was killed while it wrote a trial has left it open."""
        half = f"tags.`mlflow.parentRunId` = '{self._parent}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([self._experiment], half):
            self._client.set_terminated(run.info.run_id, status="KILLED")

    def trial(self, trial: FinishedTrial) -> None:
        """Writes a child run, and the best so far to its parent."""
        from mlflow.entities import Metric, Param, RunTag

        record, ended_ms = trial.record, trial.ended_ns // 1_000_000
        run = self._client.create_run(
            self._experiment, start_time=trial.started_ns // 1_000_000, run_name=trial.name,
            tags={"mlflow.parentRunId": self._parent, "tune.trial": str(record.number), "tune.state": record.state},
        )  # fmt: skip
        tags = {"tune.reason": record.reason, "tune.bottleneck": record.bottleneck}
        self._client.log_batch(
            run.info.run_id,
            metrics=[Metric(name, value, ended_ms, 0) for name, value in figures(record).items()],
            params=[Param(name, value) for name, value in parameters(record.configuration).items()],
            tags=[RunTag(name, text(value)) for name, value in tags.items() if value],
        )
        status = "FAILED" if record.state == "failed" else "FINISHED"
        self._client.set_terminated(run.info.run_id, status=status, end_time=ended_ms)
        if not trial.confirmation:
            self._finished += 1
            best = figures(trial.best) if trial.best is not None else {}
            curves = [Metric(f"best_{name}", best[name], ended_ms, self._finished) for name in _BEST if name in best]
            if curves:
                self._client.log_batch(self._parent, metrics=curves)

    def end(self, recommendation: Recommendation | None, folder: Path) -> None:
        """Writes what is recommended, and the files, to the parent run."""
        from mlflow.entities import Metric, Param, RunTag

        if recommendation is not None:
            now_ms = time.time_ns() // 1_000_000
            chosen = parameters(recommendation.configuration or {})
            # A parameter cannot be changed, and a run that is resumed may come to another recommendation: tags can.
            given = self._client.get_run(self._parent).data.params
            self._client.log_batch(
                self._parent,
                metrics=[Metric(name, value, now_ms, 0) for name, value in figures(recommendation).items()],
                params=[Param(name, value) for name, value in chosen.items() if name not in given],
                tags=[
                    *(RunTag(f"tune.recommended.{name}", value) for name, value in chosen.items()),
                    RunTag("tune.decision", str(recommendation.decision)),
                    RunTag("tune.meets_slo", str(recommendation.meets_slo).lower()),
                    RunTag("mlflow.note.content", "\n\n".join(map(text, recommendation.reasons))),
                ],
            )
        for path in artifacts(folder):
            self._client.log_artifact(self._parent, str(path))
        self._client.set_terminated(self._parent, status="FINISHED" if recommendation is not None else "KILLED")

    def _experiment_id(self, name: str) -> str:
        """The id of the experiment of this name, which is made if there is none."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # another run made it meanwhile
                found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise TrackerDownError(f"its experiment {name} is deleted; restore it, or set MLFLOW_EXPERIMENT_NAME")
        return str(found.experiment_id)
