"""What is kept of a study as a whole, beside its trials, in the study's own attributes."""

from __future__ import annotations

import datetime
from typing import Any

import optuna

from results import Explanation, TrialRecord
from tuner.study.outlook import Outlook
from tuner.study.storage.archive import confirmation_key
from tuner.study.storage.connection import reaching_study
from tuner.study.storage.damage import known_confirmations
from tuner.study.storage.keys import CONFIRMATION, CONFIRMATION_EVIDENCE, ENDED, EXPLANATION, OUTLOOK, STOPPED


class StudyAttributes:
    """Why the search ended, what it expects and explains, and further launches of its trials' configurations.

    Everything here raises UnfitEnvironmentError when the storage is lost.
    """

    def __init__(self, study: optuna.Study, url: str) -> None:
        self._study, self._url = study, url

    @property
    def stopped(self) -> str | None:
        """The reason that `stop` stored."""
        return self._stored().get(STOPPED)

    def stop(self, reason: str | None) -> None:
        """Store why the search ended before its budget; None: it goes on."""
        self._store(STOPPED, reason)

    def keep_explanation(self, explanation: Explanation | None) -> None:
        """Store what was learned about the parameters, if anything."""
        if explanation is not None:
            self._store(EXPLANATION, explanation.model_dump(mode="json"))

    def keep_outlook(self, outlook: Outlook) -> None:
        """Store what is expected of each trial by the others, and of what was not tried, for those who read it."""
        self._store(OUTLOOK, outlook.stored())

    def confirmations(self) -> dict[int, tuple[TrialRecord, ...]]:
        """What further launches of a trial's configuration gave, in their order, by the trial's number."""
        return known_confirmations(self._stored(), [])

    def confirm(self, number: int, record: TrialRecord) -> None:
        """Store a further launch of the configuration of trial `number`."""
        place = len(self.confirmations().get(number, ())) + 1
        if record.evidence is not None:
            key = confirmation_key(CONFIRMATION_EVIDENCE, number, place)
            self._store(key, record.evidence.model_dump(mode="json"))
        self._store(ENDED, now())
        self._store(confirmation_key(CONFIRMATION, number, place), record.model_dump(mode="json"))

    def _store(self, key: str, value: Any) -> None:
        with reaching_study(self._url):
            self._study.set_user_attr(key, value)

    def _stored(self) -> dict[str, Any]:
        with reaching_study(self._url):
            return self._study.user_attrs


def now() -> str:
    """The moment at which a launch is over, as it is stored."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
