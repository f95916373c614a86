"""A launch for a process that is to be killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.runners.command.test_command_runner import runner
from tests.runners.support import container


@contextlib.contextmanager
def launched(folder: Path) -> Iterator[None]:
    made = runner()
    placement = made.place(folder)
    (folder / "port").write_text(str(placement.port), encoding="ascii")
    with made.launch(container(placement, folder)):
        yield
