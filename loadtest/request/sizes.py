"""Recorded lengths of requests to language models: pairs of input and output tokens, from the forms they come in.

- Azure's LLM inference traces (2023, 2024): `TIMESTAMP,ContextTokens,GeneratedTokens`.
- BurstGPT: `Timestamp,Model,Request tokens,Response tokens,...`; answers of 0 tokens failed, and are left out.
- Mooncake: a line of JSON each, with `input_length` and `output_length`.
- ShareGPT: a JSON list of `conversations` of turns `from` and `value`; lengths are those of its texts, by `lengths`.
- Any CSV file with the columns `input_tokens` and `output_tokens`.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from loadtest.request.request_check import PlanError
from search_spaces.reading import InputError, read_text, shown

Size = tuple[int, int]
_MAX_BYTES = 512 << 20
_MAX_TOKENS = 10_000_000
_MAX_COUNTED = 20_000
_COLUMNS = (
    ("input_tokens", "output_tokens"), ("contexttokens", "generatedtokens"), ("request tokens", "response tokens"),
)  # fmt: skip


def count_words(texts: Sequence[str]) -> list[int]:
    """How many words each has."""
    return [len(text.split()) for text in texts]


def read_sizes(path: Path, lengths: Callable[[Sequence[str]], list[int]] = count_words) -> list[Size]:
    """Every pair in the file; `lengths` counts the tokens of texts. Raises PlanError with the file, the line and what
    is expected there.
    """
    try:
        text = read_text(path, _MAX_BYTES)
    except InputError as error:
        raise PlanError(str(error)) from error
    head = text.lstrip()[:1]
    if head == "[":
        found = _counted(list(_sharegpt(path, text)), lengths)
    elif head == "{":
        found = list(_lines(path, text))
    else:
        try:
            found = list(_table(path, text))
        except csv.Error as error:
            raise PlanError(f"{shown(path)}: {error}; is a quote left open?") from error
    if not found:
        raise PlanError(f"{shown(path)} has no request with tokens in and out")
    return found


def _table(path: Path, text: str) -> Iterator[Size]:
    rows = csv.reader(text.splitlines())
    head = [cell.strip().lower() for cell in next(rows, [])]
    columns = next((pair for pair in _COLUMNS if set(pair) <= set(head)), None)
    if columns is None:
        raise PlanError(
            f"{shown(path)}:1: no columns input_tokens and output_tokens (or ContextTokens and GeneratedTokens, or "
            "Request tokens and Response tokens)"
        )
    places = [head.index(name) for name in columns]
    for number, row in enumerate(rows, start=2):
        if any(row):
            cells = [row[place] if place < len(row) else "" for place in places]
            yield from _pair(path, number, *cells)


def _lines(path: Path, text: str) -> Iterator[Size]:
    for number, line in enumerate(text.split("\n"), start=1):  # JSON's texts may hold what else ends a line
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            cells = row["input_length"], row["output_length"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PlanError(f"{shown(path)}:{number}: needs JSON with input_length and output_length") from error
        yield from _pair(path, number, *cells)


def _counted(pairs: list[tuple[str, str]], lengths: Callable[[Sequence[str]], list[int]]) -> list[Size]:
    """The lengths of questions and answers; of very many those of some, evenly spread."""
    some = pairs[:: max(1, len(pairs) // _MAX_COUNTED)]
    return list(zip(*(lengths([pair[side] for pair in some]) for side in (0, 1)), strict=True))


def _sharegpt(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """A question and its answer each."""
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{shown(path)}: is not JSON") from error
    for number, one in enumerate(listed, start=1):
        turns = one.get("conversations") if isinstance(one, dict) else None
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise PlanError(f"{shown(path)}: entry {number} has no list of conversations")
        texts = [(str(turn.get("from")), str(turn.get("value", ""))) for turn in turns]
        for (who, question), (other, answer) in itertools.pairwise(texts):
            if who in ("human", "user") and other in ("gpt", "assistant") and question.split() and answer.split():
                yield question, answer


def _pair(path: Path, line: int, *cells: Any) -> Iterator[Size]:
    try:
        tokens_in, tokens_out = (int(float(cell)) for cell in cells)
    except (ValueError, TypeError, OverflowError) as error:
        raise PlanError(f"{shown(path)}:{line}: {cells[0]!r} and {cells[1]!r} are no numbers of tokens") from error
    if not 0 <= tokens_in <= _MAX_TOKENS or not 0 <= tokens_out <= _MAX_TOKENS:
        raise PlanError(f"{shown(path)}:{line}: {tokens_in} and {tokens_out} are no numbers of tokens")
    if tokens_in and tokens_out:
        yield tokens_in, tokens_out
