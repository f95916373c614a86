"""Who may see a dashboard: this machine's own users, or whoever has the token."""

from __future__ import annotations

import hmac

from werkzeug.wrappers import Request, Response

_COOKIE = "tune-token"
_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def refusal(request: Request, token: str | None) -> Response | None:
    """The answer to who may not see it; None for who may. The token comes by header, by cookie, or once in the
    address, from where it moves into a cookie.

    Without a token only requests to this machine's own names are answered, so that no other site's page can read this
    one through a name of its own (DNS rebinding).
    """
    if token is None:
        name = request.host if request.host.endswith("]") else request.host.rsplit(":", 1)[0]
        return None if name in _LOCAL else Response("this dashboard answers to 127.0.0.1 alone\n", 403)
    given = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.cookies.get(_COOKIE, "")
    if hmac.compare_digest(given.encode(), token.encode()):
        return None
    if hmac.compare_digest(request.args.get("token", "").encode(), token.encode()):
        answer = Response("", 303, {"Location": request.path})
        answer.set_cookie(_COOKIE, token, httponly=True, samesite="Strict")
        return answer
    return Response("a token is needed: open this address with ?token=... once\n", 401)
