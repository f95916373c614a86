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
        space, budget, earlier = outline.space, outline.budget, outline.earlier
        _emit(
            "study", service=outline.service, objective=outline.objective, slo=outline.slo,
            budget=budget.trials, finished=earlier.count, seconds_at_most=budget.max_load_s, output=str(outline.output),
            parallel=outline.parallel, study=outline.study, open_ended=budget.open_ended,
            time_left_s=budget.time_left_s, states=earlier.states, parameters=space.parameters, space_size=space.size,
            currency=outline.currency, spent=earlier.spent, best=earlier.best.number if earlier.best else None,
        )  # fmt: skip

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
