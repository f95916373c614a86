"""The tests' cluster, as its API shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from kubernetes import client, config

from tests.runners.engines import cluster


@contextlib.contextmanager
def core_api(namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[client.CoreV1Api]:
    """It has that namespace, and the product finds it by KUBECONFIG."""
    path = cluster()
    monkeypatch.setenv("KUBECONFIG", path)
    config.load_kube_config(path)
    api = client.CoreV1Api()
    with contextlib.suppress(client.ApiException):
        api.create_namespace({"metadata": {"name": namespace}})
    try:
        yield api
    finally:
        api.api_client.close()
