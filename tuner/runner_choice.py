"""From the spec's `runner:` to a runner: the one place that knows them all."""

from __future__ import annotations

from runners import ProcessRunner, ReplayRunner, Runner, TableError
from tuner.errors import SpecError
from tuner.spec_file import LoadedSpec


def make_runner(loaded: LoadedSpec) -> Runner:
    """Raises SpecError for a replay table that is missing or wrong."""
    runner = loaded.spec.runner
    if runner.type == "replay":
        assert runner.table is not None  # noqa: S101 (the model's validator)
        try:
            return ReplayRunner(loaded.folder / runner.table, loaded.space.names)
        except TableError as error:
            raise SpecError(f"runner.table: {error} ({loaded.file.place(('runner', 'table'))})") from error
    return ProcessRunner()
