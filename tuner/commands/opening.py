"""What the main job and a worker both begin with: the study, open, and what all of its trials share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from results import TrialRecord
from runners import Runner
from tuner.render import resources
from tuner.request import RequestSource
from tuner.spec_file import LoadedSpec
from tuner.store import StudyStore
from tuner.trial import TrialSetup


def has_prices(runner: Runner) -> bool:
    """Whether the runner knows what configurations cost, as a replayed table may."""
    return bool(getattr(runner, "has_prices", False))


def open_study(
    loaded: LoadedSpec, runner: Runner, source: RequestSource, folder: Path, storage: str, *, seed: int, resume: bool,
    provenance: Mapping[str, str], earlier: Sequence[TrialRecord] = (),
) -> tuple[StudyStore, TrialSetup]:  # fmt: skip
    """Raises as `StudyStore.open`."""
    store = StudyStore.open(
        storage,
        loaded,
        refuses=lambda configuration: runner.refuses(resources(loaded.space, configuration)) is not None,
        seed=seed,
        resume=resume,
        provenance=provenance,
        price=getattr(runner, "price_per_hour", None) if has_prices(runner) else None,
        earlier=earlier,
    )
    replayed = loaded.spec.runner.type == "replay"
    return store, TrialSetup(loaded, source, runner, folder / "trials", seed, replayed)
