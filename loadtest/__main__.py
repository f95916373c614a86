"""`python -P -m loadtest`: one plan in as JSON on standard input, progress and one answer out as JSON lines.

It measures the endpoint that the plan names and ends. Exit codes: 0, the last line is an answer with a measurement; 2,
it is an answer with an error, because the plan is wrong. See `--schema` for the plan and the answer.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import sys
import tempfile
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import IO

from pydantic import BaseModel, ValidationError

from loadtest.bundle import unpack
from loadtest.plan import Answer, JointPlan, LoadPlan, Progress, read_plan
from loadtest.request.request_check import LocustfileError, PlanError, check_limits, check_request

_WATCH_S = 0.5
_PR_SET_PDEATHSIG = 1  # prctl(2)
Writer = Callable[[Progress | Answer], None]


def main() -> int:
    """Returns the exit code: 0, or 2 for a plan that is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON Schemas of plans and of an answer")
    parser.add_argument("--worker", metavar="HOST:PORT", help="share the load of the generator that listens there")
    parser.add_argument("--core", type=int, help="with --worker: the CPU core to stay on")
    parser.add_argument("--parent", metavar="PID", type=int, help="end when that is not the process that started this")
    parser.add_argument("--bundle", metavar="DIR", type=Path, help="read the plan and its files from there instead")
    parser.add_argument("--check-locustfile", metavar="FILE", help="only load that file, and say what is wrong with it")
    asked = parser.parse_args()
    # Its starter may have died before this process could ask who it was.
    parent = os.getppid() if asked.parent is None else asked.parent
    _end_with(parent)
    if asked.schema:
        models: dict[str, type[BaseModel]] = {"plan": LoadPlan, "joint_plan": JointPlan, "answer": Answer}
        print(json.dumps({name: model.model_json_schema() for name, model in models.items()}, indent=2))  # noqa: T201
        return 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(130))  # a busy load has nothing to tidy up
    if asked.check_locustfile is not None:
        return _check_locustfile(parent, asked.check_locustfile)
    if asked.worker:
        return _work(parent, asked.worker, asked.core)
    with _answers() as answers:

        def write(message: Progress | Answer) -> None:
            answers.write(message.model_dump_json() + "\n")
            answers.flush()

        if asked.bundle is None:
            return _serve(parent, write, _stdin)
        with tempfile.TemporaryDirectory() as folder:
            return _serve(parent, write, lambda: unpack(asked.bundle, Path(folder)))


def _serve(parent: int, write: Writer, read: Callable[[], str]) -> int:
    # Before the plan is read: a caller that starts us early gains the second that this takes.
    from loadtest.generator import fleet, users

    _watch(parent)
    try:
        plan = _read_plan(read())
        for one in plan.plans:
            check_request(one)
        for one in (plan,) if isinstance(plan, LoadPlan) else plan.judged:  # a chain's stages have the entry's SLO
            check_limits(one)
        _stay_on(plan.cores)
        write(Answer(measurement=users.run(plan, write)))
    except (PlanError, fleet.GeneratorLost) as error:
        write(Answer(error=str(error), wrong="locustfile" if isinstance(error, LocustfileError) else None))
        return 2
    return 0


def _check_locustfile(parent: int, path: str) -> int:
    from loadtest.generator.users import load_users, parsed_options

    _watch(parent)
    try:
        load_users(path)
        parsed_options(path, "http://127.0.0.1")
    except LocustfileError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _work(parent: int, address: str, core: int | None) -> int:
    from loadtest.generator import fleet, users

    _watch(parent)
    try:
        users.work(address, core)
    except fleet.GeneratorLost as error:
        print(f"python -m loadtest: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


@contextlib.contextmanager
def _answers() -> Iterator[IO[str]]:
    """Standard output for answers alone: whatever else prints, in this process, prints to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        yield answers


def _stdin() -> str:
    """JSON is UTF-8, whatever this machine's locale is."""
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise PlanError("the plan is not UTF-8") from error


def _read_plan(text: str) -> LoadPlan | JointPlan:
    try:
        return read_plan(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the plan"
        raise PlanError(f"{where}: {first['msg']}") from error


def _stay_on(cores: tuple[int, ...]) -> None:
    if not cores:
        return
    try:
        os.sched_setaffinity(0, cores)
    except (OSError, ValueError, OverflowError) as error:
        listed = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise PlanError(f"cores: {list(cores)} cannot be used; there are {listed}") from error


def _end_with(parent: int) -> None:
    """A generator whose caller was killed must not go on loading a server, whatever it waits for.

    The kernel is asked to end it with the thread that started it. Where it cannot, `_watch` sees to it.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died meanwhile
        os._exit(1)


def _watch(parent: int) -> None:
    """Looks from a real thread, which a greenlet that never waits cannot keep from running: the names were taken before
    gevent replaced what they stand for. It begins after that, since gevent's import would wait for it for ever.
    """

    def look() -> None:
        while os.getppid() == parent:
            sleep(_WATCH_S)
        os._exit(1)

    start_new_thread(look, ())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        sys.exit(130)
