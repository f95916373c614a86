"""The recommendation as plain JSON: for Terraform's `jsondecode(file(...))`, Pulumi, or a script of one's own."""

from __future__ import annotations

import json
from typing import Any

from results.exports.deployable import Deployable
from results.text import visible


def plain_json(one: Deployable) -> dict[str, str]:
    """What to run, with which resources, and how far to scale it. Numbers are numbers; secrets are named, not told."""
    content: dict[str, Any] = {
        "schema": 1,
        "service": one.service,
        "name": one.name,
        "configuration": dict(one.configuration),
        "image": one.image,
        "command": list(one.command),
        "environment": dict(one.env),
        "secrets": list(one.secrets),
        "files": {f"{one.files_folder}/{path}": text for path, text in one.files.items()},
        "port": one.port,
        "https": one.https,
        "ready_path": one.ready_path,
        "ready_timeout_seconds": one.ready_timeout_s,
        "resources": {
            "cpu_cores": one.cpu_cores,
            "memory_bytes": one.memory_bytes,
            "gpu_type": one.gpu_type,
            "gpus": one.gpu_count,
            "shared_memory_bytes": one.shm_bytes,
            "kubernetes": dict(one.requests),
        },
        "placement": {"node_selector": dict(one.node_selector), "tolerations": [dict(t) for t in one.tolerations]},
        "scaling": {
            "replicas": one.replicas,
            "min_replicas": one.least,
            "max_replicas": one.most,
            "target_requests_per_second": one.target_qps,
            "target_cpu_percent": one.target_cpu_percent,
            "for_requests_per_second": one.qps,
        },
        "measured": {
            "capacity_requests_per_second": one.capacity.model_dump(),
            "slo": one.limit,
            "confirmed": one.confirmed,
            "good_share": one.good,
            "good_of": one.good_of,
        },
        "notes": list(one.notes),
    }
    return {f"{one.name}.json": visible(json.dumps(content, indent=2, ensure_ascii=True)) + "\n"}
