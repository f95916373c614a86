"""The dashboard as a WSGI application: who may see it, and the page before any script has run."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import flask
from dash import Dash
from werkzeug.wrappers import Response

from results.dashboard.access import refusal
from results.dashboard.live import connect
from results.dashboard.page import page
from results.dashboard.source import Source
from results.files import ResultsError
from results.report.report import question, sentence
from results.text import visible

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


def make_app(source: Source, token: str | None) -> flask.Flask:
    """`token` is asked of everybody where there is one; see `access`."""
    app = _Page(
        __name__, title="tune", update_title="", assets_folder=str(_ASSETS), suppress_callback_exceptions=True,
        serve_locally=True, meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )  # fmt: skip
    app.source = source
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')
    app.layout = lambda: page(source.names())
    connect(app, source)
    server: flask.Flask = app.server
    policy = _policy(app)

    @server.before_request
    def admit() -> Response | None:
        return refusal(flask.request, token)

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
