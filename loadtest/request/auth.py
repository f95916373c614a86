"""Secrets of a request: read from the environment by the process that sends it, and in no document or message."""

from __future__ import annotations

import base64
import os

from loadtest.request.http_syntax import HEADER_VALUE
from loadtest.request.request_check import PlanError
from loadtest.request_plan import Auth


def secret_headers(auth: Auth | None) -> dict[str, str]:
    """The headers that authenticate. Raises PlanError that names the variable, never what it holds."""
    if auth is None:
        return {}
    if auth.bearer is not None:
        return {"Authorization": f"Bearer {_secret(auth.bearer)}"}
    if auth.user is not None and auth.password is not None:
        pair = f"{_secret(auth.user)}:{_secret(auth.password)}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    if auth.header is not None and auth.env is not None:
        return {auth.header: _secret(auth.env)}
    raise PlanError("request.auth: needs bearer, or user and password, or header and env")


def _secret(name: str) -> str:
    found = os.environ.get(name)
    if not found:
        raise PlanError(f"request.auth: the environment variable {name} is not set")
    if not HEADER_VALUE.fullmatch(found):
        raise PlanError(f"request.auth: the environment variable {name} holds what no header can")
    return found
