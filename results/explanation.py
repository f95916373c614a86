"""What a search has learned of the parameters: which ones matter, and how the two that matter most act together."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from results.trial_parts import ParameterValue


class Surface(BaseModel):
    """The explanation's metric over two parameters, all others at their best; [rows of `y`][columns of `x`].

    `low` and `high` enclose 90% of what is predicted; None where nothing is expected to serve.
    """

    model_config = ConfigDict(frozen=True)

    x: str
    y: str
    x_values: tuple[ParameterValue, ...]
    y_values: tuple[ParameterValue, ...]
    value: tuple[tuple[float | None, ...], ...]
    low: tuple[tuple[float | None, ...], ...]
    high: tuple[tuple[float | None, ...], ...]


class Explanation(BaseModel):
    """`importance` is the share of the variance of the predicted (log) metric that a parameter is part of: its total
    effect (Homma and Saltelli, 1996). Shares of parameters that act together overlap. `metric` is the objective's
    first, of requests where that is one of tokens. `trust` is that in the network.
    """

    model_config = ConfigDict(frozen=True)

    metric: str
    importance: dict[str, float]
    surface: Surface | None
    trust: float
