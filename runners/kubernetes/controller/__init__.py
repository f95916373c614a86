"""The custom resource `TuningRun`: a controller makes a Job of each one, and keeps its status up to date.

A TuningRun owns its Job and its config map, so that deleting it leaves nothing, with or without a running controller:
nothing has a finalizer. `operator` alone imports kopf.
"""

from runners.kubernetes.controller.objects import GROUP, PLURAL, VERSION, run_name
from runners.kubernetes.controller.runs import TuningRuns
from runners.kubernetes.controller.status import FINISHED, PodState, status_after

__all__ = ["FINISHED", "GROUP", "PLURAL", "VERSION", "PodState", "TuningRuns", "run_name", "status_after"]
