"""Signals that come at an awkward moment."""

from __future__ import annotations

import os
import signal
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
