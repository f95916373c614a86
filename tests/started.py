"""Which of our own lines start processes, as Python's audit events tell."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

_EVENTS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.system"})
_ROOT = str(Path(__file__).parent.parent)
_VENV = f"{_ROOT}/.venv"


@dataclass
class Started:
    """Collects the places from which processes are started while `watched`.

    A library that runs a helper for itself (matplotlib's list of fonts, say) does so once per process, in whichever
    test comes first; only what a line of this repository starts is held against a test.
    """

    watched: bool = False
    places: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        sys.addaudithook(self._heard)

    def _heard(self, event: str, _arguments: tuple[object, ...]) -> None:
        if self.watched and event in _EVENTS and (place := _caller(sys._getframe(1))):
            self.places.append(place)

    def taken(self) -> list[str]:
        """What was collected, which is then forgotten."""
        places = list(self.places)
        self.places.clear()
        return places


def _caller(frame: FrameType | None) -> str | None:
    """The file and line outside the standard module that asked for the process, where they are ours."""
    while frame is not None and frame.f_globals.get("__name__") in ("subprocess", "os"):
        frame = frame.f_back
    if frame is None:
        return None
    path = frame.f_code.co_filename
    if not path.startswith(_ROOT) or path.startswith(_VENV):
        return None
    return f"{path.removeprefix(_ROOT).lstrip('/')}:{frame.f_lineno}"
