"""Reduce the platforms' own schemas of what is exported for them to what a test needs.

Each JSON file says of which repository, file and commit it is, and under which licence. From the custom resource
definition that stands there, `reduced` keeps one version without its descriptions and its status. Where a pod or a
container is described once more, field by field as Kubernetes has it, `embeds` says so in place of those fields: the
test has Kubernetes' own schemas for them.

    python -m tests.results.exports.schemas.reduce CRD.yaml KIND VERSION REPOSITORY PATH COMMIT > keda.json

A CRD may be larger than a megabyte; what is kept is a few kilobytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from kubernetes import client
from ruamel.yaml import YAML

_POD = {"containers", "volumes"}
_CONTAINER = {"image", "env", "volumeMounts"}
_KEPT = (
    "type", "required", "enum", "items", "properties", "additionalProperties", "minimum", "maximum", "minLength",
    "maxLength", "pattern", "minItems", "maxItems", "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields", "anyOf",
)  # fmt: skip


def reduced(schema: Any) -> Any:
    """Without descriptions, and without what Kubernetes itself knows of pods and containers."""
    if isinstance(schema, list):
        return [reduced(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: schema[key] for key in _KEPT if key in schema}
    names = set(found.get("properties", {}))
    kind = "pod" if names >= _POD else "container" if names >= _CONTAINER else None
    if kind is not None:
        known = fields_of(kind)
        found["required"] = [name for name in found.get("required", []) if name not in known]
        found["properties"] = {name: one for name, one in found["properties"].items() if name not in known}
        found["embeds"] = kind
    if "properties" in found:
        found["properties"] = {name: reduced(one) for name, one in found["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in found:
            found[key] = reduced(found[key])
    return found


def fields_of(kind: str) -> frozenset[str]:
    """The fields of a `pod` (its spec) or a `container`, as Kubernetes names them."""
    model = {"pod": client.V1PodSpec, "container": client.V1Container}[kind]
    return frozenset(model.attribute_map.values())


def main() -> None:
    path, kind, version, repository, place, commit = sys.argv[1:]
    definitions = YAML(typ="safe", pure=True).load_all(Path(path).read_text(encoding="utf-8"))
    [crd] = [one for one in definitions if one and one["spec"]["names"]["kind"] == kind]
    [schema] = [one["schema"]["openAPIV3Schema"] for one in crd["spec"]["versions"] if one["name"] == version]
    schema = {**schema, "properties": {key: one for key, one in schema["properties"].items() if key != "status"}}
    schema["properties"] = {key: one for key, one in schema["properties"].items() if key != "metadata"}
    kept = {
        "source": f"https://github.com/{repository}/blob/{commit}/{place}", "licence": "Apache-2.0",
        "apiVersion": f"{crd['spec']['group']}/{version}", "kind": kind, "schema": reduced(schema),
    }  # fmt: skip
    sys.stdout.write(json.dumps(kept, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
