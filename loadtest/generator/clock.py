"""Waiting until a moment, to some tens of microseconds. gevent's own timers are up to a millisecond late.

Linux has timers that are files: they end a wait for events at once (timerfd_create(2)). Elsewhere gevent's have to do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time

import gevent

_MONOTONIC, _NONBLOCK, _CLOEXEC = 1, 0o4000, 0o2000000  # of Linux
_WORTH_S = 50e-6  # a shorter wait ends before it has begun


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """One waiting greenlet's timer. Close it after use."""

    def __init__(self) -> None:
        self._file = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(_MONOTONIC, _NONBLOCK | _CLOEXEC)
        if self._file >= 0:
            self._watcher = gevent.get_hub().loop.io(self._file, 1)
            self._timer = _Timer()

    def wait_until(self, moment: float) -> None:
        """Block this greenlet until then, on the clock of `time.perf_counter`; others run, even when it is past."""
        wait_s = moment - time.perf_counter()
        if wait_s < _WORTH_S or self._file < 0:
            gevent.sleep(max(0.0, wait_s))
            return
        self._timer.value.seconds, self._timer.value.nanoseconds = int(wait_s), int(wait_s % 1 * 1e9)
        self._libc.timerfd_settime(self._file, 0, ctypes.byref(self._timer), None)
        gevent.get_hub().wait(self._watcher)
        with contextlib.suppress(BlockingIOError):
            os.read(self._file, 8)

    def close(self) -> None:
        """Give the file back. May be called twice."""
        if self._file >= 0:
            self._watcher.stop()
            self._watcher.close()
            os.close(self._file)
            self._file = -1
