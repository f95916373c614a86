"""The front door of the command line: `tune spec.yaml` without a command's name."""

from __future__ import annotations

from pathlib import Path

import click


class FrontDoor(click.Group):
    """Takes a spec where a command's name stands: `tune spec.yaml --budget 20` is `tune --service spec.yaml ...`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The first word that is neither an option nor an option's value decides."""
        position = self._first_word(ctx, args)
        if position is not None and args[position] not in self.commands and _is_spec(args[position]):
            args = [*args[:position], "--service", *args[position:]]
        return super().parse_args(ctx, args)

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
