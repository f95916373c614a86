"""Runs the command line in this process on an input, and says what came of it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tuner import cli

HANG_S = 20.0
_STARVED_S = 2.0  # who had less than that of a busy machine's time in those is waited for
_MAX_WAITS = 10
SLOW_S = 2.0  # of this process's own time, so that a busy machine is not blamed on the program
_PLACE = re.compile(r":\d+\)?|--\w|`tune ")
_CODES = (0, 2, 3, 4, 5, 6)  # as documented: 6 is a gate that is inconclusive
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Hang(BaseException):
    """It did not end."""


@dataclass(frozen=True)
class Outcome:
    """`problem` is None where all is as it should be; `said` is standard error."""

    problem: str | None
    seconds: float
    said: str = ""


def judged(call: Callable[[], tuple[int, str, str]], *, needs_place: bool) -> Outcome:
    """What a call, which returns its exit code and what it printed, did wrong; see `python -m benchmarks.fuzz`."""
    begun = time.process_time()
    try:
        with _bounded():
            code, shown, said = call()
    except Hang:
        return Outcome("hang", time.process_time() - begun)
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        return Outcome(f"internal error: {type(error).__name__}: {error}"[:200], time.process_time() - begun)
    spent = time.process_time() - begun
    problem = None
    if "internal error" in said or code not in _CODES:
        problem = f"internal error: exit code {code}"
    elif spent > SLOW_S:
        problem = "slow"
    elif _CONTROL.search(said + shown):
        problem = "control characters"
    elif code == 2 and not 1 <= len(said.strip().splitlines()) <= 3:
        problem = "not one to three lines"
    elif needs_place and code == 2 and not _PLACE.search(said):
        problem = "no place"
    return Outcome(problem, spent, said)


def tune(folder: Path, *arguments: object) -> tuple[int, str, str]:
    """The command line with these arguments, in that folder."""
    shown, said = io.StringIO(), io.StringIO()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    here = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(said):
            cli.main([str(one) for one in arguments])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        os.chdir(here)
        for number, handler in before.items():
            signal.signal(number, handler)
    return int(code), shown.getvalue(), said.getvalue()


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    begun, waits = time.process_time(), 0

    def late(_signal: int, _frame: FrameType | None) -> None:
        nonlocal waits
        waits += 1
        if time.process_time() - begun > _STARVED_S or waits > _MAX_WAITS:
            raise Hang
        signal.setitimer(signal.ITIMER_REAL, HANG_S)

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
