"""What servers of language models share: OpenAI's completions, asked for as a stream of tokens."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass

from runners.protocol import ParameterValue
from runners.servers.exposition import summed_samples
from runners.servers.protocol import CacheCounters, Model, ServerRequest, Statistics, Values, whole

_BODIES = 32
_DRAFT_TOKENS = 4
DTYPES: Mapping[str, str] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_WORDS = (
    "a", "the", "model", "answers", "questions", "about", "weather", "history", "music", "and", "how", "long", "it",
    "takes", "to", "write", "each", "word", "of", "an", "essay", "on", "servers",
)  # fmt: skip


def streamed(model: Model) -> ServerRequest:
    """Prompts of `prompt_words` words (default 64; different ones, lest a cache of prefixes answers) for answers of
    `max_tokens` tokens (default 64); `api: chat` asks for a chat.
    """
    tokens = model.number("max_tokens", 64)
    chat = model.options.get("api", "completions") == "chat"
    served = model.options.get("served_name", model.path or model.name)
    bodies = []
    for prompt in prompts(model):
        asked = {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
        usage = {"stream_options": {"include_usage": True}}  # an event may carry several tokens
        body = {"model": served, **asked, "max_tokens": tokens, "stream": True, **usage}
        bodies.append(json.dumps(body).encode())
    return ServerRequest("/v1/chat/completions" if chat else "/v1/completions", tuple(bodies), stream="openai")


def engine_statistics(
    url: str | None, requests: str, queue_s: str, cache: CacheCounters, no_hits: float | None = None
) -> Statistics | None:
    """What an engine's own page of metrics has counted, by the names of its counters; None where it has none of them.
    `no_hits` is what it means where the one of the cache's hits is absent.
    """
    found = summed_samples(url)
    if (done := found.get(requests)) is None:
        return None
    return Statistics(
        inferences=done, queue_s=found.get(queue_s), cache_queries=found.get(cache.queries),
        cache_hits=found.get(cache.hits, no_hits),
    )  # fmt: skip


def prompts(model: Model) -> tuple[str, ...]:
    """Texts of `prompt_words` words (an option, default 64), always the same ones."""
    words, generator = model.number("prompt_words", 64), random.Random(0)  # noqa: S311 (not for secrets)
    return tuple(" ".join(generator.choices(_WORDS, k=words)) for _ in range(_BODIES))


def served_name(model: Model, word: str = "--served-model-name") -> tuple[str, ...]:
    """The flag by which a server is told the name that requests ask for, where there is one (`served_name`)."""
    name = model.options.get("served_name")
    return () if name is None else (word, name)


@dataclass(frozen=True)
class Speculation:
    """Tokens that are proposed some at a time, to be checked together: by which way, how many, and by which model
    (None: by the text so far, or by the model's own heads).
    """

    way: str
    tokens: int
    model: str | None


def speculation(model: Model, values: Values) -> Speculation | None:
    """From the knobs `speculative` and `draft_tokens`, and the option `draft_model`; None where nothing is proposed.

    A number of tokens alone means those that follow the same words earlier in the text (`ngram`).
    """
    way, tokens = values.get("speculative"), whole(values, "draft_tokens")
    if (way is None and tokens is None) or way in ("none", False):
        return None
    return Speculation(str(way or "ngram"), tokens or _DRAFT_TOKENS, model.options.get("draft_model"))


def given(values: Values) -> dict[str, ParameterValue]:
    """The knobs that are flags: neither left to the server (`auto`) nor off (`none`); types as torch names them."""
    found = {name: value for name, value in values.items() if value not in ("none", "auto")}
    if "precision" in found:
        found["precision"] = DTYPES.get(str(found["precision"]), found["precision"])
    return found
