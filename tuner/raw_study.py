"""Optuna's own dashboard over a storage, for reading alone: it could delete studies else."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.wrappers import Request, Response

from tuner.storage import with_driver

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_COOKIE = "tune-token"
_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def raw_study_app(url: str, token: str | None) -> App:
    """A WSGI application that refuses whatever would change something, and whoever has no token where there is one."""
    import optuna
    from optuna_dashboard import wsgi

    inner: App = wsgi(optuna.storages.RDBStorage(with_driver(url), skip_table_creation=True))

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        answer = _refusal(Request(environ), token)
        return inner(environ, start) if answer is None else answer(environ, start)

    return app


def _refusal(request: Request, token: str | None) -> Response | None:
    if request.method not in ("GET", "HEAD"):
        return Response("this dashboard is for reading alone\n", 403)
    if token is None:
        known = request.host.rsplit(":", 1)[0] in _LOCAL
        return None if known else Response("this dashboard answers to 127.0.0.1 alone\n", 403)
    if hmac.compare_digest(request.cookies.get(_COOKIE, "").encode(), token.encode()):
        return None
    if hmac.compare_digest(request.args.get("token", "").encode(), token.encode()):
        answer = Response("", 303, {"Location": request.path})
        answer.set_cookie(_COOKIE, token, httponly=True, samesite="Strict")
        return answer
    return Response("a token is needed: open this address with ?token=... once\n", 401)
