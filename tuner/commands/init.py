"""`tune init`: a commented spec to start from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from tuner.errors import ExitCode, UnfitEnvironmentError, UsageError


def init(path: Path) -> ExitCode:
    """`-` is standard output. Raises UsageError rather than overwrite a file."""
    text = (resources.files("tuner.commands") / "starter.yaml").read_text(encoding="utf-8")
    if str(path) == "-":
        click.echo(text, nl=False)
        return ExitCode.DONE
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(f"{path} exists already; name another file: tune init FILE") from error
    except OSError as error:
        raise UnfitEnvironmentError(f"cannot write {path}: {error.strerror}") from error
    click.echo(f"wrote {path}: fill in the command, the request and the SLO, then run `tune validate {path}`")
    return ExitCode.DONE
