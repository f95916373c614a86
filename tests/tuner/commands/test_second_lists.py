"""The command line has its own lists of choices and defaults, to start fast: they are those of what they name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

import click
import pytest

from results.exports import FORMATS
from results.planning import PATTERNS, Terms, Wishes
from tuner.cli import cli
from tuner.commands.options import types as option_types
from tuner.commands.plan import PlanOptions
from tuner.spec.prices.catalogue import Terms as PriceTerms
from tuner.spec.runner import RunnerSpec


def choices(command: str, option: str) -> tuple[str, ...]:
    (found,) = [one for one in cli.commands[command].params if one.name == option]
    assert isinstance(found.type, click.Choice)
    return tuple(found.type.choices)


def test_choices_are_those_of_what_they_name() -> None:
    assert tuple(option_types.FORMATS) == tuple(FORMATS)
    assert tuple(option_types.RUNNERS.choices) == get_args(RunnerSpec.model_fields["type"].annotation)
    assert choices("plan", "pattern") == PATTERNS
    assert choices("prices", "terms") == get_args(PriceTerms)


@pytest.mark.parametrize("kind", [Wishes, Terms])
def test_a_plan_of_the_command_line_has_the_defaults_of_one_in_python(kind: type[Any]) -> None:
    above = click.Context(cli, **cli.context_settings)
    context = cli.commands["plan"].make_context("plan", ["folder"], parent=above)
    wishes = PlanOptions.of(context.params).wishes
    given = wishes if kind is Wishes else wishes.terms
    assert {one.name: getattr(given, one.name) for one in fields(kind)} == {
        one.name: getattr(kind(), one.name) for one in fields(kind)
    }
