"""Is the plan's request one that can be sent? Finds the user's mistakes before any of them looks like the server's."""

from __future__ import annotations

from urllib.parse import urlsplit

from loadtest.plan import LoadPlan
from loadtest.request.http_syntax import HEADER_VALUE, TARGET, TOKEN, as_metadata
from loadtest.request_plan import RequestPlan


class PlanError(Exception):
    """The plan cannot be carried out, and not because of the server."""


class LocustfileError(PlanError):
    """The user's locustfile is wrong; the message begins with `locustfile: ` and names its line where it has one."""


def _check_others(request: RequestPlan) -> None:
    for one in request.others:
        if not TARGET.fullmatch(one.path):
            raise PlanError(f"request.others: {one.path!r} has to start with / and hold visible ASCII only")
    if sum(one.share for one in request.others) >= 1:
        raise PlanError("request.others: their shares leave nothing for the request itself")
    if request.stream is not None and any(one.check is not None for one in request.others):
        raise PlanError("request.others: beside stream they are streams too, which are checked as such; remove check")
    if request.others and (request.protocol != "http" or request.llm is not None or request.multipart):
        raise PlanError("request.others: go with plain requests over http; remove others, or llm and multipart")


def check_limits(plan: LoadPlan) -> None:
    """Raises PlanError for a time-out that is over before a limit is, and for limits on the times of tokens where
    answers are not read as streams: whole answers would be held to them.
    """
    if plan.request_timeout_s * 1e3 < plan.slo.slowest_ms:
        raise PlanError(
            f"request_timeout_s: {plan.request_timeout_s:g} s is shorter than the slowest limit of slo, "
            f"{plan.slo.slowest_ms / 1e3:g} s, so requests in between would be errors; remove it, or lengthen it"
        )
    limit = next((one for one in plan.slo.latency if one.of_tokens), None)
    if limit is None:
        return
    if plan.locustfile is not None:
        raise PlanError(
            f"slo.latency: {limit.metric} is a time of tokens, and a locustfile's answers are not read as streams; "
            "limit the latency, or describe the requests in request, with stream: openai"
        )
    if plan.request.stream is None:
        raise PlanError(f"slo.latency: {limit.metric} is a time of tokens; it needs request.stream: openai")


def check_request(plan: LoadPlan) -> None:
    """Raises PlanError with one sentence that names the field."""
    request = plan.request
    try:
        parts = urlsplit(plan.url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.username
    except ValueError:
        valid = False
    if not valid:
        raise PlanError(f"url: {plan.url!r} is not of the form http://host:port")
    if not TOKEN.fullmatch(request.method):
        raise PlanError(f"request.method: {request.method!r} is not an HTTP method")
    if not TARGET.fullmatch(request.path):
        raise PlanError(f"request.path: {request.path!r} has to start with / and hold visible ASCII only")
    _check_others(request)
    for name, value in request.headers.items():
        if not TOKEN.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            # The value may be a secret: it is not repeated.
            raise PlanError(
                f"request.headers: {name!r} is not a header's name, or its value holds a line break or a character "
                "that is not in Latin-1"
            )
    if request.protocol != "http":
        try:
            as_metadata(request.headers)
        except ValueError as error:
            raise PlanError(f"request.headers: {error}") from error
    sources = {"body": request.body, "dataset": request.dataset, "file": request.file, "multipart": request.multipart}
    if len(given := [name for name, value in sources.items() if value is not None]) > 1:
        raise PlanError(f"request: {' and '.join(given)} are both set; set one of them")
    if request.protocol != "http" and (request.stream is not None or request.check is not None):
        raise PlanError("request: an answer over gRPC is judged by its status; remove stream and check")
    if request.stream is not None and request.check is not None:
        raise PlanError("request: stream and check are both set; a stream is checked as such")
