"""Engines of language models: vLLM's and SGLang's own configuration files, and KServe's LLMInferenceService.

What was measured is a command; its options are written down under the names that the engines' `--config` files use.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import takewhile

from results.exports.deployable import Deployable
from results.exports.documents import Document, NotExportable, header, to_yaml
from results.exports.kubernetes import claims, env_entries, metadata, pod, resources

Option = str | bool | list[str]
_SHORT = re.compile(r"-[A-Za-z]\S*")  # `-tp`; `-1` is a value
_HOST_OPTIONS = ("host", "port", "model", "model-path", "served-model-name")  # which a platform sets by itself


def vllm(one: Deployable) -> dict[str, str]:
    """For `vllm serve --config vllm.yaml`."""
    model, options = _vllm(one, "vllm")
    head = f"{header(one)}\nvllm serve --config vllm.yaml"
    return {"vllm.yaml": to_yaml([{"model": model, **options}], head)}


def sglang(one: Deployable) -> dict[str, str]:
    """For `python3 -m sglang.launch_server --config sglang.yaml`."""
    if not any("sglang.launch_server" in word for word in one.program.command):
        raise NotExportable(_not_run(one, "sglang", "python3 -m sglang.launch_server --model-path MODEL"))
    entry = next(at for at, word in enumerate(one.program.command) if "sglang.launch_server" in word)
    options = _options(one.program.command[entry + 1 :], "sglang")
    if "model-path" not in options:
        raise NotExportable(f"sglang needs a model, and the command of {one.service} has no --model-path")
    head = f"{header(one)}\npython3 -m sglang.launch_server --config sglang.yaml"
    return {"sglang.yaml": to_yaml([dict(options)], head)}


def llm_inference_service(one: Deployable) -> dict[str, str]:
    """An LLMInferenceService (serving.kserve.io/v1alpha2), whose own template starts vLLM with the measured options."""
    model, options = _vllm(one, "llm-inference-service")
    if model.startswith(("/", ".", "~")):
        raise NotExportable(
            f"llm-inference-service needs a model that a cluster can fetch; {one.service} serves the folder {model}\n"
            "Name a model of the hub in service.model.path, or write model.uri as pvc://, s3:// or oci:// by hand."
        )
    if one.program.files:
        raise NotExportable(
            f"llm-inference-service takes no rendered files, and {one.service} has {len(one.program.files)}\n"
            "Export kubernetes, whose ConfigMap holds them."
        )
    given = {name: value for name, value in options.items() if name not in _HOST_OPTIONS}
    wanted = resources(one)
    server: Document = {"name": "main", **({"resources": wanted} if wanted else {})}
    if one.program.image:
        server["image"] = one.program.image
    arguments = [{"name": "VLLM_ADDITIONAL_ARGS", "value": _words(given)}] if given else []
    server["env"] = [*env_entries(one), *arguments]
    named = options.get("served-model-name", model)
    served = str(named[0] if isinstance(named, list) else named)
    placed = (
        "nodeSelector", "affinity", "tolerations", "resourceClaims", "serviceAccountName", "imagePullSecrets"
    )  # fmt: skip
    rest = {key: value for key, value in pod(one).items() if key in placed}
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
    return {f"{one.name}.yaml": to_yaml([*claims(one), document], header(one))}


def _vllm(one: Deployable, name: str) -> tuple[str, dict[str, Option]]:
    """The model and the options of a command that runs vLLM."""
    words = list(one.program.command)
    entry = next((at for at, word in enumerate(words) if word.rsplit("/", 1)[-1] == "vllm"), None)
    runs = entry is not None and words[entry + 1 : entry + 2] == ["serve"]
    module = next((at for at, word in enumerate(words) if "vllm.entrypoints" in word), None)
    if runs and entry is not None:
        own = words[entry + 2 :]
    elif module is not None:
        own = words[module + 1 :]
    else:
        raise NotExportable(_not_run(one, name, "vllm serve MODEL"))
    options = _options(own, name)
    after = own[:1] if runs else []
    model = after[0] if after and not after[0].startswith("-") else options.pop("model", None)
    if not isinstance(model, str):
        raise NotExportable(f"{name} needs a model, and the command of {one.service} names none: vllm serve MODEL")
    return model, options


def _not_run(one: Deployable, name: str, command: str) -> str:
    return (
        f"{name} is for a service that runs that engine, and the command of {one.service} does not\n"
        f"Set service.server: {'sglang' if name == 'sglang' else 'vllm'} in the spec, or start it with `{command}`."
    )


def _options(words: Sequence[str], name: str) -> dict[str, Option]:
    """`--max-num-seqs 64 --enforce-eager` as `max-num-seqs: 64`, `enforce-eager: true`; `--a=b` as well, and several
    values as a list. Raises NotExportable for `-tp`: an engine's file has long names alone.
    """
    if (short := next(filter(_SHORT.fullmatch, words), None)) is not None:
        raise NotExportable(
            f"{name} has options by their long names alone, and the command says {short}\n"
            "Write it out in service.command, as in --tensor-parallel-size for -tp."
        )
    found: dict[str, Option] = {}
    for at, word in enumerate(words):
        if not word.startswith("--") or word == "--":
            continue
        key, equals, value = word[2:].partition("=")
        values = [value] if equals else list(takewhile(lambda one: not one.startswith("--"), words[at + 1 :]))
        found[key] = True if not values else values[0] if len(values) == 1 else values
    return found


def _words(options: dict[str, Option]) -> str:
    """The options as one line, quoted as for a shell, since a shell reads them there."""

    def said(value: Option) -> list[str]:
        values = value if isinstance(value, list) else [] if value is True else [value]
        return [shlex.quote(str(one)) for one in values]

    return " ".join(" ".join([f"--{name}", *said(value)]) for name, value in options.items())
