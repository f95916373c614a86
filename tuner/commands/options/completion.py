"""`tune completion SHELL`: the script with which a shell completes commands and options."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from tuner.errors import ExitCode, UnfitEnvironmentError

# Under the home folder, where each shell looks by itself; zsh needs the folder in its `fpath`.
_PLACES = {
    "bash": ("XDG_DATA_HOME", ".local/share", "bash-completion/completions/tune"),
    "zsh": ("ZDOTDIR", "", ".zfunc/_tune"),
    "fish": ("XDG_CONFIG_HOME", ".config", "fish/completions/tune.fish"),
}


def completion(cli: click.Command, shell: str, *, install: bool) -> ExitCode:
    """Raises UnfitEnvironmentError where the script cannot be made or written."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 (click knows the three)
    try:
        text = kind(cli, {}, "tune", "_TUNE_COMPLETE").source()
    except RuntimeError as error:  # a bash that is not there, or too old
        raise UnfitEnvironmentError(str(error)) from error
    if not install:
        click.echo(text)
        return ExitCode.DONE
    path = _place(shell)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UnfitEnvironmentError(f"cannot write {path}: {error.strerror}") from error
    hint = f"; put `fpath+=({path.parent})` before `compinit` in .zshrc" if shell == "zsh" else ""
    click.echo(f"wrote {path}; a new shell completes tune{hint}")
    return ExitCode.DONE


def _place(shell: str) -> Path:
    variable, under_home, name = _PLACES[shell]
    given = os.environ.get(variable)
    return (Path(given) if given else Path.home() / under_home) / name
