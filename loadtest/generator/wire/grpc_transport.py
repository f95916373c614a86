"""Sends one V2 inference request over gRPC, and says in a user's words what went wrong.

Requests are serialized once, and nobody looks into an answer: its status says whether it was good.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

import grpc
from grpc.experimental import gevent as grpc_gevent

from loadtest.plan import LoadPlan
from loadtest.request.auth import secret_headers
from loadtest.request.bodies import ALL, Body, Share, in_turn
from loadtest.request.http_syntax import as_metadata
from loadtest.request.reply import GOOD, Reply
from loadtest.request.request_check import PlanError
from loadtest.request.v2 import METHOD, infer_request

_LARGEST = 256 << 20  # bytes of a message; the library's own limit is 4 MiB


class GrpcTransport:
    """Sends the plan's request, with the next of its bodies. Raises PlanError for what cannot be sent."""

    def __init__(self, plan: LoadPlan, bodies: Sequence[Body], share: Share = ALL) -> None:
        grpc_gevent.init_gevent()
        request, self._timeout_s = plan.request, plan.request_timeout_s
        messages = [infer_request(request.path, body.content) for body in bodies]
        self._next = in_turn(messages, request, share.seed(plan.seed), share)
        given = {name: value for name, value in request.headers.items() if name.lower() != "content-type"}
        try:
            self._metadata = as_metadata(given | secret_headers(request.auth))
        except ValueError as error:
            raise PlanError(f"request: {error}") from error
        options = [
            ("grpc.max_send_message_length", _LARGEST),
            ("grpc.max_receive_message_length", _LARGEST),
            ("grpc.enable_http_proxy", 0),  # what is measured is the server
        ]
        self._channel = grpc.insecure_channel(urlsplit(plan.url).netloc, options=options)
        self._call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(METHOD)

    def send(self) -> Reply:
        """Block this greenlet until the answer is there, at most `request_timeout_s`; what came of it."""
        try:
            # A call that blocks would hold one of gevent's few threads until it is answered; a future does not.
            call = self._call.future(self._next(), timeout=self._timeout_s, metadata=self._metadata)
        except (ValueError, TypeError) as error:  # a header that gRPC has no form for
            return Reply(f"not sent: {error}"[:80])
        try:
            call.result()
        except grpc.RpcError as error:
            return Reply(_kind(error.code(), error.details() or ""))
        finally:
            call.cancel()  # where somebody gave up waiting; it does nothing to a call that is over
        return GOOD

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def _kind(code: grpc.StatusCode, details: str) -> str:
    """How a call failed. That a server is unavailable says the library of one that it cannot reach, and a server of
    itself, as one does whose queue is full: then its words are quoted.
    """
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "timeout"
    if code is not grpc.StatusCode.UNAVAILABLE:
        return f"grpc {code.name.lower().replace('_', ' ')}"
    return "connection refused" if "connect" in details.lower() else f"grpc unavailable: {details}"[:80]
