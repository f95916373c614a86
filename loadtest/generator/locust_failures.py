"""Which task a failed request belongs to: Locust reports requests by events, in whichever greenlet sent them.

A task may send from greenlets that it spawns, from a pool, from threads and from callbacks. A failure is that of the
task whose greenlet spawned the sender, however far up; one without such a task (a native thread, a task that is over)
fails the next task that ends, so that none is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.hub import get_hub
from locust.env import Environment

_MAX_UNOWNED = 1000  # a server that fails everything needs no longer memory
_MAX_DEPTH = 50


class RunningTask:
    """What its requests did so far: how many there were, and how the first failed one failed."""

    def __init__(self) -> None:
        self.requests = 0
        self.failure: str | None = None
        self.over = False

    def fail(self, kind: str) -> None:
        """The first failure is the one that is told."""
        self.failure = self.failure or kind


class LocustFailures:
    """Listens to Locust's request events, and to greenlets of the user's that die of an error."""

    def __init__(self, environment: Environment) -> None:
        self._unowned: deque[str] = deque(maxlen=_MAX_UNOWNED)
        environment.events.request.add_listener(self._on_request)  # type: ignore[no-untyped-call]
        hub = get_hub()
        self._report = hub.handle_error
        self._not_errors = hub.NOT_ERROR
        hub.handle_error = self._on_error

    @contextmanager
    def of_this_greenlet(self) -> Iterator[RunningTask]:
        """The task that this greenlet now runs."""
        here, task = gevent.getcurrent(), RunningTask()
        before = getattr(here, "tune_task", None)
        here.tune_task = task
        try:
            yield task
        finally:
            here.tune_task, task.over = before, True
        if task.failure is None and self._unowned:
            task.fail(self._unowned.popleft())

    def _on_request(self, *, response: Any = None, exception: BaseException | None = None, **_: Any) -> None:
        """Called by Locust for each request, in the greenlet that made it."""
        task = _owner(gevent.getcurrent())
        if task is not None:
            task.requests += 1
        if exception is None:
            return
        status = getattr(response, "status_code", 0) or 0
        bad = not 200 <= status < 300 and status
        self._fail(task, f"http {status}" if bad else f"{type(exception).__name__}: {exception}"[:80])

    def _on_error(self, context: Any, kind: Any, value: Any, trace: Any) -> None:
        """Called by gevent for an error that nothing caught, in a greenlet or in a callback."""
        if isinstance(context, gevent.Greenlet) and kind is not None and not issubclass(kind, self._not_errors):
            self._fail(_owner(context), f"{kind.__name__}: {value}"[:80])
        self._report(context, kind, value, trace)

    def _fail(self, task: RunningTask | None, kind: str) -> None:
        if task is None:
            self._unowned.append(kind)
        else:
            task.fail(kind)


def _owner(greenlet: Any) -> RunningTask | None:
    """The task that runs in a greenlet, or in the one that spawned it, and so on."""
    for _ in range(_MAX_DEPTH):
        if greenlet is None:
            return None
        task: RunningTask | None = getattr(greenlet, "tune_task", None)
        if task is not None:
            return None if task.over else task
        spawner = getattr(greenlet, "spawning_greenlet", None)
        greenlet = spawner() if spawner is not None else None
    return None
