"""Where the dashboard gets studies from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from results.summary import StudySummary
from results.trial_parts import TrialEvidence


class Source(Protocol):
    """Studies to look at. Called from several threads; raises ResultsError where a study cannot be read now."""

    def names(self) -> tuple[str, ...]:
        """What the studies are called, the one to show first first."""

    def version(self, name: str) -> str:
        """Another text whenever there is something new to see. Cheap: it is asked every second."""

    def summary(self, name: str) -> StudySummary:
        """All that is known of a study now."""

    def evidence(self, name: str, number: int) -> TrialEvidence:
        """What the last launch of a trial that served rests on."""

    def running(self, name: str) -> Sequence[Mapping[str, Any]]:
        """The trials under way: `number`, `about` (its configuration), `phase`, `fraction` of its time, and `points`
        of seconds, requests/s and the `percentile` ("p95") in ms (None: not known yet). Cheap: it is asked every
        second.
        """

    def formats(self, name: str) -> tuple[str, ...]:
        """What the recommendation can be exported as."""

    def export(self, name: str, format_name: str, qps: float | None) -> Mapping[str, str]:
        """The files of an export by their names, for traffic of so many requests per second."""

    def raw(self, name: str) -> str | None:
        """The address of Optuna's own dashboard for the raw study, or what to do for one; None: nothing to say."""
