"""A patch for a Deployment of the user's own: of the workload that was measured, or of one that there may be."""

from __future__ import annotations

from results.exports.deployable import Deployable
from results.exports.documents import Document, NotExportable, header, to_yaml
from results.exports.kubernetes import NO_VARIABLES, account, beside, container, file_of, placement, volumes_of

_PATCHED = ("Deployment", "StatefulSet", "ReplicaSet")  # whose lists kubectl and kustomize merge by their keys


def patch(one: Deployable) -> dict[str, str]:
    """A strategic-merge patch for an existing Deployment, and the kustomization that applies it, after the patch that
    the spec lays over the workload itself.
    """
    kind, name, own = "Deployment", one.name, one.workload
    if own is not None:
        if own.kind not in _PATCHED:
            raise NotExportable(
                f"{one.service} was measured as the {own.kind} of {own.file}, and patch is for {', '.join(_PATCHED)}\n"
                "Export json, and write what was tuned into that file by hand."
            )
        kind, name = own.kind, own.name or one.name
    target: Document = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}}
    head = header(one, replicas=False)
    files = {}
    if own is not None and own.patch:
        said = f"{head}\nrunner.kubernetes.patch, which was laid over the workload, as it was for this configuration."
        named = {**(own.patch.get("metadata") or {}), **target["metadata"]}  # without a name kustomize takes no patch
        files["spec-patch.yaml"] = to_yaml([target | dict(own.patch) | {"metadata": named}], said)
    of_theirs = own.file if own is not None and own.file else "deployment.yaml"
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [of_theirs.rpartition("/")[2], *(["files.yaml"] if beside(one) else [])],
        "patches": [
            {"path": path, "target": {"kind": kind, "name": name}} for path in (*files, "patch.yaml")
        ],
    }  # fmt: skip
    files["patch.yaml"] = to_yaml(
        [target | {"spec": {"template": {"spec": _pod(one)}}}], f"{head}\n{_how(one, kind, name, list(files))}"
    )
    files["kustomization.yaml"] = to_yaml([kustomization], head)
    return files | file_of(beside(one), one)


def _pod(one: Deployable) -> Document:
    """What the patch changes of the pod. A workload that was measured has its Services' variables as it had."""
    server, own = container(one), one.workload
    if own is not None and own.takes_arguments and "command" in server:
        server["args"] = server.pop("command")
    elif "command" in server:
        server["args"] = None  # null removes the arguments that it has: they are no part of our command
    keys = ("name", *(["image"] if one.program.image else []), "command", "args", "env", "resources", "volumeMounts")
    kept = {key: server[key] for key in keys if key in server}
    if own is not None:
        kept["name"] = own.container or one.name
        if own.other_gpus:
            gone, given = dict.fromkeys(own.other_gpus), kept.get("resources", {})
            kept["resources"] = given | {key: gone | given.get(key, {}) for key in ("requests", "limits")}
    variables = {} if own is not None and own.file else NO_VARIABLES
    return {"containers": [kept], **variables, **account(one), **placement(one), **volumes_of(one)}


def _how(one: Deployable, kind: str, name: str, before: list[str]) -> str:
    own = one.workload
    words = [f"kubectl patch {kind.lower()} {name} --patch-file {file}" for file in (*before, "patch.yaml")]
    theirs = own.file if own is not None and own.file else "deployment.yaml"
    said = f"{', then '.join(words)}, or kubectl apply -k . with your own {theirs.rpartition('/')[2]} here."
    if own is None or own.file is None:
        said += "\nWrite your Deployment's name, and its container's, in place of these."
    return said
