"""Prompts for a language model: a fresh one for every request, lest a cache of prefixes answers in its place."""

from __future__ import annotations

import heapq
import itertools
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtest.llm import LlmPlan
from loadtest.request.sizes import read_sizes
from loadtest.request.vocabulary import joined, vocabulary


@dataclass(frozen=True)
class Prompt:
    """One request's body, and the conversation that it belongs to: its words so far, and which turn it is."""

    body: bytes
    words: tuple[str, ...]
    output_tokens: int
    turn: int


class Prompts:
    """`seed` decides lengths and the common prefix, `fresh` the words that no other request has: it must differ between
    processes that load one server. Not thread-safe: greenlets of one process share it.
    """

    def __init__(self, plan: LlmPlan, seed: int, fresh: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises PlanError where its file of sizes cannot be read."""
        self._plan, self._clock = plan, clock
        self._vocabulary = vocabulary(plan.tokenizer)
        self._lengths = random.Random(f"lengths {seed}")  # noqa: S311 (not for secrets)
        self._fresh = random.Random(f"fresh {seed} {fresh}")  # noqa: S311
        self._prefix_words = random.Random(f"prefix {seed}")  # noqa: S311
        self._prefix: list[str] = []
        self._sizes = [] if plan.sizes is None else read_sizes(Path(plan.sizes), self._vocabulary.lengths)
        self._order = itertools.count()
        self._thinking: list[tuple[float, int, Prompt]] = []

    def take(self) -> Prompt:
        """The next turn of a conversation whose user has thought long enough, or else the first of a new one."""
        tokens_in, tokens_out = self._size()
        if self._thinking and self._thinking[0][0] <= self._clock():
            _, _, before = heapq.heappop(self._thinking)
            answer = self._fresh.choices(self._vocabulary.words, k=before.output_tokens)
            more = self._fresh.choices(self._vocabulary.words, k=tokens_in)
            return self._prompt((*before.words, *answer, *more), tokens_out, before.turn + 1)
        count = max(1, tokens_in - self._vocabulary.overhead)
        shared = min(count - 1, round(self._plan.shared_prefix * tokens_in))
        own = self._fresh.choices(self._vocabulary.words, k=count - shared)
        return self._prompt((*self._shared(shared), *own), tokens_out, 1)

    def answered(self, prompt: Prompt) -> None:
        """The conversation goes on when its user has thought, unless that was its last turn."""
        if prompt.turn < self._plan.turns:
            heapq.heappush(self._thinking, (self._clock() + self._plan.think_s, next(self._order), prompt))

    def _size(self) -> tuple[int, int]:
        if self._sizes:
            return self._lengths.choice(self._sizes)
        return self._plan.input_tokens.draw(self._lengths), self._plan.output_tokens.draw(self._lengths)

    def _shared(self, count: int) -> list[str]:
        """The first words of what all prompts begin with: a shorter one begins as a longer one does."""
        if len(self._prefix) < count:
            self._prefix += self._prefix_words.choices(self._vocabulary.words, k=count - len(self._prefix))
        return self._prefix[:count]

    def _prompt(self, words: tuple[str, ...], tokens_out: int, turn: int) -> Prompt:
        text = joined(words)
        asked = {"messages": [{"role": "user", "content": text}]} if self._plan.chat else {"prompt": text}
        whole = {"ignore_eos": True, "min_tokens": tokens_out} if self._plan.ignore_eos else {}
        body = {
            "stream": True, "stream_options": {"include_usage": True}, **self._plan.body, **asked,
            "max_tokens": tokens_out, **whole,
        }  # fmt: skip
        return Prompt(json.dumps(body).encode(), words, tokens_out, turn)
