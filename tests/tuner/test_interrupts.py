"""Signals that come at an awkward moment."""

from __future__ import annotations

import os
import signal
import sys
import time
import weakref
from collections.abc import Iterator

import pytest

from tuner.interrupts import interruptible


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """As they were before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Thing:
    """Something to refer to."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_that_python_drops_comes_again(number: signal.Signals) -> None:
    """What a weak reference's callback raises goes nowhere."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), number))
    with interruptible(), pytest.raises(KeyboardInterrupt):
        del thing
        assert reference() is None
        os.kill(os.getpid(), number)  # ignored by then
        time.sleep(5)


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_that_is_dropped_at_the_end_comes_before_it_or_never(ending: type[BaseException]) -> None:
    """Afterwards nobody would turn it into an exit code. A run that is about to exit just does."""

    def theirs(*_: object) -> None:
        """Somebody else's."""

    signal.signal(signal.SIGALRM, theirs)
    thing = Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # else a busy machine might let it come earlier
    try:
        with pytest.raises(ending), interruptible():
            del thing
            assert reference() is None
            if ending is SystemExit:
                sys.exit(0)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signal.getsignal(signal.SIGALRM) is theirs
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
