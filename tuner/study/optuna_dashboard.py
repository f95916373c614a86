"""Optuna's own dashboard over a storage, made read-only: by itself it could delete studies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.wrappers import Request, Response

from results.dashboard import Gate
from tuner.study.storage.connection import with_driver

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def raw_study_app(url: str, gate: Gate) -> App:
    """A WSGI application that refuses whatever would change something, and whoever the gate does not let in."""
    import optuna
    from optuna_dashboard import wsgi

    inner: App = wsgi(optuna.storages.RDBStorage(with_driver(url), skip_table_creation=True))

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        answer = _refusal(Request(environ), gate)
        return inner(environ, start) if answer is None else answer(environ, start)

    return app


def _refusal(request: Request, gate: Gate) -> Response | None:
    if request.method not in ("GET", "HEAD"):
        return Response("this dashboard is for reading alone\n", 403)
    return gate.refusal(request)
