"""What all documents of the load test's contract are: frozen, and they refuse fields that they do not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """The base of every part of a plan and of an answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")
