"""`python -m loadtest`: one plan in as JSON on standard input, progress and one answer out as JSON lines."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path

from pydantic import ValidationError

from loadtest.plan import Answer, LoadPlan, Progress


class PlanError(Exception):
    """The plan cannot be carried out, and not because of the server."""


def main() -> int:
    """Returns the exit code: 0, or 2 for a plan that is wrong."""
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a plan and of an answer")
    if parser.parse_args().schema:
        print(json.dumps({"plan": LoadPlan.model_json_schema(), "answer": Answer.model_json_schema()}, indent=2))  # noqa: T201
        return 0
    # Before the plan is read: a caller that starts us early gains the second that this takes.
    from loadtest import users

    try:
        plan = _read_plan(sys.stdin.read())
        bodies = _read_bodies(plan)
    except PlanError as error:
        _write(Answer(error=str(error)))
        return 2
    if plan.cores:
        os.sched_setaffinity(0, plan.cores)
    _end_with_parent()
    _write(Answer(measurement=users.run(plan, bodies, _write)))
    return 0


def _read_plan(text: str) -> LoadPlan:
    try:
        return LoadPlan.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the plan"
        raise PlanError(f"{where}: {first['msg']}") from error


def _read_bodies(plan: LoadPlan) -> list[bytes]:
    """The bodies that requests draw from: a data set's lines, the one body, or none."""
    if plan.request.dataset is None:
        return [] if plan.request.body is None else [plan.request.body.encode()]
    try:
        lines = Path(plan.request.dataset).read_bytes().splitlines()
    except OSError as error:
        raise PlanError(f"cannot read the data set {plan.request.dataset}: {error.strerror}") from error
    bodies = [line.strip() for line in lines if line.strip()]
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                json.loads(line)
        except ValueError as error:
            raise PlanError(f"{plan.request.dataset}:{number} is not JSON") from error
    if not bodies:
        raise PlanError(f"the data set {plan.request.dataset} is empty")
    return bodies


def _end_with_parent() -> None:
    """A generator whose caller was killed must not go on loading a server."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write(message: Progress | Answer) -> None:
    sys.stdout.write(message.model_dump_json() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
