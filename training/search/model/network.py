"""A prior-fitted network: trials in, predictions for every configuration out, without a gradient step at tuning time.

Trials attend to each other, configurations attend to the trials (Mueller et al., Transformers Can Do Bayesian
Inference, ICLR 2022). How strongly depends on how they compare, parameter by parameter (`encoding.relations`), so that
a category is understood from the trials that share it, whatever it is called. For each configuration the network
predicts the log capacity as a mixture of normal distributions, the log p99 over its limit as one, the probability of
each outcome, and a score by which the cheapest configuration is likely to be found.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.search.model.encoding import (
    OUTCOMES,
    PARAMETER_WIDTH,
    RELATIONS,
    SPACE_WIDTH,
    TRIAL_WIDTH,
    VALUE_WIDTH,
    WHOLE_RELATIONS,
    Encoded,
    relations,
)

# Trials are few and thought about deeply; configurations are many, so that what is done for each must be little.
WIDE, NARROW, HEADS, VALUES = 160, 96, 8, 48
TRIAL_LAYERS, READ_AFTER = 6, (1, 3, 5)  # configurations read the trials after these of the trials' layers
COMPONENTS = 4
_MIN_SPREAD = 0.004


class SurrogateTensors(NamedTuple):
    """Means, spreads and log weights of the log capacity (B, queries, COMPONENTS), mean and spread of the log p99 over
    its limit (B, queries), log probabilities of OUTCOMES (B, queries, len(OUTCOMES)), scores of being the cheapest
    (B, queries): the log of a probability, up to a constant.
    """

    mean: Tensor
    spread: Tensor
    weight: Tensor
    p99_mean: Tensor
    p99_spread: Tensor
    outcome: Tensor
    best: Tensor


class _Reading(nn.Module):
    """Tokens of some width attend to trials (of width WIDE), then think."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before_attention, self.before_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.of_trials = nn.LayerNorm(WIDE)
        self.query, self.keys_values = nn.Linear(width, width), nn.Linear(WIDE, 2 * width)
        self.out = nn.Linear(width, width)
        self.hidden = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, trials: Tensor, bias: Tensor) -> Tensor:
        """The first of `trials` is the token for none; `bias` (B, heads, tokens, others) is very low where there is no
        trial.
        """
        keys, values = self.keys_values(self.of_trials(trials)).chunk(2, dim=-1)
        asked = _split(self.query(self.before_attention(tokens)) * (tokens.shape[-1] // HEADS) ** -0.5)
        scores = asked @ _split(keys).transpose(-1, -2)
        scores[..., 1:] += bias.to(scores.dtype)
        weights = scores.softmax(-1)
        read = (weights.to(values.dtype) @ _split(values)).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(read)
        return tokens + self.hidden(self.before_hidden(tokens))  # type: ignore[no-any-return]


def _split(tokens: Tensor) -> Tensor:
    return tokens.reshape(*tokens.shape[:-1], HEADS, -1).transpose(1, 2)


class SurrogateModule(nn.Module):
    """Over batches of spaces."""

    def __init__(self) -> None:
        super().__init__()
        layers = TRIAL_LAYERS + len(READ_AFTER)
        self.of_parameter = nn.Linear(PARAMETER_WIDTH, VALUES)
        self.of_value = nn.Linear(VALUE_WIDTH, VALUES)
        self.mixed = nn.Linear(VALUES, VALUES)
        self.configuration = nn.Sequential(
            nn.Linear(VALUES + SPACE_WIDTH, 2 * NARROW), nn.GELU(), nn.Linear(2 * NARROW, NARROW)
        )
        self.widened = nn.Linear(NARROW, WIDE)
        self.trial = nn.Sequential(nn.Linear(TRIAL_WIDTH, WIDE), nn.GELU(), nn.Linear(WIDE, WIDE))
        self.nothing = nn.Parameter(torch.zeros(1, 1, WIDE))  # what is attended to before the first trial
        self.relation = nn.Sequential(
            nn.Linear(PARAMETER_WIDTH, VALUES), nn.GELU(), nn.Linear(VALUES, RELATIONS * layers * HEADS)
        )
        self.whole_relation = nn.Parameter(torch.zeros(WHOLE_RELATIONS, layers * HEADS))
        self.trials = nn.ModuleList(_Reading(WIDE) for _ in range(TRIAL_LAYERS))
        self.reads = nn.ModuleList(_Reading(NARROW) for _ in READ_AFTER)
        self.head = nn.Sequential(nn.LayerNorm(NARROW), nn.Linear(NARROW, 3 * COMPONENTS + 3 + len(OUTCOMES)))

    def forward(self, tried: Encoded, trials: Tensor, present: Tensor, asked: Encoded) -> SurrogateTensors:
        """`trials` (B, T, TRIAL_WIDTH) of the configurations `tried`, as far as `present` (B, T), and those `asked`."""
        known = self.widened(self.tokens(tried)) + self.trial(trials)
        known = torch.cat([self.nothing.expand(len(known), 1, WIDE).to(known.dtype), known], dim=1)
        tokens = self.tokens(asked)
        coefficients = self._coefficients(asked)
        own = TRIAL_LAYERS * HEADS
        among = self._bias(relations(tried, tried), coefficients[..., :own], present)
        across = self._bias(relations(asked, tried), coefficients[..., own:], present)
        among = nn.functional.pad(among, (0, 0, 1, 0))  # the token for nothing attends as well
        read = 0
        for layer, block in enumerate(self.trials):
            known = block(known, known, _heads(among, layer))
            if layer in READ_AFTER:
                tokens = self.reads[read](tokens, known, _heads(across, read))
                read += 1
        sizes = [COMPONENTS] * 3 + [2, len(OUTCOMES), 1]
        mean, spread, weight, p99, outcome, best = self.head(tokens).float().split(sizes, dim=-1)
        return SurrogateTensors(
            mean, _positive(spread), weight.log_softmax(-1), p99[..., 0], _positive(p99[..., 1]),
            outcome.log_softmax(-1), best[..., 0],
        )  # fmt: skip

    def tokens(self, encoded: Encoded) -> Tensor:
        """(B, N, NARROW): the sum over parameters of what each value means, and the whole."""
        values = nn.functional.gelu(self.of_value(encoded.value) + self.of_parameter(encoded.parameter)[:, None])
        values = nn.functional.gelu(self.mixed(values)) * encoded.exists[:, None, :, None]
        return self.configuration(torch.cat([values.sum(2) / 2, encoded.space.to(values.dtype)], -1))  # type: ignore[no-any-return]

    def _coefficients(self, encoded: Encoded) -> Tensor:
        """(B, P * RELATIONS + WHOLE_RELATIONS, layers * heads): what each relation counts in each layer and head."""
        each = self.relation(encoded.parameter) * encoded.exists[..., None]
        each = each.reshape(len(each), RELATIONS * each.shape[1], -1)
        return torch.cat([each, self.whole_relation.expand(len(each), -1, -1).to(each.dtype)], dim=1)

    @staticmethod
    def _bias(related: Tensor, coefficients: Tensor, present: Tensor) -> Tensor:
        """(B, layers * heads, tokens, trials)."""
        flat = related.flatten(1, 2).transpose(1, 2)
        shape = (len(flat), coefficients.shape[2], *related.shape[1:3])
        bias: Tensor = (coefficients.transpose(1, 2) @ flat).reshape(shape)
        if not present.is_cuda and bool(present.all()):  # as it always is while tuning
            return bias
        return bias.masked_fill(~present[:, None, None, :], -1e4)


def _heads(bias: Tensor, layer: int) -> Tensor:
    return bias[:, layer * HEADS : (layer + 1) * HEADS]


def _positive(spread: Tensor) -> Tensor:
    return nn.functional.softplus(spread) + _MIN_SPREAD
