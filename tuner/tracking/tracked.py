"""A display that tells trackers, too, without ever waiting for one while trials run."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from results import Recommendation, TrialRecord
from results.text import one_line
from search_spaces import Configuration
from search_spaces.masking import masked
from search_spaces.reading import foreign
from tuner.display import Display, StudyOutline
from tuner.tracking.protocol import FinishedTrial, Tracker, TrackerDownError

_MAX_WAITING = 10_000  # calls, of a tracker that does not keep up
_MAX_REASON = 160  # letters
CLOSE_S = 30.0  # at the end of a run, for all trackers together: one that is down has failed long before

_Call = Callable[[Tracker], None]


class _Worker:
    """One tracker in a thread of its own. `problem` says why it was given up."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.problem: str | None = None
        self._calls: queue.Queue[_Call | None] = queue.Queue(_MAX_WAITING)
        # A daemon: what hangs in a connection must not keep the program from ending.
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def tell(self, call: _Call | None) -> None:
        """Returns at once."""
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self.problem = self.problem or "it does not keep up"

    def finish(self, until: float) -> None:
        """Wait until all is told, but no longer than that time of the monotonic clock."""
        self.tell(None)
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive() and self.problem is None:
            self.problem = "it did not answer in time"

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self.problem is not None:
                continue
            try:
                call(self.tracker)
            except TrackerDownError as error:
                self.problem = str(error)
            except Exception as error:  # noqa: BLE001 (whatever a tracker does wrong, the run is not its victim)
                self.problem = _why(error)


class Tracked:
    """Tells `inner` everything, and the trackers what they keep. One that fails is noticed once, in a line."""

    def __init__(self, inner: Display, trackers: Sequence[Tracker], *, close_s: float = CLOSE_S) -> None:
        self._inner, self._close_s = inner, close_s
        self._workers = [_Worker(one) for one in trackers]
        self._noticed: set[int] = set()
        self._lock = threading.Lock()
        self._phases: dict[int, list[tuple[str, int]]] = {}
        self._folder: Path | None = None
        self._recommendation: Recommendation | None = None

    def study_started(self, outline: StudyOutline) -> None:
        """Trackers open what they write into."""
        self._folder = outline.output
        self._tell(lambda tracker: tracker.begin(outline))
        self._inner.study_started(outline)

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int | None) -> None:
        """Its time begins."""
        self._begin(number)
        self._inner.trial_started(number, configuration, position, budget)

    def phase(self, number: int, name: str, fraction: float) -> None:
        """A phase is named by its first word; it begins where the word changes."""
        word = name.split(" ", 1)[0]
        with self._lock:
            phases = self._phases.setdefault(number, [("", time.time_ns())])
            if phases[-1][0] != word:
                phases.append((word, time.time_ns()))
        self._inner.phase(number, name, fraction)

    def trial_finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """Told to the trackers."""
        self._finished(record, best, confirmation=False)
        self._inner.trial_finished(record, best)

    def trial_lost(self, number: int) -> None:
        """Whoever has taken it up tells of it."""
        with self._lock:
            self._phases.pop(number, None)
        self._inner.trial_lost(number)

    def confirmation_started(self, first: TrialRecord, position: int, count: int) -> None:
        """Its time begins."""
        self._begin(first.number)
        self._inner.confirmation_started(first, position, count)

    def confirmation_finished(self, first: TrialRecord, confirmation: TrialRecord) -> None:
        """Told to the trackers."""
        self._finished(confirmation, None, confirmation=True)
        self._inner.confirmation_finished(first, confirmation)

    def notice(self, text: str) -> None:
        """Passed on."""
        self._inner.notice(text)

    def recommended(self, recommendation: Recommendation, output: Path) -> None:
        """The files are kept by the trackers when the run closes."""
        self._recommendation, self._folder = recommendation, output
        self._inner.recommended(recommendation, output)

    def close(self) -> None:
        """Wait a little for what trackers have not sent yet. May be called twice."""
        recommendation, folder = self._recommendation, self._folder
        workers, self._workers = self._workers, []
        until = time.monotonic() + self._close_s
        for worker in workers:
            if folder is not None:
                worker.tell(_ending(recommendation, folder))
        for worker in workers:
            worker.finish(until)
        self._say(workers)
        self._inner.close()

    def _begin(self, number: int) -> None:
        with self._lock:
            self._phases[number] = [("", time.time_ns())]

    def _finished(self, record: TrialRecord, best: TrialRecord | None, *, confirmation: bool) -> None:
        now = time.time_ns()
        with self._lock:
            (_, started), *phases = self._phases.pop(record.number, [("", now)])
        trial = FinishedTrial(record, started, now, tuple(phases), best, confirmation)
        self._tell(lambda tracker: tracker.trial(trial))

    def _tell(self, call: _Call) -> None:
        for worker in self._workers:
            worker.tell(call)
        self._say(self._workers)

    def _say(self, workers: Sequence[_Worker]) -> None:
        """From the thread of the study, in which alone a display is told things."""
        for worker in workers:
            if worker.problem is not None and id(worker) not in self._noticed:
                self._noticed.add(id(worker))
                why = foreign(one_line(masked(worker.problem)))[:_MAX_REASON]
                self._inner.notice(f"{worker.tracker.name} keeps no track any more, the run goes on: {why}")


def _ending(recommendation: Recommendation | None, folder: Path) -> _Call:
    return lambda tracker: tracker.end(recommendation, folder)


def _why(error: BaseException) -> str:
    """What the network said, where that is at the bottom of it; clients wrap it in pages of words."""
    first, seen = error, {id(error)}
    while (cause := error.__cause__ or error.__context__) is not None and id(cause) not in seen:
        error = cause
        seen.add(id(error))
    named = error if isinstance(error, OSError) and error.strerror else first
    return f"{type(named).__name__}: {named}"
