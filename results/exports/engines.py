"""Engines of language models: vLLM's and SGLang's own configuration files, and KServe's LLMInferenceService.

What was measured is a command; its options are written down under the names that the engines' `--config` files use.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from results.exports.deployable import Deployable
from results.exports.documents import Document, NotExportable, header, to_yaml
from results.exports.kubernetes import env_entries, metadata, pod, resources

Option = str | bool
_HOST_OPTIONS = ("host", "port", "model", "model-path", "served-model-name")  # which a platform sets by itself


def vllm(one: Deployable) -> dict[str, str]:
    """For `vllm serve --config vllm.yaml`."""
    model, options = _vllm(one, "vllm")
    head = f"{header(one)}\nvllm serve --config vllm.yaml"
    return {"vllm.yaml": to_yaml([{"model": model, **options}], head)}


def sglang(one: Deployable) -> dict[str, str]:
    """For `python -m sglang.launch_server --config sglang.yaml`."""
    if not any("sglang.launch_server" in word for word in one.program.command):
        raise NotExportable(_not_run(one, "sglang", "python -m sglang.launch_server --model-path MODEL"))
    options = _options(one.program.command)
    if "model-path" not in options:
        raise NotExportable(f"sglang needs a model, and the command of {one.service} has no --model-path")
    head = f"{header(one)}\npython -m sglang.launch_server --config sglang.yaml"
    return {"sglang.yaml": to_yaml([dict(options)], head)}


def llm_inference_service(one: Deployable) -> dict[str, str]:
    """An LLMInferenceService (serving.kserve.io/v1alpha2), whose own template starts vLLM with the measured options."""
    model, options = _vllm(one, "llm-inference-service")
    if model.startswith(("/", ".", "~")):
        raise NotExportable(
            f"llm-inference-service needs a model that a cluster can fetch; {one.service} serves the folder {model}\n"
            "Name a model of the hub in service.model.path, or write model.uri as pvc://, s3:// or oci:// by hand."
        )
    given = {name: value for name, value in options.items() if name not in _HOST_OPTIONS}
    server: Document = {"name": "main", **({"resources": resources(one)} if one.needs.requests else {})}
    if one.program.image:
        server["image"] = one.program.image
    arguments = [{"name": "VLLM_ADDITIONAL_ARGS", "value": _words(given)}] if given else []
    server["env"] = [*env_entries(one), *arguments]
    served = str(options.get("served-model-name", model))
    rest = {key: value for key, value in pod(one).items() if key in ("nodeSelector", "tolerations")}
    tensor = given.get("tensor-parallel-size")
    document = {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": metadata(one),
        "spec": {
            "model": {"uri": f"hf://{model}", "name": served},
            "replicas": one.replicas,
            **({"parallelism": {"tensor": int(tensor)}} if isinstance(tensor, str) and tensor.isdigit() else {}),
            "router": {"scheduler": {}, "route": {}, "gateway": {}},
            "template": {"containers": [server], **rest},
        },
    }
    return {f"{one.name}.yaml": to_yaml([document], header(one))}


def _vllm(one: Deployable, name: str) -> tuple[str, dict[str, Option]]:
    """The model and the options of a command that runs vLLM."""
    words = list(one.program.command)
    entry = next((at for at, word in enumerate(words) if word.rsplit("/", 1)[-1] == "vllm"), None)
    runs = entry is not None and words[entry + 1 : entry + 2] == ["serve"]
    if not runs and not any("vllm.entrypoints" in word for word in words):
        raise NotExportable(_not_run(one, name, "vllm serve MODEL"))
    options = _options(words)
    after = words[entry + 2 : entry + 3] if runs and entry is not None else []
    model = after[0] if after and not after[0].startswith("-") else options.pop("model", None)
    if not isinstance(model, str):
        raise NotExportable(f"{name} needs a model, and the command of {one.service} names none: vllm serve MODEL")
    return model, options


def _not_run(one: Deployable, name: str, command: str) -> str:
    return (
        f"{name} is for a service that runs that engine, and the command of {one.service} does not\n"
        f"Set service.server: {'sglang' if name == 'sglang' else 'vllm'} in the spec, or start it with `{command}`."
    )


def _options(words: Sequence[str]) -> dict[str, Option]:
    """`--max-num-seqs 64 --enforce-eager` as `max-num-seqs: 64`, `enforce-eager: true`; `--a=b` as well."""
    found: dict[str, Option] = {}
    for at, word in enumerate(words):
        if not word.startswith("--") or word == "--":
            continue
        name, equals, value = word[2:].partition("=")
        following = words[at + 1] if at + 1 < len(words) else "--"
        found[name] = value if equals else True if following.startswith("--") else following
    return found


def _words(options: dict[str, Option]) -> str:
    """The options as one line, quoted as for a shell, since a shell reads them there."""
    return " ".join(
        f"--{name}" if value is True else f"--{name} {shlex.quote(str(value))}" for name, value in options.items()
    )
