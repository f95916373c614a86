"""A user's own locustfile as the source of requests: one arrival is one task of one of its users.

Tasks are drawn by weight, as Locust does; `wait_time` has no meaning in an open loop and is ignored. An arrival takes
an idle user, or a new one when all are busy: its `on_start` then runs first, and counts. The warm-up makes most.
A task fails when it raises, or when one of its requests does, whichever greenlet sends it. What the file itself gets
wrong is no failure of the server: it ends the measurement.
"""

from __future__ import annotations

import inspect
import os
import random
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import gevent
import locust
from locust import User
from locust.argument_parser import get_parser
from locust.env import Environment
from locust.exception import InterruptTaskSet, RescheduleTask, StopUser
from locust.runners import LocalRunner
from locust.user.task import DefaultTaskSet, TaskSet
from locust.util.load_locustfile import load_locustfile

from loadtest.generator.locust_failures import LocustFailures, RunningTask
from loadtest.request.reply import GOOD, Reply
from loadtest.request.request_check import LocustfileError

# Never the server's doing, whenever they are raised.
_ALWAYS_THE_FILES = (NameError, ImportError, SyntaxError)
# The file's own where no request has been sent yet, so that no answer can be to blame.
_BEFORE_ANY_ANSWER = (AttributeError, TypeError, LookupError, ArithmeticError, FileNotFoundError, NotImplementedError)


def load_users(path: str) -> list[type[User]]:
    """The user classes of a locustfile. Raises LocustfileError that says what is wrong with it, and where.

    The process then works in the file's folder, where the file looks for its data and its modules.
    """
    if not Path(path).is_file():
        raise LocustfileError(f"locustfile: {path} is not a file")
    folder = str(Path(path).resolve().parent)
    os.chdir(folder)
    try:
        classes, _ = load_locustfile(path)
    except SystemExit as error:
        raise LocustfileError(f"locustfile: {path} ended itself with {error.code!r}") from error
    except Exception as error:  # whatever their code raises
        raise _fault(error, path) from error
    # Locust leaves the folder first on the path, where a module of the user's would hide one of the standard library's.
    sys.path[:] = [*(one for one in sys.path if one != folder), folder]
    found = [users for users in classes.values() if users.tasks]
    if not found:
        raise LocustfileError(f"locustfile: {path} has no User class with tasks")
    return found


def parsed_options(path: str, host: str) -> Namespace:
    """Locust's options and those that the file adds, with their defaults, environment variables and configuration
    files. Raises LocustfileError where an option that the file adds has to be given.
    """
    said = _ErrorMessage()
    try:
        parser = get_parser()
        parser.error = said  # type: ignore[method-assign] # it would print, and end the process
        found: Namespace = parser.parse_args([])
    except (SystemExit, Exception) as error:  # what their listeners raise, too
        raise LocustfileError(f"locustfile: {path}: its options cannot be read: {said.message or error}") from error
    found.locustfile, found.host, found.headless = path, host, True
    return found


class _ErrorMessage:
    """Stands for argparse's `error`: keeps the message."""

    message = ""

    def __call__(self, message: str) -> None:
        self.message = message
        raise SystemExit(2)


def locust_environment(path: str, users: list[type[User]], host: str) -> Environment:
    """Locust's environment as its command line makes it, before there is a runner."""
    return Environment(
        events=locust.events, locustfile=Path(path).name, host=host, user_classes=list(users),
        parsed_options=parsed_options(path, host),
    )  # fmt: skip


def runner_of(environment: Environment) -> LocalRunner:
    """A runner, of which the file's `events.init` listeners then hear."""
    runner = environment.create_local_runner()
    environment.events.init.fire(environment=environment, runner=runner, web_ui=None)
    return runner


def _fault(error: BaseException, path: str) -> LocustfileError:
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return LocustfileError(f"locustfile: {path}:{_line(error, path)}: {type(error).__name__}: {said}")


def _line(error: BaseException, path: str) -> int:
    """The last line of that file which the error came through."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno or 0
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return (lines[-1] if lines else 0) or 0


class LocustTasks:
    """Sends by running tasks of these users against `host`. `on_fault` hears of an error that is the file's own."""

    def __init__(
        self, environment: Environment, users: list[type[User]], path: str, host: str, timeout_s: float, seed: int,
        on_fault: Callable[[LocustfileError], None],
    ) -> None:  # fmt: skip
        self._environment, self._users, self._timeout_s = environment, users, timeout_s
        self._path, self._on_fault = path, on_fault
        self._idle: dict[type[User], list[_Session]] = {one: [] for one in users}
        self._random = random.Random(seed)  # noqa: S311 (not for secrets)
        self._failures = LocustFailures(environment)
        for one in users:
            one.host = host

    def send(self) -> Reply:
        """Run one task, at most `request_timeout_s`."""
        with self._failures.of_this_greenlet() as task:
            reply = self._run(task)
            gevent.sleep(0)  # a task that waits for nothing would keep all others, and the clock, from running
        failure = reply.failure or task.failure
        return Reply(failure) if failure else GOOD

    def _run(self, task: RunningTask) -> Reply:
        chosen = self._random.choices(self._users, weights=[one.weight for one in self._users])[0]
        idle = self._idle[chosen]
        timeout = gevent.Timeout.start_new(self._timeout_s)
        session = None
        try:
            session = idle.pop() if idle else _Session(chosen(self._environment))
            session.run()
        except gevent.Timeout as expired:
            if expired is not timeout:
                raise  # the caller's
            return Reply("timeout")
        except SystemExit as error:
            self._on_fault(LocustfileError(f"locustfile: {self._path}: a task ended the process with {error.code!r}"))
            return Reply("the locustfile ended the process")
        except Exception as error:  # noqa: BLE001 (whatever it is, the task failed; the kind says how)
            if _is_the_files_own(error, task):
                self._on_fault(_fault(error, self._path))
            return Reply(f"{type(error).__name__}: {error}"[:80])
        finally:
            timeout.close()
            if session is not None:
                idle.append(session)
        return GOOD


def _is_the_files_own(error: Exception, task: RunningTask) -> bool:
    """Whether no answer of any server can have caused the error."""
    if isinstance(error, AttributeError) and isinstance(error.obj, User | TaskSet | Environment | ModuleType):
        return True
    return isinstance(error, _ALWAYS_THE_FILES) or (task.requests == 0 and isinstance(error, _BEFORE_ANY_ANSWER))


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
