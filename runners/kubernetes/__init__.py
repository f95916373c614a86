"""Servers as pods of a Kubernetes cluster: see `runner` for how one is launched."""

from runners.kubernetes.options import ClusterGpus, KubernetesOptions, Slices
from runners.kubernetes.runner import KubernetesRunner

__all__ = ["ClusterGpus", "KubernetesOptions", "KubernetesRunner", "Slices"]
