"""The front door of the command line: `tune spec.yaml` without a command's name, and the standard streams."""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path

import click

from search_spaces.reading import shown


class FrontDoor(click.Group):
    """Takes a spec where a command's name stands: `tune spec.yaml --budget 20` is `tune --service spec.yaml ...`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The first word that is neither an option nor an option's value decides."""
        position = self._first_word(ctx, args)
        if position is not None and args[position] not in self.commands and _is_spec(args[position]):
            args = [*args[:position], "--service", *args[position:]]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A misspelt command is told the nearest one."""
        if args[0] not in self.commands and (near := difflib.get_close_matches(args[0], self.commands, 1)):
            ctx.fail(f"No such command {args[0]!r}: is it {near[0]}?")
        return super().resolve_command(ctx, args)

    def _first_word(self, ctx: click.Context, args: list[str]) -> int | None:
        valued = {
            name for one in self.get_params(ctx) if isinstance(one, click.Option) and not one.is_flag
            for name in one.opts
        }  # fmt: skip
        position = 0
        while position < len(args):
            if not args[position].startswith("-"):
                return position
            position += 2 if args[position] in valued else 1
        return None


def _is_spec(word: str) -> bool:
    return word.lower().endswith((".yaml", ".yml")) or Path(word).is_file()


def refuse_misplaced(context: click.Context) -> None:
    """Raises UsageError for an option of the main job that stands before another command, which never hears of it."""
    command = context.invoked_subcommand or ""
    found = context.command.get_command(context, command) if isinstance(context.command, click.Group) else None
    known = {name for one in (found.params if found else ()) for name in one.opts}
    for one in context.command.params:
        said = context.get_parameter_source(one.name or "") is click.core.ParameterSource.COMMANDLINE
        if said and isinstance(one, click.Option) and one.expose_value:
            name = one.opts[0]
            if name in known:
                raise click.UsageError(f"{name} has to stand behind the command: tune {command} {name} ...")
            raise click.UsageError(f"{name} is the main job's; it does not go with {command}.")


def open_closed_streams() -> None:
    """Open standard streams that the caller has closed (`>&-`): the next file to be opened would take their place."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115


_NUMBERS = {  # how click calls a number that is held to limits
    "is not a valid integer range.": "is not a whole number.", "is not a valid float range.": "is not a number.",
    "is not a valid N.": "is not a number, such as 500 or 0.5.",
}  # fmt: skip


def usage_message(error: click.ClickException) -> str:
    """What is wrong, in a line, though click lists choices in one each; and where to look."""
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "tune"
    said = " ".join(error.format_message().split())
    for theirs, ours in _NUMBERS.items():
        said = said.replace(theirs, ours)
    return f"{said}\n`{path} --help` says what there is."


def system_message(error: OSError) -> str:
    """What the system refused, with the file; and what to do where a file has the name of a folder."""
    what = f"{shown(str(error.filename))}: " if error.filename else ""
    if isinstance(error, FileExistsError) and Path(str(error.filename)).is_file():
        return f"{what}is a file; name a folder by --output"
    return f"{what}{error.strerror or error}"
