"""The spec's `request.llm:` section: prompts that are made for a language model, a fresh one for every request."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tuner.spec.quantities import Pause, Share
from tuner.spec.section import Section

_MAX_TOKENS = 10_000_000
_WIDTH = 4.0  # standard deviations to which a lognormal is cut where no `high` is given


class LengthSpec(Section):
    """A number of tokens, an even range from `low` to `high`, or a lognormal by `median` and `sigma`, cut to it."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """An editor accepts what the validator does."""
        return {"anyOf": [handler(core_schema), {"type": "integer", "minimum": 1}]}

    low: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)
    high: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)
    median: float | None = Field(default=None, gt=0, le=_MAX_TOKENS)
    sigma: float | None = Field(default=None, gt=0, le=10)

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, value: object) -> object:
        return value if isinstance(value, Mapping) else {"low": value, "high": value}

    @model_validator(mode="after")
    def _whole(self) -> LengthSpec:
        drawn = self.median is not None and self.sigma is not None
        if (self.median is None) != (self.sigma is None) or (not drawn and (self.low is None or self.high is None)):
            raise ValueError("needs a number, or low and high, or median and sigma, as in {median: 512, sigma: 0.6}")
        if self.range[0] > self.range[1]:
            raise ValueError("low must not be above high")
        return self

    @property
    def range(self) -> tuple[int, int]:
        """The least and the most."""
        wide = math.exp(_WIDTH * (self.sigma or 0.0)) * (self.median or 1.0)
        return self.low or 1, self.high or min(_MAX_TOKENS, math.ceil(wide))


class LlmSpec(Section):
    """Lengths in tokens of the model's own `tokenizer` (a folder or a `tokenizer.json`; by default the model's folder),
    drawn, or as pairs from the file `sizes`. `shared_prefix` is the share of each prompt that all begin with.
    """

    input_tokens: LengthSpec = LengthSpec(low=512, high=512)
    output_tokens: LengthSpec = LengthSpec(low=128, high=128)
    shared_prefix: Share = 0.0
    turns: int = Field(default=1, ge=1, le=100)
    think: Pause | None = None
    sizes: str | None = None
    tokenizer: str | None = None
    ignore_eos: bool | None = Field(default=None, description="default: where the server's adapter knows that it can")

    @model_validator(mode="after")
    def _belongs_together(self) -> LlmSpec:
        if not 0 <= self.shared_prefix < 1:
            raise ValueError("shared_prefix must be at least 0 and below 100%, as in 30%")
        if self.sizes is not None and {"input_tokens", "output_tokens"} & self.model_fields_set:
            raise ValueError("sizes gives both lengths; remove input_tokens and output_tokens")
        if self.think is not None and self.turns == 1:
            raise ValueError("think goes with turns: the time from an answer to the user's next turn")
        return self
