"""The spec's `quality:` section: what an answer must be for its speed to count."""

from __future__ import annotations

from collections.abc import Mapping

from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError
from pydantic import Field, field_validator, model_validator

from tuner.spec.quantities import Choice, Share
from tuner.spec.section import Section


class QualitySpec(Section):
    """Answers are compared with a data set's labels, or with those of a `reference` configuration."""

    answer: str = Field(description="JSON path of what is compared in an answer")
    dataset: str | None = Field(default=None, description='lines of {"request": ..., "label": ...}')
    reference: Mapping[str, Choice] | None = None
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    at_least: Share = 1.0

    @field_validator("answer", mode="after")
    @classmethod
    def _is_a_path(cls, text: str) -> str:
        try:
            JSONPathEnvironment().compile(text)
        except JSONPathError as error:
            raise ValueError(f"{text!r} is no JSON path such as $.outputs[0].data[0]: {error}") from error
        return text

    @model_validator(mode="after")
    def _one_truth(self) -> QualitySpec:
        if (self.dataset is None) == (self.reference is None):
            raise ValueError("needs either dataset (requests with labels) or reference (a configuration)")
        return self
