"""Servers as pods of a Kubernetes cluster: see `runner` for how one is launched.

The objects and options can be made without the package `kubernetes`, which is imported with the runner alone.
"""

from typing import TYPE_CHECKING, Any

from runners.kubernetes.options import ClusterGpus, KubernetesOptions, Slices

if TYPE_CHECKING:
    from runners.kubernetes.runner import KubernetesRunner


def __getattr__(name: str) -> Any:
    """The runner, imported where it is first asked for."""
    if name == "KubernetesRunner":
        from runners.kubernetes import runner

        return runner.KubernetesRunner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["ClusterGpus", "KubernetesOptions", "KubernetesRunner", "Slices"]
