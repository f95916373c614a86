"""Who may see a dashboard: this machine's own users, or whoever has the token."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict, deque

from werkzeug.wrappers import Request, Response

_COOKIE = "tune-session"
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_MAX_SESSIONS = 1000
_SESSION_S = 7 * 86_400.0
_MAX_FAILURES, _FAILURES_S = 20, 60.0  # wrong tokens that are looked at in a minute; those after are told to wait


class Gate:
    """Lets in whoever gave the token once. For several threads.

    The token comes by header, or once in the address, from where the browser gets a session of its own: the cookie
    holds no token, and is worth nothing once the dashboard has ended. Without a token only requests to this machine's
    own names are answered, so that no other site's page can read this one through a name of its own (DNS rebinding).
    """

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._sessions: OrderedDict[str, float] = OrderedDict()  # session -> when it ends
        self._failures: deque[float] = deque(maxlen=_MAX_FAILURES)
        self._lock = threading.Lock()

    def refusal(self, request: Request) -> Response | None:
        """The answer to a request that may not see the page; None for one that may."""
        if self._token is None:
            name = request.host if request.host.endswith("]") else request.host.rsplit(":", 1)[0]
            return None if name in _LOCAL else Response("this dashboard answers to 127.0.0.1 alone\n", 403)
        if self._is_open(request.cookies.get(_COOKIE, "")):
            return None
        by_header = request.headers.get("Authorization", "").removeprefix("Bearer ")
        by_address = request.args.get("token", "")
        if not by_header and not by_address:
            return Response("a token is needed: open this address with ?token=... once\n", 401)
        if self._waits():
            return Response(
                "too many wrong tokens; try again in a minute\n", 429, {"Retry-After": f"{_FAILURES_S:.0f}"}
            )
        if by_header and self._is_token(by_header):
            return None
        if by_address and self._is_token(by_address):
            answer = Response("", 303, {"Location": request.path})
            answer.set_cookie(_COOKIE, self._opened(), httponly=True, samesite="Strict", secure=request.is_secure)
            return answer
        with self._lock:
            self._failures.append(time.monotonic())
        return Response("that is not the token\n", 401)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())

    def _is_open(self, session: str) -> bool:
        with self._lock:
            return self._sessions.get(session, 0.0) > time.monotonic()

    def _opened(self) -> str:
        session = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[session] = time.monotonic() + _SESSION_S
            while len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return session

    def _waits(self) -> bool:
        """Whether so many wrong tokens came lately that somebody may be guessing."""
        with self._lock:
            return len(self._failures) == _MAX_FAILURES and time.monotonic() - self._failures[0] < _FAILURES_S
