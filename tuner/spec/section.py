"""What all sections of the spec share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    """Frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _plain_text(value: object) -> object:
    """`OMP_NUM_THREADS: 4` and `--port, 8000` mean text; what else YAML reads there is a mistake worth an error."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(_plain_text)]
