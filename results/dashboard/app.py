"""The dashboard as a WSGI application: who may see it, and the page before any script has run."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import flask
from dash import Dash
from dash.exceptions import DashException
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from results.dashboard.access import Gate
from results.dashboard.live import connect
from results.dashboard.page import page
from results.dashboard.source import Source
from results.files import ResultsError
from results.report.report import question, sentence
from results.text import visible

_MAX_REQUEST_BYTES = 1 << 20
_MALFORMED = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, DashException
)  # fmt: skip
_ASSETS = Path(__file__).parent / "assets"


class _Page(Dash):
    """Dash's page, with the recommendation in it: it can be read while the scripts load."""

    source: Source

    def interpolate_index(self, **kwargs: Any) -> str:
        """The page's HTML."""
        words = "".join(f"<p>{html.escape(text)}</p>" for text in _first_words(self.source))
        entry = f'<div id="react-entry-point"><div class="first">{words}</div></div>'
        return str(super().interpolate_index(**{**kwargs, "app_entry": entry}))


def _first_words(source: Source) -> list[str]:
    try:
        study = source.summary(source.names()[0])
    except (ResultsError, IndexError):
        return ["tune"]
    return [visible(text) for text in (study.service, sentence(study), question(study)) if text]


def make_app(source: Source, token: str | None, gate: Gate | None = None) -> flask.Flask:
    """`token` is asked of everybody where there is one; `gate` is shared with whatever else the same token opens."""
    app = _Page(
        __name__, title="tune", update_title="", assets_folder=str(_ASSETS), suppress_callback_exceptions=True,
        serve_locally=True, meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )  # fmt: skip
    app.source = source
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')
    app.layout = lambda: page(source.names())
    connect(app, source)
    server: flask.Flask = app.server
    server.config["MAX_CONTENT_LENGTH"] = _MAX_REQUEST_BYTES
    policy, admission = _policy(app), gate or Gate(token)

    @server.before_request
    def admit() -> Response | None:
        return admission.refusal(flask.request)

    @server.errorhandler(Exception)
    def said(error: Exception) -> Response:
        """A request that no page of ours makes is the sender's mistake, and worth no trace in the log."""
        if isinstance(error, HTTPException):
            return error.get_response()
        if isinstance(error, _MALFORMED) and flask.request.path.endswith("/_dash-update-component"):
            return Response("not a request of this page\n", 400)
        server.logger.error("%s at %s", type(error).__name__, visible(flask.request.path))
        return Response("this cannot be shown\n", 500)

    @server.after_request
    def protect(response: flask.Response) -> flask.Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return server


def _policy(app: Dash) -> str:
    """Scripts of ours alone, and nothing from anywhere else."""
    scripts = " ".join(f"'{one}'" if not one.startswith("'") else one for one in app.csp_hashes())
    return (
        f"default-src 'self'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
    )
