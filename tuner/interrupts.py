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
    interrupt that falls there is raised again a moment later, at the latest when this is left. A run that ends by an
    exception anyhow, such as its exit, ends by that.
    """
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    otherwise, alarm = sys.unraisablehook, signal.getsignal(signal.SIGALRM) or signal.SIG_DFL
    owed = False

    def dropped(what: Any) -> None:
        nonlocal owed
        if not issubclass(what.exc_type, KeyboardInterrupt):
            otherwise(what)
            return
        owed = True
        signal.signal(signal.SIGALRM, again)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)

    def again(_signal: int, _frame: FrameType | None) -> None:
        nonlocal owed
        if owed:
            owed = False
            raise KeyboardInterrupt

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        late, owed = owed, False  # from here on the alarm raises nothing
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        sys.unraisablehook = otherwise
    if late:
        raise KeyboardInterrupt


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
