"""A user's own locustfile as the source of requests: one arrival is one task of one of its users.

Tasks are drawn by weight, as Locust does; `wait_time` has no meaning in an open loop and is ignored. An arrival takes
an idle user, or a new one when all are busy: its `on_start` then runs first, and counts. The warm-up makes most.
A task fails when it raises, or when one of its requests does.
"""

from __future__ import annotations

import inspect
import random
import traceback
from pathlib import Path
from typing import Any

import gevent
from locust import User
from locust.env import Environment
from locust.exception import InterruptTaskSet, RescheduleTask, StopUser
from locust.user.task import DefaultTaskSet, TaskSet
from locust.util.load_locustfile import load_locustfile

from loadtest.request.reply import GOOD, Reply
from loadtest.request.request_check import PlanError


def load_users(path: str) -> list[type[User]]:
    """The user classes of a locustfile. Raises PlanError that says what is wrong with it, and where."""
    if not Path(path).is_file():
        raise PlanError(f"locustfile: {path} is not a file")
    try:
        classes, _ = load_locustfile(path)
    except SystemExit as error:
        raise PlanError(f"locustfile: {path} ended itself with {error.code!r}") from error
    except Exception as error:  # whatever their code raises
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise PlanError(f"locustfile: {path}:{_line(error, path)}: {type(error).__name__}: {said}") from error
    found = [users for users in classes.values() if users.tasks]
    if not found:
        raise PlanError(f"locustfile: {path} has no User class with tasks")
    return found


def _line(error: Exception, path: str) -> int:
    """The last line of that file which the error came through."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno or 0
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return (lines[-1] if lines else 0) or 0


class LocustTasks:
    """Sends by running tasks of these users against `host`."""

    def __init__(
        self, environment: Environment, users: list[type[User]], host: str, timeout_s: float, seed: int
    ) -> None:
        self._environment, self._users, self._timeout_s = environment, users, timeout_s
        self._idle: dict[type[User], list[_Session]] = {one: [] for one in users}
        self._random = random.Random(seed)  # noqa: S311 (not for secrets)
        for one in users:
            one.host = host
        environment.events.request.add_listener(_note_failure)

    def send(self) -> Reply:
        """Run one task, at most `request_timeout_s`."""
        chosen = self._random.choices(self._users, weights=[one.weight for one in self._users])[0]
        idle = self._idle[chosen]
        here = gevent.getcurrent()
        here.tune_failure = None
        timeout = gevent.Timeout.start_new(self._timeout_s)
        session = None
        try:
            session = idle.pop() if idle else _Session(chosen(self._environment))
            session.run()
        except gevent.Timeout as expired:
            if expired is not timeout:
                raise  # the caller's
            return Reply("timeout")
        except Exception as error:  # noqa: BLE001 (whatever it is, the task failed; the kind says how)
            return Reply(f"{type(error).__name__}: {error}"[:80])
        finally:
            timeout.close()
            if session is not None:
                idle.append(session)
        return Reply(here.tune_failure) if here.tune_failure else GOOD


class _Session:
    """One user with its task sets, started once."""

    def __init__(self, user: User) -> None:
        self._root = DefaultTaskSet(user)
        user._taskset_instance = self._root  # what Locust's own run() does
        self._nested: dict[type[TaskSet], Any] = {}
        user.on_start()

    def run(self) -> None:
        try:
            self._run(self._root)
        except (InterruptTaskSet, RescheduleTask, StopUser):
            return  # the task says that it is over

    def _run(self, tasks: Any) -> None:
        task = tasks.get_next_task()
        if not (inspect.isclass(task) and issubclass(task, TaskSet)):
            tasks.execute_task(task)
            return
        if task not in self._nested:
            self._nested[task] = task(tasks)
            self._nested[task].on_start()
        self._run(self._nested[task])


def _note_failure(*, response: Any = None, exception: BaseException | None = None, **_: Any) -> None:
    """Called by Locust for each request, in the greenlet that made it."""
    if exception is None:
        return
    status = getattr(response, "status_code", 0) or 0
    kind = f"http {status}" if not 200 <= status < 300 and status else f"{type(exception).__name__}: {exception}"[:80]
    gevent.getcurrent().tune_failure = kind
