"""What the main job and a worker both begin with: the study, open, and what all of its trials share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from results import TrialRecord
from runners import ReusingRunner, Runner
from tuner.quality import make_quality
from tuner.render import live_parameters, resources
from tuner.request import RequestSource
from tuner.runner_choice import make_runner
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
    return store, trial_setup(loaded, source, runner, folder, seed)


def trial_setup(loaded: LoadedSpec, source: RequestSource, runner: Runner, folder: Path, seed: int) -> TrialSetup:
    """What all trials share; the folder holds theirs."""
    return TrialSetup(loaded, source, runner, folder / "trials", seed, replayed=loaded.spec.runner.type == "replay")


def study_runner(loaded: LoadedSpec) -> Runner:
    """The spec's runner; where a running server can be told something that is tuned, its servers are used again."""
    runner, spec = make_runner(loaded), loaded.spec.runner
    return ReusingRunner(runner) if spec.reuse and spec.type != "replay" and live_parameters(loaded) else runner


def with_quality(setup: TrialSetup) -> TrialSetup:
    """The setup with the spec's quality guard. Raises as `make_quality`."""
    folder = setup.trials.parent / "reference"
    return replace(setup, quality=make_quality(setup.loaded, setup.source, setup.runner, folder))
