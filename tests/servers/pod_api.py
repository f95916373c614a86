"""The part of Kubernetes' API that resizes a pod as a small HTTP server: one pod, which fares as `mode` says, on one
node of four cores.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from runners.kubernetes.cluster import Cluster


@contextlib.contextmanager
def cluster_of(folder: Path, server: ThreadingHTTPServer) -> Iterator[Cluster]:
    """The cluster that a server in this process plays, by a kubeconfig in that folder."""
    config: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "ns"}}],
    }  # fmt: skip
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config), encoding="utf-8")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Cluster(None, None, str(path))
    finally:
        server.shutdown()


class JsonHandler(BaseHTTPRequestHandler):
    """Answers in JSON, as the API does."""

    def say(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing per request."""


HAD = {"cpu": "1", "memory": "1Gi"}
LATE = 3  # looks


class PodApi(ThreadingHTTPServer):
    """`done` and `late` resize it at once or after some looks; `infeasible` says what a node without room says;
    `forbidden` refuses as for less memory; `absent` is an API before 1.33. `seen` are the patches that came.
    """

    daemon_threads = True

    def __init__(self, mode: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mode, self.asked, self.has, self.looks = mode, dict(HAD), dict(HAD), 0
        self.seen: list[dict[str, Any]] = []


class Handler(JsonHandler):
    """See `PodApi`."""

    server: PodApi

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        if path == "/api/v1":
            names = ["pods", "pods/log", *([] if self.server.mode == "absent" else ["pods/resize"])]
            one = {"singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get", "patch"]}
            listed = [{"name": name, **one} for name in names]
            self.say(200, {"kind": "APIResourceList", "groupVersion": "v1", "resources": listed})
        elif path == "/api/v1/nodes":
            node = {"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "4", "memory": "16Gi"}}}
            self.say(200, {"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": [node]})
        elif path.endswith("/resourcequotas"):
            self.say(200, {"kind": "ResourceQuotaList", "apiVersion": "v1", "metadata": {}, "items": []})
        elif path.endswith("/pods"):
            self.say(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []})
        else:
            self.say(200, self.pod())

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append({"path": self.path, "type": self.headers["Content-Type"], "body": body})
        if self.server.mode == "forbidden":
            refusal = "Pod is invalid: memory limits cannot be decreased unless resizePolicy is RestartContainer"
            self.say(422, {"kind": "Status", "status": "Failure", "message": refusal, "code": 422})
            return
        for change in body:
            kind, name = change["path"].split("/")[-2:]
            if kind == "limits":
                self.server.asked[name] = change["value"]
        self.server.looks = 0
        self.say(200, self.pod())

    def pod(self) -> dict[str, Any]:
        """As it is now: what it asks for, what it has, and what its node says of that."""
        self.server.looks += 1
        conditions: list[dict[str, str]] = []
        if self.server.asked != self.server.has:
            if self.server.mode == "infeasible":
                said = "Node didn't have enough capacity: cpu, requested: 64000, capacity: 4000"
                conditions = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": said}]
            elif self.server.mode == "done" or self.server.looks > LATE:
                self.server.has = dict(self.server.asked)
            else:
                conditions = [{"type": "PodResizeInProgress", "status": "True"}]
        resources = [{"requests": one, "limits": one} for one in (self.server.asked, self.server.has)]
        sidecar = {"name": "sidecar", "image": "i"}
        return {
            "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "ns"},
            "spec": {"containers": [sidecar, {"name": "server", "image": "i", "resources": resources[0]}]},
            "status": {"conditions": conditions, "containerStatuses": [{"name": "server", "resources": resources[1]}]},
        }  # fmt: skip
