"""What all sections of the spec share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from search_spaces.reading import quoted

_VARIABLE = re.compile(r"[-._A-Za-z][-._A-Za-z0-9]*")  # what Kubernetes takes, and so every runner


class Section(BaseModel):
    """Frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _plain_text(value: object) -> object:
    """`OMP_NUM_THREADS: 4` and `--port, 8000` mean text; what else YAML reads there is a mistake worth an error."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _are_variables(env: Mapping[str, str]) -> Mapping[str, str]:
    for name in env:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(
                f"{quoted(name)} is not the name of a variable: letters, digits, '_', '-' and '.', no digit first"
            )
    return env


Text = Annotated[str, BeforeValidator(_plain_text)]
Variables = Annotated[Mapping[str, Text], AfterValidator(_are_variables)]
