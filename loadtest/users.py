"""The Locust side: one open-loop user whose requests the prober schedules. The only module that imports Locust.

Importing it patches the whole process (gevent), so only the generator's process does, before anything else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import gevent
import locust.stats
from gevent.event import AsyncResult
from locust import FastHttpUser, task
from locust.env import Environment

from loadtest.plan import LoadPlan, Measurement, Progress, RequestPlan
from loadtest.search import measure

_MOST_CONNECTIONS = 20_000  # Locust's default of 10 would turn an open loop into a closed one


def run(plan: LoadPlan, bodies: Sequence[bytes], report: Callable[[Progress], None]) -> Measurement:
    """Blocks until the search ends. What goes wrong inside the user is raised here."""
    done: AsyncResult[Measurement] = AsyncResult()
    # Locust's own statistics round percentiles; ours come from the histogram, and no console is there to print on.
    locust.stats.CONSOLE_STATS_INTERVAL_SEC = 3600

    class OpenLoopUser(FastHttpUser):
        host = plan.url
        concurrency = _MOST_CONNECTIONS
        network_timeout = plan.request_timeout_s
        connection_timeout = min(5.0, plan.request_timeout_s)
        insecure = False

        @task
        def search(self) -> None:
            try:
                done.set(measure(plan, _sender(self.client, plan.request, bodies, plan.seed), report))
            except Exception as error:  # noqa: BLE001 (carried to the caller, who raises it)
                done.set_exception(error)
            gevent.sleep(3600)

    environment = Environment(user_classes=[OpenLoopUser])
    runner = environment.create_local_runner()
    runner.start(1, spawn_rate=1)
    try:
        found: Measurement = done.get()
        return found
    finally:
        runner.stop()


def _sender(client: Any, request: RequestPlan, bodies: Sequence[bytes], seed: int) -> Callable[[], str | None]:
    """A function that sends one request and returns what went wrong, or None."""
    choose = random.Random(seed).choice  # noqa: S311 (not for secrets)
    method, path, headers = request.method, request.path, dict(request.headers)

    def send() -> str | None:
        body = choose(bodies) if bodies else None
        with client.request(method, path, data=body, headers=headers, catch_response=True) as response:
            status: int = response.status_code
            failure: BaseException | None = response.request_meta["exception"]
            if 200 <= status < 400:
                # An answer may begin well and break off in its body.
                return None if failure is None else _kind(failure)
            return f"http {status}" if status else _kind(response.error)

    return send


def _kind(error: BaseException | None) -> str:
    """A failure without an answer, in the words that a user knows."""
    original = getattr(error, "original", None)  # what geventhttpclient gave up on, where it wraps it
    if isinstance(original, BaseException):
        error = original
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError | gevent.Timeout):
        return "timeout"
    if isinstance(error, ConnectionError):
        return "connection reset"
    return type(error).__name__ if error is not None else "no answer"
