"""A run's trials in the tracking systems that a team has: MLflow, OpenTelemetry, Weights & Biases.

`Tracked` is a display around another one: it tells trackers what happens, each in a thread of its own. A tracker that
is down is said once, and never fails or holds up a run. Each tracker's package is imported when it is asked for, and
nowhere else.
"""

from tuner.tracking.protocol import FinishedTrial, Tracker, TrackerDownError
from tuner.tracking.tracked import Tracked

__all__ = ["FinishedTrial", "Tracked", "Tracker", "TrackerDownError"]
