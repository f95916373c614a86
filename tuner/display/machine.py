"""JSON for machines: events as lines on standard error, the recommendation alone on standard output."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from results import Recommendation, TrialRecord
from search_spaces import Configuration
from tuner.display.protocol import StudyOutline
from tuner.errors import with_options


class JsonDisplay:
    """Standard output holds one line: what `recommendation.json` holds."""

    def study_started(self, outline: StudyOutline) -> None:
        """`{"event": "study", ...}`"""
        told = {
            name: value for name, value in vars(outline).items() if name not in ("space", "money", "limited", "best")
        }
        parts = {"parameters": outline.parameters, "space_size": outline.space_size, **vars(outline.money)}
        best = outline.best.number if outline.best else None
        _emit("study", **(told | parts | {"output": str(outline.output), "best": best}))

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int | None) -> None:
        """`{"event": "trial_started", ...}`"""
        _emit("trial_started", number=number, configuration=dict(configuration), position=position, budget=budget)

    def phase(self, number: int, name: str, fraction: float) -> None:
        """`{"event": "phase", ...}`"""
        _emit("phase", number=number, name=name, fraction=fraction)

    def trial_finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """`{"event": "trial", "record": ..., "best": NUMBER}`"""
        _emit("trial", record=record.model_dump(mode="json"), best=best.number if best else None)

    def trial_lost(self, number: int) -> None:
        """`{"event": "trial_lost", ...}`"""
        _emit("trial_lost", number=number)

    def confirmation_started(self, first: TrialRecord, position: int, count: int) -> None:
        """`{"event": "confirmation_started", ...}`"""
        _emit("confirmation_started", number=first.number, position=position, count=count)

    def confirmation_finished(self, first: TrialRecord, confirmation: TrialRecord) -> None:
        """`{"event": "confirmation", ...}`"""
        _emit("confirmation", number=first.number, record=confirmation.model_dump(mode="json"))

    def notice(self, text: str) -> None:
        """`{"event": "notice", ...}`"""
        _emit("notice", text=with_options(text))

    def recommended(self, recommendation: Recommendation, output: Path) -> None:
        """The one line of standard output."""
        _emit("done", output=str(output))
        sys.stdout.write(recommendation.model_dump_json(by_alias=True) + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing is held."""


def _emit(event: str, **fields: Any) -> None:
    sys.stderr.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stderr.flush()
