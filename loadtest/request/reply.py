"""What came of one request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """`failure` says in a user's words what went wrong, None where the answer was good.

    A streamed answer also says when its tokens came, in seconds after the request was begun, and the `gaps_s` between
    them; `tokens` counts them, `input_tokens` those of the prompt (0: the server did not say).
    """

    failure: str | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    tokens: int = 0
    input_tokens: int = 0
    gaps_s: Sequence[float] = ()


GOOD = Reply()
NO_PORT = "no free port or file left"  # the one failure of a request that is this machine's own
Send = Callable[[], Reply]  # blocks its greenlet until the answer is complete or given up; never raises
