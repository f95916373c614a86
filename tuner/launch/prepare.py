"""Between a server's start and its first request: tells it what it can only be told while it runs, and asks it about
itself: what its requests look like, and what it has counted.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from runners import Container, SampleRequest, ServerFailed, Tls
from runners.host.bounded_http import bounded_client
from runners.readiness import encoded, excerpt, trust
from runners.servers import AdapterError, ServerAddress, Statistics
from search_spaces import Configuration
from tuner.launch.adapter import serving
from tuner.launch.render import managed, sample_request
from tuner.launch.requests import RequestSource, adapter_request, request_source
from tuner.spec.reading import LoadedSpec

_MANAGED_S = 300.0  # a server that loads a model anew answers when it has


def prepare(
    loaded: LoadedSpec, configuration: Configuration, source: RequestSource, at: ServerAddress, container: Container
) -> tuple[RequestSource, SampleRequest | None]:
    """Tell the running server its values, and return the complete request. Raises ServerFailed with what it answered
    if it refuses.
    """
    found = serving(loaded)
    try:
        if found is not None and (found.knobs if container.running else found.adapter.configures_at_start):
            found.adapter.configure(at, found.model, found.values(configuration))
        if not source.described and found is not None:
            asked = adapter_request(loaded)
            bodies = (asked.bodies if asked else ()) or found.adapter.bodies(at, found.model)
            path = container.folder / "requests.jsonl"
            path.write_bytes(b"\n".join(bodies) + b"\n")
            source = request_source(loaded, path)
    except AdapterError as error:
        raise ServerFailed(str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # an adapter that expected another answer
        raise ServerFailed(f"the server's answer cannot be read: {error or type(error).__name__}") from error
    for request in managed(loaded, configuration):
        _manage(at.url, request, container.readiness.tls)
    return source, sample_request(loaded, source)


def counters(loaded: LoadedSpec, at: ServerAddress | None) -> Statistics | None:
    """What the server has counted so far; None if servers of its kind cannot be asked."""
    found = serving(loaded)
    if found is None or at is None:
        return None
    try:
        return found.adapter.statistics(at, found.model)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # figures beside the measurement are not worth a trial


def server_figures(before: Statistics | None, after: Statistics | None) -> Mapping[str, float]:
    """The figures for the trial's record, from what the server counted in between; empty if it counted nothing."""
    if before is None or after is None:
        return {}
    inferences = _between(before.inferences, after.inferences)
    executions, queue_s = _between(before.executions, after.executions), _between(before.queue_s, after.queue_s)
    found = {}
    if inferences and executions:
        found["server_batch_size"] = inferences / executions
    if inferences and queue_s is not None:
        found["server_queue_ms"] = 1e3 * queue_s / inferences
    queries, hits = _between(before.cache_queries, after.cache_queries), _between(before.cache_hits, after.cache_hits)
    if queries and hits is not None:
        found["prefix_cache_hit_rate"] = hits / queries
    return found


def _between(before: float | None, after: float | None) -> float | None:
    # A counter that begins anew (a model loaded again) has counted what it says.
    return None if after is None else after - (before or 0.0) if after >= (before or 0.0) else after


def _manage(url: str, request: SampleRequest, tls: Tls | None) -> None:
    try:
        with bounded_client(url, timeout_s=_MANAGED_S, verify=trust(tls)) as client:
            headers = encoded(request.headers)
            answer = client.request(request.method, request.path, headers=headers, content=request.body)
    except httpx.HTTPError as error:
        raise ServerFailed(f"no answer to {request.method} {request.path}: {error or type(error).__name__}") from error
    if not answer.is_success:
        said = excerpt(answer.content)
        raise ServerFailed(f"{request.method} {request.path} was answered with {answer.status_code} ({said})")
