"""What strikes the tuner itself: signals."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

from benchmarks.faults.study import COMPLETE, Run

_APART_S = 1.0
_INTERRUPTED = 130


def at_random(run: Run) -> subprocess.Popen[bytes]:
    """Begin the study, and return at a random moment of it."""
    process = run.begin()
    moment_s = random.uniform(0, run.whole_s)
    time.sleep(moment_s)
    last = run.events()[-1]
    run.struck = f"{moment_s:.2f} s after it began, at {last['event']} {last.get('name', '')}".rstrip()
    return process


def kill(phase: str) -> Callable[[Run], None]:
    """SIGKILL, when the second trial is in that phase."""

    def strike(run: Run) -> None:
        process = run.start(phase)
        process.send_signal(signal.SIGKILL)
        run.end(process)

    return strike


def signalled(*numbers: signal.Signals) -> Callable[[Run], None]:
    """These signals, one after the other, at a random moment: to the tuner alone, or to all of its session's processes,
    as a terminal sends them.
    """

    def strike(run: Run) -> None:
        process = at_random(run)
        send = random.choice((os.kill, os.killpg))
        for number in numbers:
            if process.poll() is None:
                send(process.pid, number)
            time.sleep(random.uniform(0, _APART_S))
        # Python itself ends by the signal where it falls before the run has begun, or after its last line.
        code, allowed = run.end(process), (*COMPLETE, _INTERRUPTED, -numbers[0])
        assert code in allowed, f"exit code {code}: {run.said()[-300:]}"
        left = [] if code == -signal.SIGKILL else run.left()
        assert not left, f"it ended in good order, exit code {code}, and left {left}"

    return strike
