"""Weights & Biases, offline: the run as files in a folder, which `wandb sync` sends when somebody wants it to.

Its client starts a process of its own that samples the machine. So all is kept until the run is over and written then:
nothing of it runs beside what is measured.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from results import Recommendation
from tuner.display import StudyOutline
from tuner.errors import UnfitEnvironmentError, needing_extra
from tuner.tracking.figures import artifacts, figures, parameters, text
from tuner.tracking.protocol import FinishedTrial


class WandbTracker:
    """Writes one offline run below `folder`/wandb: a step per trial, a table of all, the recommendation, the files."""

    def __init__(self, folder: Path) -> None:
        """Raises UnfitEnvironmentError where the client is not installed, or the folder cannot be made."""
        with needing_extra("`wandb_dir`", "wandb"):
            import wandb
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnfitEnvironmentError(f"`wandb_dir`: cannot make {folder}: {error.strerror}") from error
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):  # what is to be synced lies in one place
            os.environ.setdefault(name, str(folder.resolve()))
        self._wandb: Any = wandb
        self._folder = folder
        self._outline: StudyOutline | None = None
        self._trials: list[FinishedTrial] = []

    @property
    def name(self) -> str:
        """The tracker's name, with its folder."""
        return f"Weights & Biases in {text(self._folder)}"

    def begin(self, outline: StudyOutline) -> None:
        """Nothing is started yet."""
        self._outline = outline

    def trial(self, trial: FinishedTrial) -> None:
        """Kept until the end."""
        self._trials.append(trial)

    def end(self, recommendation: Recommendation | None, folder: Path) -> None:
        """Writes all."""
        assert self._outline is not None  # noqa: S101 (a study begins before it ends)
        settings = self._wandb.Settings(
            silent=True, console="off", save_code=False, disable_git=True, disable_job_creation=True,
            x_disable_stats=True, x_disable_meta=True, x_save_requirements=False, host="",
        )  # fmt: skip
        run = self._wandb.init(
            mode="offline", dir=str(self._folder), project="tune", name=self._outline.service, job_type="tune",
            group=self._outline.study or None,  # runs that go on with one study stand together
            config={"objective": self._outline.objective, "slo": self._outline.slo}, settings=settings,
        )  # fmt: skip
        try:
            for step, trial in enumerate(self._trials, self._outline.earlier.count):
                best = figures(trial.best) if trial.best is not None else {}
                values = {f"trial/{name}": value for name, value in figures(trial.record).items()}
                run.log(values | {f"best/{name}": value for name, value in best.items()}, step=step)
            run.log({"trials": self._table()})
            if recommendation is not None:
                chosen = parameters(recommendation.configuration or {})
                run.config.update({f"recommended.{name}": value for name, value in chosen.items()})
                run.summary.update(figures(recommendation))
                run.summary.update({"decision": recommendation.decision, "meets_slo": recommendation.meets_slo})
            files = self._wandb.Artifact(f"tune-{self._outline.service}", type="tuning")
            for path in artifacts(folder):
                files.add_file(str(path))
            run.log_artifact(files)
        finally:
            run.finish(exit_code=0 if recommendation is not None else 1)

    def _table(self) -> Any:
        """A row per trial, with every parameter and figure that any of them has."""
        rows = [
            {"trial": one.record.number, "state": one.record.state, "confirmation": one.confirmation}
            | parameters(one.record.configuration)
            | figures(one.record)
            for one in self._trials
        ]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        return self._wandb.Table(columns=columns, data=[[row.get(name) for name in columns] for row in rows])
