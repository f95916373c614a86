"""Answers that are streamed as server-sent events, as language model servers send them (OpenAI's form).

An event with a piece of text counts as one token, unless the server says at the end how many it sent (`usage`). Events
of another form count as one each.
"""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Iterator
from typing import Any, Protocol

from loadtest.request.reply import Reply

_DONE = b"[DONE]"
_TEXTS = ("content", "reasoning_content", "reasoning", "tool_calls")


class Lines(Protocol):
    """An answer whose lines can be read as they come."""

    def readline(self, sep: bytes) -> bytes:
        """The next line with its end; empty when there are no more."""


def read_stream(answer: Lines, begun: float) -> Reply:
    """Reads to the end; times are seconds after `begun`."""
    first = last = None
    gaps = array("f")
    tokens, ended, counted, prompt, streamed = 0, False, None, 0, False
    for data in _events(answer):
        streamed = True
        if data == _DONE:
            ended = True
            continue
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            return Reply("a streamed event is not JSON")
        if isinstance(event, dict) and event.get("error"):
            return Reply("an error in the stream")
        pieces, finished = _pieces(event)
        ended = ended or finished
        counted = _usage(event, "completion_tokens") or counted
        prompt = _usage(event, "prompt_tokens") or prompt
        if pieces:
            now = time.perf_counter() - begun
            if last is None:
                first = now
            else:
                gaps.append(now - last)
            last = now
            tokens += pieces
    if not streamed:
        return Reply('the answer holds no events of a stream; does the request ask for one ("stream": true)?')
    if first is None or last is None:
        return Reply("the stream had no tokens")
    if not ended:
        return Reply("the stream ended without [DONE] or a finish_reason")
    return Reply(None, first, last, counted or tokens, prompt, gaps)


def _events(answer: Lines) -> Iterator[bytes]:
    """The data of each event; an event may have several lines of it (WHATWG HTML, section 9.2)."""
    data: list[bytes] = []
    while line := answer.readline(b"\n"):
        line = line.rstrip(b"\r\n")
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []
    if data:
        yield b"\n".join(data)


def _pieces(event: Any) -> tuple[int, bool]:
    """How many pieces of text an event has, and whether it says that the answer ends here."""
    choices = event.get("choices") if isinstance(event, dict) else None
    if not isinstance(choices, list):
        return (0 if isinstance(event, dict) and "usage" in event else 1), False
    pieces, finished = 0, False
    for choice in choices:
        if not isinstance(choice, dict):
            continue
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        # What a model thinks before it answers are tokens too; a server that sends it by both names sends it once.
        texts = (choice.get("text"), *(delta.get(name) for name in _TEXTS))
        pieces += any(texts)
        finished = finished or choice.get("finish_reason") is not None
    return pieces, finished


def _usage(event: Any, key: str) -> int | None:
    usage = event.get("usage") if isinstance(event, dict) else None
    count = usage.get(key) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else None
