"""The main job's options about trackers, and the trackers that they ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tuner.commands.options.types import PATH

if TYPE_CHECKING:
    from pathlib import Path

    from tuner.tracking import Tracker

Function = TypeVar("Function", bound=Callable[..., Any])

TRACKING_OPTIONS = (
    click.option(
        "--mlflow-tracking-uri", metavar="URI",
        help="Keep the run in MLflow: a run with a child run per trial, and the files.",
    ),
    click.option(
        "--otlp-endpoint", metavar="URL",
        help="Send traces and metrics of trials to this OpenTelemetry receiver (OTLP over HTTP).",
    ),
    click.option(
        "--wandb-dir", type=PATH, metavar="DIR",
        help="Write the run for Weights & Biases into DIR, offline; `wandb sync` sends it.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class TrackingOptions:
    """The tracking systems that a run is sent to, besides its own folder."""

    mlflow_tracking_uri: str | None = None
    otlp_endpoint: str | None = None
    wandb_dir: Path | None = None

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> TrackingOptions:
        """Made of a command line's options, from which these are removed."""
        return cls(*(options.pop(name) for name in cls.__dataclass_fields__))

    def trackers(self) -> list[Tracker]:
        """Raises UnfitEnvironmentError where what one needs is not installed. Nothing is connected yet."""
        found: list[Tracker] = []
        if self.mlflow_tracking_uri is not None:
            from tuner.tracking.mlflow import MlflowTracker

            found.append(MlflowTracker(self.mlflow_tracking_uri))
        if self.otlp_endpoint is not None:
            from tuner.tracking.otel import OtelTracker

            found.append(OtelTracker(self.otlp_endpoint))
        if self.wandb_dir is not None:
            from tuner.tracking.wandb import WandbTracker

            found.append(WandbTracker(self.wandb_dir))
        return found
