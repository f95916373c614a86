"""Whose doing a failed request may be, by the kind that its `Reply` names.

Two questions, and the answer to one is not that to the other. Too much load causes some kinds; a refusal of the request
as wrong is one that no load and no slow machine causes. Between them are answers that are wrong or broken (one that
fails a check, a stream that breaks off): most are the service's own fault, but a server may also answer so when it is
hard pressed. So they are neither: they do not excuse a configuration, and they do not convict one.
"""

from __future__ import annotations

import re

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
