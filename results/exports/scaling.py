"""What stands beside a Deployment, or in its place: KEDA, LeaderWorkerSet, Gateway API's InferencePool."""

from __future__ import annotations

from results.exports.deployable import Deployable
from results.exports.documents import Document, NotExportable, aim, body, comment, header, remarked, to_yaml
from results.exports.kubernetes import claims, metadata, pod, selector, service
from results.exports.servers import uses

# Servers' own counters of requests, as their documentation names them.
_COUNTERS = {
    "triton": "nv_inference_request_success",
    "torchserve": "ts_inference_requests_total",
    "vllm": "vllm:request_success_total",
}


def keda(one: Deployable) -> dict[str, str]:
    """A ScaledObject (keda.sh/v1alpha1) for the exported Deployment: requests/s of each replica at the measured knee,
    by the server's own counter; the use of cores where the server is not known to have one.
    """
    if not one.scales:
        raise NotExportable(
            f"keda needs a rate to scale by, and none is known to be held by {one.service}\n"
            "Export kubernetes, which has one replica of it and no autoscaler."
        )
    counter = next((name for server, name in _COUNTERS.items() if _runs(one, server)), None)
    percent = one.target_cpu_percent
    if counter is not None:
        trigger: Document = {
            "type": "prometheus",
            "metricType": "AverageValue",
            "metadata": {
                "serverAddress": "http://prometheus.monitoring:9090",
                "query": f'sum(rate({{__name__="{counter}", pod=~"{one.name}-.*"}}[1m]))',
                "threshold": f"{one.target_qps:.6g}",  # which KEDA reads as a number: it knows no `4200m`
            },
        }
        remark = ("threshold", aim(one))
    elif percent is not None:
        trigger = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(percent)}}
        remark = ("value", f"percent of the requested cores, used at {aim(one)}")
    else:
        raise NotExportable(
            f"keda needs something to scale by: no use of cores was measured of {one.service}, and the server is not "
            f"one whose counter of requests is known ({', '.join(_COUNTERS)})\n"
            "Export kubernetes, whose autoscaler takes http_requests_per_second of an adapter."
        )
    # KEDA refuses a Deployment that an autoscaler has already, unless it is told to take that over.
    taken_over = {"scaledobject.keda.sh/transfer-hpa-ownership": "true"}
    document = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {**metadata(one), "annotations": taken_over},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": one.name},
            "minReplicaCount": one.min_replicas,
            "maxReplicaCount": one.max_replicas,
            "advanced": {"horizontalPodAutoscalerConfig": {"name": one.name}},
            "triggers": [trigger],
        },
    }
    text = remarked(body(document), *remark)
    text = remarked(text, "serverAddress", "write your Prometheus here")
    head = f"{header(one)}\nFor the Deployment of the format `kubernetes`, whose autoscaler it takes over."
    if counter is not None and one.listens.metrics_port is not None:
        head += f"\nPrometheus has to scrape its pods' port `metrics` ({one.listens.metrics_port})."
    return {"scaledobject.yaml": comment(head) + text}


def leader_worker_set(one: Deployable) -> dict[str, str]:
    """A LeaderWorkerSet (leaderworkerset.x-k8s.io/v1) with groups of one pod, and its Service."""
    document = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": metadata(one),
        "spec": {
            "replicas": one.replicas,
            "leaderWorkerTemplate": {
                "size": 1,
                "workerTemplate": {"metadata": {"labels": selector(one)}, "spec": pod(one)},
            },
        },
    }
    if one.program.files:
        raise NotExportable(
            f"leader-worker-set takes no rendered files, and {one.service} has {len(one.program.files)}\n"
            "Export kubernetes, whose ConfigMap holds them."
        )
    head = f"{header(one)}\nA group is one pod, as it was measured; a model over several machines needs another size."
    return {f"{one.name}.yaml": to_yaml([*claims(one), document, service(one)], head)}


def inference_pool(one: Deployable) -> dict[str, str]:
    """An InferencePool (inference.networking.k8s.io/v1) of the exported Deployment's pods."""
    document = {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": metadata(one),
        "spec": {
            "selector": {"matchLabels": selector(one)},
            "targetPorts": [{"number": one.listens.port}],
            "endpointPickerRef": {"name": f"{one.name}-epp", "port": {"number": 9002}},
        },
    }
    text = remarked(body(document), "endpointPickerRef", "the Service of your endpoint picker, as its chart names it")
    head = f"{header(one)}\nFor the Deployment of the format `kubernetes`."
    return {"inferencepool.yaml": comment(head) + text}


def _runs(one: Deployable, server: str) -> bool:
    if server == "vllm":
        return "vllm" in " ".join([one.program.image or "", *one.program.command]).lower()
    return uses(one, server)
