"""The prompts that a load test makes for a language model, as the spec's `request.llm:` describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loadtest import Lengths, LlmPlan
from runners.servers import ServerRequest, adapter_named
from tuner.spec.llm import LengthSpec
from tuner.spec.reading import LoadedSpec

_TOKENIZER = "tokenizer.json"
_MADE = ("prompt", "messages", "max_tokens", "stream", "stream_options")  # what a prompt brings itself


def llm_plan(loaded: LoadedSpec) -> LlmPlan | None:
    """The load test's plan for prompts; None if the spec has no `request.llm`. Raises SpecError for a tokenizer that
    does not exist.
    """
    spec, request = loaded.spec.request.llm, loaded.spec.request
    if spec is None:
        return None
    fixes = loaded.spec.service.server != "custom" and adapter_named(loaded.spec.service.server).fixes_lengths
    return LlmPlan(
        input_tokens=_lengths(spec.input_tokens), output_tokens=_lengths(spec.output_tokens),
        shared_prefix=spec.shared_prefix, turns=spec.turns, think_s=spec.think or 0.0,
        sizes=None if spec.sizes is None else str(loaded.folder / spec.sizes), tokenizer=_tokenizer(loaded),
        chat=request.path.rstrip("/").endswith("/chat/completions"),
        ignore_eos=fixes if spec.ignore_eos is None else spec.ignore_eos, body=dict(request.json_body or {}),
    )  # fmt: skip


def completed(plan: LlmPlan, asked: ServerRequest) -> LlmPlan:
    """The plan, completed by what the server's adapter says in each request beside the prompt: the model's name, and
    whether it chats.
    """
    body: dict[str, Any] = json.loads(asked.bodies[0]) if asked.bodies else {}
    rest = {name: value for name, value in body.items() if name not in _MADE}
    return plan.model_copy(update={"chat": "messages" in body or plan.chat, "body": rest | plan.body})


def _lengths(spec: LengthSpec) -> Lengths:
    low, high = spec.range
    return Lengths(low=low, high=high, median=spec.median, sigma=spec.sigma)


def _tokenizer(loaded: LoadedSpec) -> str | None:
    """The tokenizer's file: the one that the spec names, or the one beside the model."""
    named = loaded.spec.request.llm.tokenizer if loaded.spec.request.llm else None
    model = loaded.spec.service.model.path
    given = named if named is not None else model
    if given is None:
        return None
    path = loaded.folder / Path(given).expanduser()
    path = path / _TOKENIZER if path.is_dir() else path
    if path.is_file() and (named is not None or path.name == _TOKENIZER):
        return str(path)
    if named is not None:
        raise loaded.error(("request", "llm", "tokenizer"), f"there is no file {path}; name one")
    return None
