"""`tune controller`: make a Job of every TuningRun of a Kubernetes namespace, and keep its status."""

from __future__ import annotations

from pathlib import Path

from runners import RunnerUnavailable
from tuner.errors import ExitCode, UnfitEnvironmentError, UsageError, needing_extra
from tuner.spec.yaml_file import read_documents


def controller(job: Path, namespace: str | None, health_port: int | None) -> ExitCode:
    """Blocks until it is interrupted. Raises UsageError for a file that holds no Job, UnfitEnvironmentError where no
    cluster answers or kopf is not installed.
    """
    [template, *more] = read_documents(job) or ({},)
    pod = (template.get("template") or {}).get("spec") if isinstance(template.get("template"), dict) else None
    if more or not isinstance(pod, dict) or not pod.get("containers"):
        raise UsageError(f"{job}: holds no Job's `spec`; the chart writes one, as in deploy/controller.yaml")
    with needing_extra("the controller", "controller"):
        from runners.kubernetes.controller.operator import serve
    try:
        serve(template, namespace, health_port)
    except RunnerUnavailable as error:
        raise UnfitEnvironmentError(str(error)) from error
    return ExitCode.DONE
