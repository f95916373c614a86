"""The recommendation as plain JSON: for Terraform's `jsondecode(file(...))`, Pulumi, or a script of one's own."""

from __future__ import annotations

import json
from dataclasses import asdict
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
        "image": one.program.image,
        "command": list(one.program.command),
        "environment": dict(one.program.env),
        "secrets": list(one.program.secrets),
        "mounts": dict(one.program.mounts),
        "image_pull_secrets": list(one.program.pull_secrets),
        "service_account": one.program.service_account,
        "files": {f"{one.program.files_folder}/{path}": text for path, text in one.program.files.items()},
        "port": one.listens.port,
        "metrics_port": one.listens.metrics_port,
        "https": one.listens.https,
        "ready_path": one.listens.ready_path,
        "ready_timeout_seconds": one.listens.ready_timeout_s,
        "resources": {
            "cpu_cores": one.needs.cpu_cores,
            "memory_bytes": one.needs.memory_bytes,
            "gpu_type": one.needs.gpu_type,
            "gpus": one.gpu_count,
            "gpu_slice": one.needs.gpu_slice,
            "shared_memory_bytes": one.needs.shm_bytes,
            "kubernetes": dict(one.needs.requests),
        },
        "placement": {
            "node_selector": dict(one.needs.node_selector),
            "node_labels": {key: list(values) for key, values in one.needs.node_labels.items()},
            "tolerations": [dict(t) for t in one.needs.tolerations],
        },
        "scaling": {
            "replicas": one.replicas,
            "min_replicas": one.min_replicas,
            "max_replicas": one.max_replicas,
            "target_requests_per_second": one.target_qps,
            "target_cpu_percent": one.target_cpu_percent,
            "for_requests_per_second": one.qps,
        },
        "measured": {
            "capacity_requests_per_second": one.measured.capacity.model_dump(),
            "slo": one.measured.limit,
            "confirmed": one.measured.confirmed,
            "good_share": one.measured.good,
            "good_of": one.measured.good_of,
        },
        "workload": None if one.workload is None else asdict(one.workload),
        "notes": list(one.notes),
    }
    return {f"{one.name}.json": visible(json.dumps(content, indent=2, ensure_ascii=True)) + "\n"}
