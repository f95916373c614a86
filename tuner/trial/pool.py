"""Runs trials: in this thread where there is one at a time, else each in a thread of its own."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType

from results import TrialRecord
from tuner.display import Display
from tuner.trial.setup import TrialRequest, TrialSetup
from tuner.trial.trial import run_trial


class TrialPool:
    """Runs at most `count` trials at once. Leaving the block by an exception (an interrupt) ends those that run, in
    good order: what they launched is gone by then.
    """

    def __init__(self, setup: TrialSetup, count: int, display: Display) -> None:
        self._setup, self._count, self._display = setup, count, display
        self._waiting: list[TrialRequest] = []
        self._futures: set[Future[TrialRecord]] = set()
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="trial") if count > 1 else None

    def __enter__(self) -> TrialPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def running(self) -> int:
        """Trials that were started and not yet handed out."""
        return len(self._waiting) + len(self._futures)

    @property
    def has_room(self) -> bool:
        """Whether another trial may start."""
        return self.running < self._count

    def start(self, request: TrialRequest) -> None:
        """Begin a trial."""
        if self._pool is None:
            self._waiting.append(request)
        else:
            self._futures.add(self._pool.submit(self._run, request))

    def finished(self) -> TrialRecord:
        """Return the next trial that ends; blocks until one does. Raises what it raised: RunnerUnavailable, or an
        interrupt.
        """
        if self._pool is None:
            return self._run(self._waiting.pop())
        done, _ = wait(self._futures, return_when=FIRST_COMPLETED)
        one = min(done, key=id)
        self._futures.discard(one)
        return one.result()

    def _run(self, request: TrialRequest) -> TrialRecord:
        def on_phase(name: str, fraction: float) -> None:
            if self._over.is_set():
                raise KeyboardInterrupt
            self._display.phase(request.number, name, fraction)

        return run_trial(self._setup, request, on_phase)
