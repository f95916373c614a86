"""Optuna's own dashboard over a storage, for reading alone: it could delete studies else."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from tuner.storage import with_driver

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def raw_study_app(url: str, token: str | None) -> App:
    """A WSGI application that refuses whatever would change something."""
    import optuna
    from optuna_dashboard import wsgi

    inner: App = wsgi(optuna.storages.RDBStorage(with_driver(url), skip_table_creation=True))

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"this dashboard is for reading alone\n"]
        cookie = ""
        if token is not None:
            given = parse_qs(environ.get("QUERY_STRING", "")).get("token", [""])[0]
            cookies = dict(
                part.strip().split("=", 1) for part in environ.get("HTTP_COOKIE", "").split(";") if "=" in part
            )
            if not any(
                hmac.compare_digest(one.encode(), token.encode()) for one in (given, cookies.get("tune-token", ""))
            ):
                start("401 Unauthorized", [("Content-Type", "text/plain")])
                return [b"a token is needed\n"]
            cookie = f"tune-token={token}; HttpOnly; SameSite=Strict; Path=/"

        def begin(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start(status, [*headers, ("Set-Cookie", cookie)] if cookie else headers, *more)

        return inner(environ, begin)

    return app
