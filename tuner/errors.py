"""What can go wrong, and the exit code that tells a script.

TuneError
├── UsageError (2)        the arguments are wrong
│   └── SpecError         the spec is wrong: names file, line and key
└── UnfitEnvironmentError (4)  this machine cannot run it: no engine, no such GPU, a full disk, a database out of reach

That no configuration met the SLO (3) and an interrupt (130) are results of a run, not errors. Every message is one to
three lines: what is wrong, where, what to do. An argument stands in backticks, as in Python; the command line says its
option (`with_options`). What another program said has no backticks in a message (`search_spaces.reading.foreign`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

# What messages name in backticks as an argument in Python, and the command line has as an option.
_ARGUMENT = re.compile(
    "`(budget|detect|keep|max_cost|measure|metrics_host|metrics_port|mlflow_tracking_uri|name|otlp_endpoint|output"
    "|parallel|qps|range|resume|runner|storage|traffic"
    "|trial|wandb_dir|warm_start)`"
)
_OTHERWISE = {"name": "--study"}
_asking: set[str] = set()  # a fact of the process: the threads of a dashboard belong to the command line, too


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


def with_options(text: str) -> str:
    """A message as the command line says it: its option (--max-cost) in place of Python's argument (`max_cost`)."""
    return _ARGUMENT.sub(lambda found: _OTHERWISE.get(found[1], "--" + found[1].replace("_", "-")), text)


@contextmanager
def on_command_line() -> Iterator[None]:
    """What is written meanwhile, such as a report, is for somebody who types options."""
    _asking.add("command line")
    try:
        yield
    finally:
        _asking.clear()


def as_asked(text: str) -> str:
    """A sentence that stays in a file, as whoever started this names an argument: by its option, or as in Python."""
    return with_options(text) if _asking else text


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
