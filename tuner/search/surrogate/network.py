"""A prior-fitted network: trials in, predictions for every configuration out, without a gradient step at tuning time.

Trials attend to each other, configurations attend to the trials (Mueller et al., Transformers Can Do Bayesian
Inference, ICLR 2022). For each configuration it predicts the log capacity as a mixture of normal distributions, the log
p99 over its limit as one, and the probability of each OUTCOME.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tuner.search.surrogate.features import CONFIGURATION_WIDTH, OUTCOMES, TRIAL_WIDTH

WIDTH, HEADS, LAYERS, HIDDEN = 96, 4, 4, 192
COMPONENTS = 3
_LEAST_SPREAD = 0.005


class Output(NamedTuple):
    """Means, spreads and log weights of the log capacity (batch, queries, COMPONENTS), mean and spread of the log p99
    over its limit (batch, queries), log probabilities of OUTCOMES (batch, queries, len(OUTCOMES)).
    """

    mean: Tensor
    spread: Tensor
    weight: Tensor
    p99_mean: Tensor
    p99_spread: Tensor
    outcome: Tensor


class _Block(nn.Module):
    """One layer, with the same weights for trials and for configurations."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_hidden = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.keys_values = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.hidden = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))

    def forward(self, trials: Tensor, queries: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Both attend to the trials that the mask leaves."""
        keys, values = self.keys_values(self.before_attention(trials)).chunk(2, dim=-1)
        keys, values = _split(keys), _split(values)
        return tuple(self._through(tokens, keys, values, mask) for tokens in (trials, queries))  # type: ignore[return-value]

    def _through(self, tokens: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        asked = _split(self.query(self.before_attention(tokens)))
        seen = nn.functional.scaled_dot_product_attention(asked, keys, values, attn_mask=mask)
        tokens = tokens + self.out(seen.transpose(1, 2).flatten(2))
        return tokens + self.hidden(self.before_hidden(tokens))  # type: ignore[no-any-return]


def _split(tokens: Tensor) -> Tensor:
    return tokens.reshape(*tokens.shape[:-1], HEADS, WIDTH // HEADS).transpose(1, 2)


class Network(nn.Module):
    """Over batches of tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.configuration = nn.Sequential(nn.Linear(CONFIGURATION_WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))
        self.trial = nn.Linear(TRIAL_WIDTH, WIDTH)
        self.nothing = nn.Parameter(torch.zeros(1, 1, WIDTH))  # what configurations attend to before the first trial
        self.blocks = nn.ModuleList(_Block() for _ in range(LAYERS))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * COMPONENTS + 2 + len(OUTCOMES)))

    def forward(self, trials: Tensor, present: Tensor, queries: Tensor) -> Output:
        """Of `trials` (batch, trials, CONFIGURATION_WIDTH + TRIAL_WIDTH) those that are `present` (batch, trials), and
        `queries` (batch, queries, CONFIGURATION_WIDTH).
        """
        known = self.configuration(trials[..., :CONFIGURATION_WIDTH]) + self.trial(trials[..., CONFIGURATION_WIDTH:])
        known = torch.cat([self.nothing.expand(len(known), 1, WIDTH), known], dim=1)
        mask = torch.cat([torch.ones(len(known), 1, dtype=torch.bool), present], dim=1)[:, None, None, :]
        asked = self.configuration(queries)
        for block in self.blocks:
            known, asked = block(known, asked, mask)
        mean, spread, weight, p99, outcome = self.head(asked).split([COMPONENTS] * 3 + [2, len(OUTCOMES)], dim=-1)
        return Output(
            mean,
            _positive(spread),
            weight.log_softmax(-1),
            p99[..., 0],
            _positive(p99[..., 1]),
            outcome.log_softmax(-1),
        )


def _positive(spread: Tensor) -> Tensor:
    return nn.functional.softplus(spread) + _LEAST_SPREAD
