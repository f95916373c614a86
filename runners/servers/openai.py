"""What servers of language models share: OpenAI's completions, asked for as a stream of tokens."""

from __future__ import annotations

import json
import random

from runners.protocol import ParameterValue
from runners.servers.protocol import Model, ServerRequest, Values

_BODIES = 32
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_WORDS = (
    "a", "the", "model", "answers", "questions", "about", "weather", "history", "music", "and", "how", "long", "it",
    "takes", "to", "write", "each", "word", "of", "an", "essay", "on", "servers",
)  # fmt: skip


def streamed(model: Model) -> ServerRequest:
    """Prompts of `prompt_words` words (default 64; different ones, lest a cache of prefixes answers) for answers of
    `max_tokens` tokens (default 64); `api: chat` asks for a chat.
    """
    words, tokens = model.number("prompt_words", 64), model.number("max_tokens", 64)
    chat = model.options.get("api", "completions") == "chat"
    served = model.options.get("served_name", model.path or model.name)
    generator = random.Random(0)  # noqa: S311 (not for secrets)
    bodies = []
    for _ in range(_BODIES):
        prompt = " ".join(generator.choices(_WORDS, k=words))
        asked = {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
        usage = {"stream_options": {"include_usage": True}}  # an event may carry several tokens
        body = {"model": served, **asked, "max_tokens": tokens, "stream": True, **usage}
        bodies.append(json.dumps(body).encode())
    return ServerRequest("/v1/chat/completions" if chat else "/v1/completions", tuple(bodies), stream="openai")


def served_name(model: Model) -> tuple[str, ...]:
    """The flag by which a server is told the name that requests ask for, where there is one (`served_name`)."""
    name = model.options.get("served_name")
    return () if name is None else ("--served-model-name", name)


def given(values: Values) -> dict[str, ParameterValue]:
    """The knobs that are flags: neither left to the server (`auto`) nor off (`none`); types as torch names them."""
    found = {name: value for name, value in values.items() if value not in ("none", "auto")}
    if "precision" in found:
        found["precision"] = _DTYPES.get(str(found["precision"]), found["precision"])
    return found
