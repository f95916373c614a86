"""Other tools' names for the parameters of a space: options of engines, with or without dashes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from search_spaces import Configuration, Parameter, ParameterValue, Role
from tuner.errors import UsageError
from tuner.spec.reading import LoadedSpec
from tuner.study.warm_start.measured import LeftOutError, bare_name

# An engine's option: what the adapters call that knob. Those of vLLM first, then SGLang's and TensorRT-LLM's.
_KNOBS = {
    "max_num_seqs": "batch_size", "max_num_batched_tokens": "max_batched_tokens", "dtype": "precision",
    "gpu_memory_utilization": "gpu_memory_share", "tensor_parallel_size": "tensor_parallel",
    "pipeline_parallel_size": "pipeline_parallel", "data_parallel_size": "data_parallel",
    "enable_prefix_caching": "prefix_caching",
    "max_running_requests": "batch_size", "mem_fraction_static": "gpu_memory_share", "tp_size": "tensor_parallel",
    "pp_size": "pipeline_parallel", "dp_size": "data_parallel", "chunked_prefill_size": "chunked_prefill",
    "page_size": "block_size", "enable_chunked_prefill": "chunked_prefill", "max_num_tokens": "max_batched_tokens",
    "max_seq_len": "max_model_len", "free_gpu_memory_fraction": "kv_cache_share",
    "kv_cache_free_gpu_memory_fraction": "kv_cache_share",
    "tp": "tensor_parallel", "pp": "pipeline_parallel", "dp": "data_parallel", "max_batch_size": "batch_size",
}  # fmt: skip
_ROLES: dict[str, Role] = {
    "batch_size": "batch_size", "precision": "precision", "gpu_memory_share": "gpu_memory_share",
    "tensor_parallel": "tensor_parallel", "pipeline_parallel": "pipeline_parallel", "gpus": "gpus",
    "gpu_type": "gpu_type", "replicas": "replicas",
}  # fmt: skip
_PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32"}


def matching_configuration(named: Mapping[str, Any], loaded: LoadedSpec) -> Configuration:
    """The values that a tool names and the space has, matched by name, by an engine's option, and by role. What the
    space does not have is passed over; raises LeftOutError where nothing matches or a value is none of the choices.
    """
    found: dict[str, ParameterValue] = {}
    for name, value in named.items():
        option = re.sub(r"-", "_", name.strip().lstrip("-")).lower()
        parameter = _parameter(option, loaded)
        if parameter is not None and value is not None and value != "":
            found[parameter.name] = _choice(parameter, value)
    if not found:
        raise LeftOutError("they name no parameter of the space")
    return {name: found[name] for name in loaded.space.names if name in found}


def current_of(loaded: LoadedSpec, tool: str) -> Configuration:
    """The configuration that a tool measured, where it does not record one. Raises UsageError without `current`."""
    if loaded.spec.current is None:
        raise UsageError(f"`warm_start`: {tool} does not record the server's configuration; give it in `current:`")
    return dict(loaded.spec.current)


def _parameter(option: str, loaded: LoadedSpec) -> Parameter | None:
    knob = _KNOBS.get(option, option)
    for name in (option, knob):
        if name in loaded.space.names:
            return next(one for one in loaded.space.parameters if one.name == name)
    role = _ROLES.get(knob)
    return None if role is None else loaded.space.with_role(role)


def _choice(parameter: Parameter, value: Any) -> ParameterValue:
    """The choice that a tool's value is: 8, 8.0 and "8" are one, and so are bfloat16 and bf16, H100 and h100_sxm."""
    if isinstance(parameter.choices, range):
        number = float(value)
        if number.is_integer() and int(number) in parameter.choices:
            return int(number)
        raise LeftOutError("their configuration is not in the space")
    text = str(value).strip()
    text = _PRECISIONS.get(text.lower(), text)
    for choice in parameter.choices:
        if text.lower() == str(choice).lower() or _same_number(text, choice):
            return choice
    if parameter.role == "gpu_type":
        for choice in parameter.choices:
            if bare_name(text).startswith(bare_name(str(choice))):
                return choice
    raise LeftOutError("their configuration is not in the space")


def _same_number(text: str, choice: ParameterValue) -> bool:
    if isinstance(choice, bool):
        return False
    try:
        return float(text) == float(choice)
    except ValueError:
        return False
