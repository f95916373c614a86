"""What runs now as a file, `live.json` in the run's folder, which the dashboard reads: a display around another one."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

from results import Recommendation, TrialRecord
from results.text import assigned
from search_spaces import Configuration
from search_spaces.reading import read_state
from tuner.display.protocol import Display, StudyOutline

LIVE_FILE = "live.json"
_MAX_POINTS = 240
# A phase is words for people; of a probe they end with its rate and, once there is one, the percentile that is shown.
_PROBE = re.compile(r"([\d,.]+) req/s(?:, (\S.*) ([\d,.]+) ms)?$")


class LiveFile:
    """Tells `inner` everything, and keeps the file up to date. A full disk stops the file, never the run."""

    def __init__(self, inner: Display, *, every_s: float = 0.5) -> None:
        self._inner, self._every_s = inner, every_s
        self._path: Path | None = None
        self._lock = threading.Lock()
        self._trials: dict[int, dict[str, Any]] = {}
        self._written = 0.0

    def study_started(self, outline: StudyOutline) -> None:
        """Its folder is where the file goes."""
        self._path = outline.output / LIVE_FILE
        self._inner.study_started(outline)

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int | None) -> None:
        """The trial is shown from now on."""
        self._begin(number, configuration)
        self._inner.trial_started(number, configuration, position, budget)

    def phase(self, number: int, name: str, fraction: float) -> None:
        """A point of its picture, where a probe runs."""
        with self._lock:
            trial = self._trials.setdefault(number, _trial(number, ""))
            trial |= {"phase": name, "fraction": fraction}
            if (found := _PROBE.search(name)) is not None:
                rate, ms = (None if text is None else float(text.replace(",", "")) for text in found.group(1, 3))
                trial["percentile"] = found[2] or trial["percentile"]
                trial["points"] = [
                    *trial["points"][1 - _MAX_POINTS :],
                    (round(time.monotonic() - trial["begun"], 1), rate, ms),
                ]
            self._write(hurry=False)
        self._inner.phase(number, name, fraction)

    def trial_finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """The trial is no longer shown."""
        self._end(record.number)
        self._inner.trial_finished(record, best)

    def trial_lost(self, number: int) -> None:
        """The trial is no longer shown."""
        self._end(number)
        self._inner.trial_lost(number)

    def confirmation_started(self, first: TrialRecord, position: int, count: int) -> None:
        """The configuration runs again, and is shown."""
        self._begin(first.number, first.configuration)
        self._inner.confirmation_started(first, position, count)

    def confirmation_finished(self, first: TrialRecord, confirmation: TrialRecord) -> None:
        """The trial is no longer shown."""
        self._end(first.number)
        self._inner.confirmation_finished(first, confirmation)

    def notice(self, text: str) -> None:
        """Passed on."""
        self._inner.notice(text)

    def recommended(self, recommendation: Recommendation, output: Path) -> None:
        """Passed on."""
        self._inner.recommended(recommendation, output)

    def close(self) -> None:
        """Nothing runs any more."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._inner.close()

    def _begin(self, number: int, configuration: Configuration) -> None:
        with self._lock:
            self._trials[number] = _trial(number, assigned(configuration))
            self._write(hurry=True)

    def _end(self, number: int) -> None:
        with self._lock:
            self._trials.pop(number, None)
            self._write(hurry=True)

    def _write(self, *, hurry: bool) -> None:
        now = time.monotonic()
        if self._path is None or (not hurry and now - self._written < self._every_s):
            return
        self._written = now
        trials = [{key: one[key] for key in one if key != "begun"} for one in self._trials.values()]
        part = self._path.with_suffix(".part")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps({"at": time.time(), "trials": trials}), encoding="utf-8")
            part.replace(self._path)


def _trial(number: int, about: str) -> dict[str, Any]:
    return {"number": number, "about": about, "phase": "launch", "fraction": 0.0, "points": [],
            "percentile": "p99", "begun": time.monotonic()}  # fmt: skip


def read_live(folder: Path) -> list[dict[str, Any]]:
    """The trials under way in a run's folder; none where nothing was written for a minute, as by a killed run."""
    try:
        content = json.loads(read_state(folder / LIVE_FILE))
        return list(content["trials"]) if abs(time.time() - content["at"]) < 60 else []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
