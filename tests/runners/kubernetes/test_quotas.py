"""A namespace's quotas, as its API lists them: which say before a launch that a pod can never be."""

from __future__ import annotations

from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runners.kubernetes import KubernetesOptions
from runners.kubernetes.nodes import Nodes
from runners.protocol import Resources
from tests.servers.pod_api import JsonHandler, cluster_of


class Quotas(ThreadingHTTPServer):
    """A cluster whose namespace has one quota."""

    daemon_threads = True

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spec = spec


class _Handler(JsonHandler):
    server: Quotas

    def do_GET(self) -> None:  # noqa: N802 (as http.server calls it)
        quota = {"metadata": {"name": "few"}, "spec": self.server.spec}
        items = [quota] if "resourcequotas" in self.path else []
        self.say(200, {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})


def refused(folder: Path, **spec: Any) -> str | None:
    with Quotas({"hard": {"requests.cpu": "1"}, **spec}) as server, cluster_of(folder, server) as cluster:
        return Nodes(cluster, KubernetesOptions(see_nodes=False)).refuses(Resources(cpu_cores=2))


def test_a_quota_of_all_pods_refuses_what_it_never_allows(tmp_path: Path) -> None:
    assert refused(tmp_path) == "asks for 2 CPU cores, and the quota few allows 1 CPU cores"


SELECTED = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}]}


@pytest.mark.parametrize("scope", [{"scopes": ["BestEffort"]}, {"scopeSelector": SELECTED}])
def test_a_quota_of_some_pods_alone_is_left_to_the_api(tmp_path: Path, scope: dict[str, Any]) -> None:
    assert refused(tmp_path, **scope) is None
