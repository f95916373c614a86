"""Words of which each is exactly one token of a model, so that a prompt's length is known before it is sent."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from loadtest.request.sizes import count_words
from search_spaces.reading import InputError, read_text

_MAX_BYTES = 64 << 20
_CANDIDATES, _ENOUGH = 4000, 40
_MARKS = ("\u0120", "\u2581")  # how byte-level BPE and SentencePiece write the space before a word
_TRIES, _TRIED = 5, 200
_WORDS = (
    "a", "the", "model", "answers", "questions", "about", "weather", "history", "music", "and", "how", "long", "it",
    "takes", "to", "write", "each", "word", "of", "an", "essay", "on", "servers", "rivers", "mountains", "cities",
    "trains", "letters", "numbers", "colours",
)  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """`words` of one token each where it is `exact`; `overhead` tokens are added to every prompt by the tokenizer.
    `note` says what is not known of a prompt's length. `lengths` counts the tokens of texts.
    """

    words: Sequence[str]
    overhead: int = 0
    note: str = ""
    lengths: Callable[[Sequence[str]], list[int]] = count_words

    @property
    def exact(self) -> bool:
        """Whether a prompt has as many tokens as were asked for."""
        return not self.note


@lru_cache(maxsize=4)
def vocabulary(tokenizer: str | None) -> Vocabulary:
    """The words of a `tokenizer.json`; plain words if there is none, or if it cannot be used."""
    if tokenizer is None:
        return _plain("no tokenizer was named or found")
    try:
        text = read_text(Path(tokenizer), _MAX_BYTES)
    except InputError as error:
        return _plain(str(error))
    try:
        from tokenizers import Tokenizer  # an optional extra
    except ImportError:
        return _plain("the package tokenizers is not installed (pip install '.[llm]' in a checkout of tune)")
    try:
        model = Tokenizer.from_str(text)
    except Exception as error:  # noqa: BLE001 (the package raises Exception itself)
        return _plain(f"{tokenizer} is no tokenizer: {str(error)[:80]}")
    single = _single_tokens(model)
    overhead = len(model.encode("").ids)
    if len(single) < _ENOUGH or not _adds_up(model, single, overhead):
        return _plain(f"the tokens of {tokenizer} do not add up word by word")
    return Vocabulary(single, overhead, lengths=lambda texts: _lengths(model, texts))


def _lengths(model: Any, texts: Sequence[str]) -> list[int]:
    return [len(found.ids) for found in model.encode_batch(list(texts))]


def _plain(why: str) -> Vocabulary:
    return Vocabulary(_WORDS, 0, f"Prompts were counted in words, not in tokens: {why}.")


def _single_tokens(model: Any) -> tuple[str, ...]:
    """Words that are one token after a space, in an order that does not change."""
    names = {name.lstrip("".join(_MARKS)) for name in model.get_vocab()}
    candidates = sorted(name for name in names if len(name) > 1 and name.isascii() and name.isalpha())[:_CANDIDATES]
    encoded = model.encode_batch([f" {name}" for name in candidates], add_special_tokens=False)
    return tuple(name for name, found in zip(candidates, encoded, strict=True) if len(found.ids) == 1)


def _adds_up(model: Any, words: Sequence[str], overhead: int) -> bool:
    generator = random.Random(0)  # noqa: S311 (not for secrets)
    prompts = [joined(generator.choices(words, k=_TRIED)) for _ in range(_TRIES)]
    return all(abs(len(found.ids) - overhead - _TRIED) <= 1 for found in model.encode_batch(prompts))


def joined(words: Sequence[str]) -> str:
    """A prompt of these words: each after a space, as in the middle of a text."""
    return "".join(f" {word}" for word in words)
