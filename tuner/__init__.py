"""The tuner, and its front door for Python: `from tuner import tune, load_study, load_spec`.

It steers the other packages, and none of them imports it. It never sends a request itself, never imports Locust, Docker
or Kubernetes, and writes no HTML. Only `tuner.study` imports Optuna. The names below are imported when they are first
used, so that importing `tuner` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.api import Study, StudyInterrupted, load_study, tune
    from tuner.display import Observer
    from tuner.errors import SpecError, TuneError, UnfitEnvironmentError, UsageError
    from tuner.spec.reading import load_spec

__version__ = "0.1.0"
__all__ = [
    "Observer",
    "SpecError",
    "Study",
    "StudyInterrupted",
    "TuneError",
    "UnfitEnvironmentError",
    "UsageError",
    "load_spec",
    "load_study",
    "tune",
]
_HOMES = {
    "Observer": "tuner.display",
    "SpecError": "tuner.errors",
    "Study": "tuner.api",
    "StudyInterrupted": "tuner.api",
    "TuneError": "tuner.errors",
    "UnfitEnvironmentError": "tuner.errors",
    "UsageError": "tuner.errors",
    "load_spec": "tuner.spec.reading",
    "load_study": "tuner.api",
    "tune": "tuner.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
