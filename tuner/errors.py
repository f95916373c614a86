"""What can go wrong, and the exit code that tells a script.

TuneError
├── UsageError (2)        the arguments are wrong
│   └── SpecError         the spec is wrong: names file, line and key
└── UnfitEnvironmentError (4)  this machine cannot run it: no engine, no such GPU, a full disk, a database out of reach

That no configuration met the SLO (3) and an interrupt (130) are results of a run, not errors. Every message is one to
three lines: what is wrong, where, what to do. An argument stands in backticks, as in Python; the command line says its
option (`tuner.display.wording.with_options`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """What `tune` tells the shell."""

    DONE = 0
    USAGE = 2
    NOTHING_MEETS_SLO = 3
    ENVIRONMENT = 4
    GATE_FAILED = 5
    GATE_INCONCLUSIVE = 6
    INTERRUPTED = 130


class TuneError(Exception):
    """An error whose message is meant for the user as it stands."""

    exit_code = ExitCode.ENVIRONMENT


class UsageError(TuneError):
    """The arguments, or the options of the command line, ask for what cannot be."""

    exit_code = ExitCode.USAGE


class SpecError(UsageError):
    """The spec is wrong."""


class UnfitEnvironmentError(TuneError):
    """Nothing is wrong with the spec, but this machine cannot run it."""


@contextmanager
def needing_packages(what: str) -> Iterator[None]:
    """Around imports that only `what` needs. Raises UnfitEnvironmentError where one of the packages is not
    installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UnfitEnvironmentError(
            f"{what} needs {error.name}, which is not installed: pip install {error.name}"
        ) from error


def with_extra(extra: str) -> str:
    """How to install an extra of this package, which is on no index yet: by that name an index may have another one."""
    return f"pip install '.[{extra}]' in a checkout of tune"


@contextmanager
def needing_extra(what: str, extra: str) -> Iterator[None]:
    """Around imports of what an extra of this package installs. Raises UnfitEnvironmentError where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UnfitEnvironmentError(
            f"{what} needs {error.name}, which is not installed: {with_extra(extra)}"
        ) from error
