"""How wrong the network was: of the capacities, of the latencies, of what came of it, and of which is the cheapest."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from training.search.model.network import SurrogateTensors
from training.search.truth import Services

NEARLY_BEST = math.log(1.05)
_WEIGHTS = (1.0, 0.3, 1.0, 1.0)


class Losses(NamedTuple):
    """Negative log likelihoods: means over what is known."""

    capacity: Tensor
    p99: Tensor
    outcome: Tensor
    best: Tensor

    def total(self) -> Tensor:
        """What is minimised."""
        return torch.stack([weight * part for weight, part in zip(_WEIGHTS, self, strict=True)]).sum()

    def __str__(self) -> str:
        return "capacity {:.3f}, p99 {:.3f}, outcome {:.3f}, best {:.3f}".format(
            *(float(part.detach()) for part in self)
        )


def losses(output: SurrogateTensors, made: Services, tried: Tensor, middle: Tensor, level_known: Tensor) -> Losses:
    """`tried` (B, N) says which configurations were; `middle` (B,) is the log capacity that is 0 to the network, where
    the level is known (B,).
    """
    valid = made.spaces.valid
    known = ~made.log_capacity.isnan() & level_known[:, None] & valid
    value = (made.log_capacity - middle[:, None]).nan_to_num()
    each = log_normal(value[..., None], output.mean, output.spread)
    capacity = -(torch.logsumexp(output.weight + each, dim=-1).clamp(min=-20) * known).sum() / known.sum().clamp(min=1)
    log_p99 = made.measured[..., 0]
    latency = ~log_p99.isnan() & valid & ((made.outcome == 0) | (made.outcome == 2))
    p99 = -(
        log_normal(log_p99.nan_to_num().clamp(-6, 6), output.p99_mean, output.p99_spread).clamp(min=-20) * latency
    ).sum()
    outcome = -(output.outcome.gather(-1, made.outcome[..., None])[..., 0] * valid).sum() / valid.sum()
    cost = made.spaces.log_price.nan_to_num() - made.log_capacity
    cost = torch.where(cost.isnan() | tried | ~valid, torch.inf, cost)
    lowest = cost.amin(1, keepdim=True)
    winners = (cost <= lowest + NEARLY_BEST) & lowest.isfinite()
    counted = winners.any(1)
    # Where nothing is left to find anything goes, so that no gradient is that of an empty sum.
    odds = torch.where((tried | ~valid) & counted[:, None], -torch.inf, output.best).log_softmax(1)
    won = torch.where(winners | ~counted[:, None], odds, -torch.inf).logsumexp(1)
    best = -torch.where(counted, won, 0.0).clamp(min=-20).sum() / counted.sum().clamp(min=1)
    return Losses(capacity, p99 / latency.sum().clamp(min=1), outcome, best)


def log_normal(value: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """The log density."""
    return -0.5 * ((value - mean) / spread) ** 2 - spread.log() - 0.5 * math.log(2 * math.pi)
