"""Repeats calls, with back-off, to something that may be away for a while: an engine, a cluster's API, a database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

_FIRST_S, _LONGEST_S = 0.1, 3.0

R = TypeVar("R")


def retry(
    is_away: Callable[[BaseException], bool], at_most_s: float, call: Callable[..., R], *args: Any, **kwargs: Any
) -> R:
    """The call's answer. An exception is raised at once, unless `is_away` recognises it: then the call is repeated
    until the time is over. The call must do no harm when it is repeated.
    """
    return retry_until(threading.Event(), is_away, at_most_s, call, *args, **kwargs)


def retry_until(
    called_off: threading.Event,
    is_away: Callable[[BaseException], bool], at_most_s: float, call: Callable[..., R], *args: Any, **kwargs: Any,
) -> R:  # fmt: skip
    """As `retry`. Once it is called off it raises CancelledError instead of another try."""

    def pause(seconds: float) -> None:
        if called_off.wait(seconds):
            raise CancelledError

    retrying = Retrying(
        retry=retry_if_exception(is_away), stop=stop_after_delay(at_most_s), sleep=pause,
        wait=wait_exponential(multiplier=_FIRST_S, max=_LONGEST_S), reraise=True,
    )  # fmt: skip
    return retrying(call, *args, **kwargs)
