"""When a launched server is ready: its health path answers 2xx, and then one real request is answered.

Both, because some servers report ready seconds before they serve, and some have no health path at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from runners.protocol import Readiness, ServerFailed

_POLL_S, _SLOWEST_POLL_S = 0.02, 0.25
_HEALTH_TIMEOUT_S = 2.0
_GRACE_S = 10.0  # for a real request that is answered with errors after the health path was fine


def wait_until_ready(url: str, readiness: Readiness, check: Callable[[], None]) -> None:
    """Blocks. `check` raises when the server is gone. Raises ServerFailed with what was seen last."""
    deadline = time.monotonic() + readiness.timeout_s
    # No proxy from the environment stands between us and a server on this machine.
    with httpx.Client(base_url=url, trust_env=False) as client:
        if readiness.path is not None:
            seen = _poll(lambda left: _health(client, readiness, left), deadline, deadline, check)
            if seen is not None:
                raise ServerFailed(f"not ready within {readiness.timeout_s:g} s: {readiness.path} {seen}")
        patience = min(deadline, time.monotonic() + _GRACE_S) if readiness.path is not None else deadline
        seen = _poll(lambda left: _real(client, readiness, left), deadline, patience, check)
        if seen is not None:
            request = readiness.request
            raise ServerFailed(f"did not answer the real request {request.method} {request.path}: {seen}")


def _poll(
    ask: Callable[[float], tuple[str | None, bool]], deadline: float, patience: float, check: Callable[[], None]
) -> str | None:
    """Ask until the answer is good (None), or return what was last seen.

    Errors that the server itself answers are waited out until `patience`, silence until `deadline`.
    """
    pause = _POLL_S
    while True:
        check()
        seen, answered = ask(max(0.1, deadline - time.monotonic()))
        if seen is None:
            check()
            return None
        if time.monotonic() >= (patience if answered else deadline):
            return seen
        time.sleep(pause)
        pause = min(_SLOWEST_POLL_S, pause * 1.2)


def _health(client: httpx.Client, readiness: Readiness, left: float) -> tuple[str | None, bool]:
    assert readiness.path is not None  # noqa: S101 (asked for only where there is one)
    # An unhealthy server answers errors for as long as it loads: that is not yet a failure.
    return _ask(client, httpx.Request("GET", client.base_url.join(readiness.path)), min(left, _HEALTH_TIMEOUT_S))[
        0
    ], False


def _real(client: httpx.Client, readiness: Readiness, left: float) -> tuple[str | None, bool]:
    request = readiness.request
    # The first request may compile or load something, so it may take all the time that is left.
    return _ask(
        client, httpx.Request(request.method, client.base_url.join(request.path), headers=dict(request.headers),
                              content=request.body), left,
    )  # fmt: skip


def _ask(client: httpx.Client, request: httpx.Request, timeout_s: float) -> tuple[str | None, bool]:
    """What is wrong with the answer (None: nothing), and whether there was one."""
    request.extensions = {"timeout": httpx.Timeout(timeout_s).as_dict()}
    try:
        response = client.send(request, follow_redirects=True)
    except httpx.TimeoutException:
        return f"no answer within {timeout_s:.3g} s", False
    except httpx.ConnectError:
        return "connection refused", False
    except httpx.HTTPError as error:
        return f"no proper answer ({type(error).__name__})", False
    if response.is_success:
        return None, True
    excerpt = " ".join(response.text[:160].split())
    return f"answered {response.status_code}" + (f" ({excerpt})" if excerpt else ""), True
