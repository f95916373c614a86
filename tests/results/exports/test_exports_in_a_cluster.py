"""What is exported for Kubernetes, applied to a real cluster as it is: the Deployment answers a request."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import pytest
from kubernetes import client, config, utils

from results.exports import FORMATS
from tests.results.exports.test_exports import documents, example
from tests.runners.engines import IMAGE, cluster

NAMESPACE = "tune-export"
COMMAND = ("python3", "misbehaving.py", "--mode", "ok", "--host", "0.0.0.0", "--port", "8000")


@pytest.mark.usefixtures("needs_engine")
@pytest.mark.slow
def test_the_exported_deployment_answers_a_request(tmp_path: Path) -> None:
    config.load_kube_config(cluster())
    exported = FORMATS["kubernetes"](
        example(
            service="answers", image=f"docker.io/library/{IMAGE}", command=COMMAND, env={}, ready_timeout_s=60.0,
            requests={"cpu": "0.2", "memory": "268435456"}, node_selector={}, tolerations=(), gpu_type=None,
            cpu_cores=0.2, memory_bytes=2**28, cores_used=0.16, qps=None,
        )
    )  # fmt: skip
    with client.ApiClient() as api:
        core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
        core.create_namespace({"metadata": {"name": NAMESPACE}})
        try:
            # The autoscaler's API is younger than the oldest clusters; its schema is checked elsewhere.
            for one in documents(exported["answers.yaml"]):
                if one["kind"] != "HorizontalPodAutoscaler":
                    utils.create_from_dict(api, one, namespace=NAMESPACE)
            [found] = apps.list_namespaced_deployment(NAMESPACE).items
            deadline = time.monotonic() + 120
            while not found.status.ready_replicas and time.monotonic() < deadline:
                time.sleep(0.2)
                found = apps.read_namespaced_deployment(found.metadata.name, NAMESPACE)
            pods = core.list_namespaced_pod(NAMESPACE).items
            assert found.status.ready_replicas, [one.status for one in pods]
            [container] = found.spec.template.spec.containers
            assert container.resources.limits["memory"] == "256Mi"
            assert container.startup_probe
            assert container.readiness_probe
            assert container.liveness_probe
            [service] = core.list_namespaced_service(NAMESPACE).items
            answers = core.read_namespaced_endpoints(service.metadata.name, NAMESPACE).subsets
            address = f"http://{answers[0].addresses[0].ip}:{answers[0].ports[0].port}/predict"
            with urllib.request.urlopen(urllib.request.Request(address, data=b"{}"), timeout=10) as answer:
                assert answer.status == 200
        finally:
            core.delete_namespace(NAMESPACE, _preload_content=False).close()
