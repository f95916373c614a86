"""Streams of tokens, as servers write them."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest

from loadtest.request.streams import read_stream


class Answer:
    """Lines as they were sent."""

    def __init__(self, *deltas: dict[str, Any]) -> None:
        events = [json.dumps({"choices": [{"delta": delta}]}) for delta in deltas]
        self._lines = io.BytesIO("".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode())

    def readline(self, sep: bytes) -> bytes:
        assert sep == b"\n"
        return self._lines.readline()


@pytest.mark.parametrize("name", ["content", "reasoning", "reasoning_content"])
def test_what_a_model_thinks_is_tokens_too(name: str) -> None:
    reply = read_stream(
        Answer({"role": "assistant", "content": ""}, {name: "so"}, {name: " it"}, {"content": "is"}),
        time.perf_counter(),
    )
    assert (reply.failure, reply.tokens) == (None, 3)
    only = read_stream(Answer({name: "so"}), time.perf_counter())
    assert (only.failure, only.tokens) == (None, 1)


def test_one_text_by_two_names_is_one_token() -> None:
    both = {"reasoning": "so", "reasoning_content": "so", "content": None}
    assert read_stream(Answer(both, both), time.perf_counter()).tokens == 2
