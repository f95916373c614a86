"""Asks an engine, before and after each probe, how much of the prompts its cache of prefixes answered."""

from __future__ import annotations

import contextlib
import re
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, urlsplit

from loadtest.generator.wire.transport import trust
from loadtest.llm import PrefixCache
from loadtest.plan import LoadPlan
from loadtest.request.auth import secret_headers

_TIMEOUT_S = 2.0
_MAX_BYTES = 4 << 20


class CacheWatch:
    """The counters that `plan.prefix_cache` names. Nothing is known where they cannot be read.

    They are asked while no load is on: before a probe and after it.
    """

    def __init__(self, plan: LoadPlan, cache: PrefixCache) -> None:
        self._plan, self._cache = plan, cache
        self._begun: tuple[float, float] | None = None
        # Prompts that share nothing, or repeat, find nothing from an earlier probe. A prefix that is asked to be
        # shared is there in production before the first request comes, and so it is here.
        llm = plan.request.llm
        self._resets = llm is None or (not llm.shared_prefix and llm.turns == 1)

    def begin(self) -> None:
        """A probe begins: empty the cache where that can be done, and note the counters."""
        reset = self._cache.reset
        if reset is not None and self._resets and self._asked(reset, "POST") is None:
            self._resets = False  # this engine was not started so that it could: it need not be asked again
        self._begun = self._counters()

    def hit_rate(self) -> float | None:
        """The share of prompt tokens since `begin` that were in the cache; None where it is not known."""
        if self._begun is None or (now := self._counters()) is None:
            return None
        queries, hits = (after - before for before, after in zip(self._begun, now, strict=True))
        return min(1.0, hits / queries) if queries > 0 and hits >= 0 else None

    def _counters(self) -> tuple[float, float] | None:
        text = self._asked(self._cache.path, "GET")
        if text is None:
            return None
        found = [_sum_of(name, text) for name in (self._cache.queries, self._cache.hits)]
        return None if found[0] is None else (found[0], found[1] or 0.0)

    def _asked(self, path: str, method: str) -> str | None:
        """What is answered with 2xx. Without redirects, as the load itself."""
        at = urlsplit(self._plan.url)
        with contextlib.suppress(OSError, ValueError, HTTPException), closing(self._connection(at)) as connection:
            connection.request(method, at.path.rstrip("/") + path, headers=secret_headers(self._plan.request.auth))
            answer = connection.getresponse()
            text = answer.read(_MAX_BYTES).decode("utf-8", "replace")
            return text if 200 <= answer.status < 300 else None
        return None

    def _connection(self, at: SplitResult) -> HTTPConnection:
        host = at.hostname or ""
        if at.scheme != "https":
            return HTTPConnection(host, at.port or 80, timeout=_TIMEOUT_S)
        return HTTPSConnection(host, at.port or 443, timeout=_TIMEOUT_S, context=trust(self._plan.request)())


def _sum_of(name: str, text: str) -> float | None:
    """Over all labels, as of several engines behind one endpoint."""
    found = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? +([0-9.eE+]+)", text, re.MULTILINE)
    return sum(map(float, found)) if found else None
