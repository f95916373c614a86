"""What requests to a language model are asked to be like: their lengths, what they share, and their turns."""

from __future__ import annotations

import math
import random
from typing import Any

from pydantic import Field, model_validator

from loadtest.document import Document


class Lengths(Document):
    """Numbers of tokens: drawn evenly from `low` to `high`, or with `median` and `sigma` (the standard deviation of the
    logarithm) from a lognormal distribution that is cut to that range.
    """

    low: int = Field(ge=1)
    high: int = Field(ge=1, le=10_000_000)
    median: float | None = Field(default=None, gt=0)
    sigma: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Lengths:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        if (self.median is None) != (self.sigma is None):
            raise ValueError("median and sigma go together")
        return self

    def draw(self, generator: random.Random) -> int:
        """One of them."""
        if self.median is None or self.sigma is None:
            return generator.randint(self.low, self.high)
        drawn = generator.lognormvariate(math.log(self.median), self.sigma)
        return round(min(max(drawn, self.low), self.high))


class PrefixCache(Document):
    """How an engine's cache of prefixes is asked: at `path` Prometheus finds the counters `queries` (prompt tokens that
    the cache was asked for) and `hits` (those that it had). A POST to `reset` empties it, where there is such a path.
    """

    path: str = "/metrics"
    queries: str
    hits: str
    reset: str | None = None


class LlmPlan(Document):
    """Every request has a prompt of its own, of so many tokens of the model's `tokenizer` (the absolute path of a
    `tokenizer.json`; without one, of so many words), and asks for so many tokens.

    `shared_prefix` is the share of a prompt that all of them begin with. In a conversation of `turns`, each turn's
    prompt is the one before, as many words as its answer had tokens, and `input_tokens` more; the next turn comes
    `think_s` after the answer at the earliest. `sizes` is the absolute path of a file with pairs of lengths (see
    `read_sizes`), in place of the two that are drawn. `body` is what every request says beside its prompt and
    `max_tokens`.
    """

    input_tokens: Lengths = Lengths(low=512, high=512)
    output_tokens: Lengths = Lengths(low=128, high=128)
    shared_prefix: float = Field(default=0.0, ge=0, lt=1)
    turns: int = Field(default=1, ge=1, le=100)
    think_s: float = Field(default=0.0, ge=0)
    sizes: str | None = None
    tokenizer: str | None = None
    chat: bool = False
    ignore_eos: bool = Field(default=False, description="answers go on to their last token, where the engine can do so")
    body: dict[str, Any] = Field(default_factory=dict)
