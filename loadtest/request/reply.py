"""What came of one request, and whose doing a failure may be, by the kind that it names.

Of a kind there are two questions, and the answer to one is not that to the other. Too much load causes some kinds; a
refusal of the request as wrong is one that no load and no slow machine causes. Between them are answers that are wrong
or broken (one that fails a check, a stream that breaks off): most are the service's own fault, but a server may also
answer so when it is hard pressed. So they are neither: they do not excuse a configuration, and they do not convict one.
"""

from __future__ import annotations

import re
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

_BUSY = r"5\d\d|408|429"
_LOAD = re.compile(rf"http ({_BUSY})|grpc (unavailable|resource exhausted)|timeout|connection|none was answered")
_REFUSAL = re.compile(
    rf"http (?!{_BUSY})4\d\d|grpc (invalid argument|not found|unimplemented|unauthenticated|permission denied)"
)


def may_be_load(kind: str) -> bool:
    """Whether a server that is only too small, or too slow at the moment, may fail so: another may not."""
    return _LOAD.match(kind) is not None


def is_refusal(kind: str) -> bool:
    """Whether the server says that the request is wrong, which it says however fast it is."""
    return _REFUSAL.match(kind) is not None
