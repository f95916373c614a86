"""Work that an interrupt does not cut in two."""

from __future__ import annotations

import threading
from _thread import start_new_thread
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

R = TypeVar("R")


def whole(work: Callable[[threading.Event], R]) -> R:
    """What the work returns or raises. An interrupt sets its event and is heeded when it has ended, wherever it falls:
    the work runs in a thread of its own, and whoever has `claim` first says whether it begins at all.
    """
    called_off, claim, running = threading.Event(), threading.Lock(), threading.Lock()
    answer: Future[R] = Future()  # asked only when it is there: waiting for one may leave its lock taken
    running.acquire()

    def begin() -> None:
        if not claim.acquire(blocking=False):
            return
        try:
            answer.set_result(work(called_off))
        except BaseException as error:  # noqa: BLE001 (whoever waits raises it)
            answer.set_exception(error)
        finally:
            running.release()

    try:
        start_new_thread(begin, ())  # a Thread's start, in Python, may itself be cut in two
        with running:
            pass
    except BaseException:
        called_off.set()
        if not claim.acquire(blocking=False):
            with running:
                pass
        raise
    return answer.result()
