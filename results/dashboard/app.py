"""The dashboard as a WSGI application: who may see it, and the page before any script has run."""

from __future__ import annotations

import html
import threading
from concurrent.futures import Future
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
from results.summary import StudySummary
from results.text import visible

_MAX_REQUEST_BYTES = 1 << 20
_PATIENCE_S = 0.7  # for the recommendation, before the page comes without it
_MALFORMED = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, DashException
)  # fmt: skip
_ASSETS = Path(__file__).parent / "assets"


class _Page(Dash):
    """Dash's page, with the recommendation in it: it can be read while the scripts load."""

    first: FirstLook

    def interpolate_index(self, **kwargs: Any) -> str:
        """The page's HTML."""
        known, words = self.first.words()
        shown = "".join(f"<p>{html.escape(text)}</p>" for text in words)
        first = f'<div class="first{" known" if known else ""}">{shown}</div>'
        return str(super().interpolate_index(**{**kwargs, "app_entry": f'<div id="react-entry-point">{first}</div>'}))


class FirstLook:
    """The recommendation of the study that is shown first, as text that can be read before any script has run. Safe to
    use from several threads.

    A study that takes long to sum up does not hold up the page, whose scripts load meanwhile.
    """

    def __init__(self, source: Source, patience_s: float = _PATIENCE_S) -> None:
        self._source, self._patience_s = source, patience_s
        self._lock = threading.Lock()
        self._under_way: Future[StudySummary] | None = None

    def words(self) -> tuple[bool, list[str]]:
        """Whether the recommendation is known by now, and the texts."""
        names = self._source.names()
        if not names:
            return False, ["tune"]
        try:
            study = self._summed_up(names[0]).result(self._patience_s)
        except ResultsError:
            return False, ["tune"]
        except TimeoutError:
            return False, [visible(names[0]), "Reading the study; what it found comes in a moment."]
        return True, [visible(text) for text in (study.service, sentence(study), question(study)) if text]

    def _summed_up(self, name: str) -> Future[StudySummary]:
        """Sum the study up, once at a time, however many requests ask."""
        with self._lock:
            if self._under_way is None or self._under_way.done():
                self._under_way = Future()
                threading.Thread(target=self._sum_up, args=(name, self._under_way), daemon=True).start()
            return self._under_way

    def _sum_up(self, name: str, summed_up: Future[StudySummary]) -> None:
        try:
            summed_up.set_result(self._source.summary(name))
        except Exception as error:  # noqa: BLE001 (raised where it is awaited)
            summed_up.set_exception(error)


def make_app(source: Source, token: str | None, gate: Gate | None = None) -> flask.Flask:
    """`token` is asked of everybody where there is one; `gate` is shared with whatever else the same token opens."""
    app = _Page(
        __name__, title="tune", update_title="", assets_folder=str(_ASSETS), suppress_callback_exceptions=True,
        serve_locally=True, meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )  # fmt: skip
    app.first = FirstLook(source)
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
        """Answer a request that our pages never make. It is the sender's mistake, and worth no trace in the log."""
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
