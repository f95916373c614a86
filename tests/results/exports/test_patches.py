"""The exported patch, laid over Deployments of people's own: by kubectl, by kustomize and as the runner lays it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from results.exports import FORMATS, Deployable
from runners.kubernetes.objects import laid_over
from tests.results.exports.test_exports import documents, example

NAME = "mini-lm-v2"
TOOLS = ["runner", *(["patch", "kustomize"] if shutil.which("kubectl") else [])]


def deployment(**server: Any) -> dict[str, Any]:
    labels = {"app": "mine"}
    pod = {"containers": [{"name": NAME, "image": "mine:1", **server}]}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }  # fmt: skip


def applied(tool: str, folder: Path, one: Deployable, theirs: dict[str, Any]) -> dict[str, Any]:
    """The server's container as it then is."""
    for name, text in FORMATS["patch"](one).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "deployment.yaml").write_text(json.dumps(theirs), encoding="utf-8")
    if tool == "runner":
        found = laid_over(theirs, documents(FORMATS["patch"](one)["patch.yaml"])[0])
    else:
        words = {
            "patch": ["patch", "--local", "-f", "deployment.yaml", "--patch-file", "patch.yaml", "-o", "yaml"],
            "kustomize": ["kustomize", "."],
        }[tool]
        done = subprocess.run(["kubectl", *words], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        every = YAML(typ="safe", pure=True).load_all(done.stdout)
        [found] = [document for document in every if document["kind"] == "Deployment"]
    [server] = found["spec"]["template"]["spec"]["containers"]
    assert isinstance(server, dict)
    return server


@pytest.mark.parametrize("tool", TOOLS)
def test_a_deployments_own_arguments_are_no_part_of_the_exported_command(tool: str, tmp_path: Path) -> None:
    theirs = deployment(command=["/bin/sh", "-c"], args=["exec old"])
    server = applied(tool, tmp_path, example(command=("python", "server.py")), theirs)
    assert (server["command"], server.get("args")) == (["python", "server.py"], None)
    assert "args" not in server


@pytest.mark.parametrize("tool", TOOLS)
def test_options_alone_are_arguments_to_the_program_that_a_deployment_has(tool: str, tmp_path: Path) -> None:
    theirs = deployment(command=["vllm", "serve"], args=["--old"])
    server = applied(tool, tmp_path, example(command=("--model", "m")), theirs)
    assert (server["command"], server["args"]) == (["vllm", "serve"], ["--model", "m"])


@pytest.mark.parametrize("name", ["kubernetes", "kserve", "seldon", "helm-values", "compose"])
def test_options_alone_do_not_replace_the_images_program(name: str) -> None:
    text = "".join(FORMATS[name](example(command=("--model", "m"))).values())
    words = "command" if name == "compose" else "args"
    assert f"{words}:\n" in text
    assert ("entrypoint:" if name == "compose" else "command:") not in text
