"""A web page over finished and running studies. Read-only: nothing in it starts or changes a run.

Dash draws it, with its own components and its own copy of Plotly: no request leaves the machine. Studies come through
`Source`; `make_app` gives a WSGI application.
"""

from results.dashboard.access import Gate
from results.dashboard.app import make_app
from results.dashboard.source import Source

__all__ = ["Gate", "Source", "make_app"]
