"""What a TuningRun becomes: a config map with its service spec, and a Job of the chart's kind. Plain documents."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]

GROUP, VERSION, PLURAL, KIND = "tune-inference.dev", "v1alpha1", "tuningruns", "TuningRun"
RUN = "tune/run"  # the label of what a TuningRun owns: its uid
_SPEC = "spec.yaml"
_OPTIONS = ("budget", "parallel", "seed")


def run_name(run: Mapping[str, Any]) -> str:
    """What its Job and its config map are called: the same name however often it is asked for. Kubernetes makes a label
    of it, which has at most 63 characters.
    """
    about = run["metadata"]
    return f"{about['name'][:44].strip('-.').replace('.', '-')}-tune-{about['uid'][:8]}"


def run_files(run: Mapping[str, Any]) -> Document:
    """The service spec and the files that it names. Raises ValueError for a file that takes the spec's name."""
    spec = run["spec"]
    files = {str(name): str(text) for name, text in (spec.get("files") or {}).items()}
    if _SPEC in files:
        raise ValueError(f"spec.files: {_SPEC} is the service spec itself; name the file otherwise")
    data = {_SPEC: json.dumps(spec["service"], indent=2, ensure_ascii=False), **files}  # JSON is YAML too
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(run), "data": data}


def job(run: Mapping[str, Any], template: Mapping[str, Any]) -> Document:
    """The chart's own Job with this run's spec in it. `template` is a Job's `spec`, whose first container tunes.

    Raises ValueError for a template without a volume called `spec`, where the service spec goes.
    """
    spec, name = copy.deepcopy(dict(template)), run_name(run)
    pod = spec["template"]["spec"]
    volumes = [one for one in pod.get("volumes") or () if one.get("name") == "spec"]
    if not volumes:
        raise ValueError("the Job's template has no volume called spec")
    volumes[0]["configMap"] = {"name": name}
    server = pod["containers"][0]
    given = {"output": f"/work/results/{name}"}  # runs may share a volume
    given |= {option: str(run["spec"][option]) for option in _OPTIONS if run["spec"].get(option) is not None}
    kept = [word for word in server.get("args") or () if word.removeprefix("--").partition("=")[0] not in given]
    server["args"] = [*kept, *(f"--{option}={value}" for option, value in given.items())]
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    labels[RUN] = run["metadata"]["uid"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(run), "spec": spec}


def _metadata(run: Mapping[str, Any]) -> Document:
    about = run["metadata"]
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": about["name"], "uid": about["uid"], "controller": True
    }  # fmt: skip
    labels = {"app.kubernetes.io/managed-by": "tune-controller", RUN: about["uid"]}
    return {"name": run_name(run), "namespace": about["namespace"], "labels": labels, "ownerReferences": [owner]}
