"""How signals stop a run in good order."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S = 0.01


@contextmanager
def interruptible() -> Iterator[None]:
    """From here on, the first of these signals is a KeyboardInterrupt. Later ones are ignored: they would leave servers
    running.

    Python drops what is raised in a finalizer or in a weak reference's callback, wherever those happen to be called: an
    interrupt that falls there is raised again a moment later.
    """
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    otherwise = sys.unraisablehook

    def dropped(what: Any) -> None:
        if not issubclass(what.exc_type, KeyboardInterrupt):
            otherwise(what)
            return
        signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = otherwise


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
