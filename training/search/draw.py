"""Random numbers as the made-up services need them: one seeded generator, on the CPU or the GPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Draw:
    """Every method returns a tensor of the shape asked for."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Evenly between two numbers."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Evenly on a logarithmic scale."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> Tensor:
        """Of mean 0 and standard deviation 1."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def heavy(self, *shape: int) -> Tensor:
        """Like the normal, but now and then several times as far out (a Student t of about three degrees)."""
        wide = 1.5 / (self.normal(3, *shape).square().sum(0) / 3 + 0.05).sqrt()
        return self.normal(*shape) * wide / 1.6

    def chance(self, probability: float | Tensor, *shape: int) -> Tensor:
        """True with that probability."""
        return torch.rand(shape, generator=self.generator, device=self.device) < probability

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """From `low` to `high`, which is left out."""
        return torch.randint(low, high, shape, generator=self.generator, device=self.device)

    def one_of(self, values: Sequence[float], weights: Sequence[float] | None, *shape: int) -> Tensor:
        """Some of the values."""
        odds = torch.ones(len(values)) if weights is None else torch.tensor(weights, dtype=torch.float)
        count = math.prod(shape)
        picked = torch.multinomial(odds.to(self.device), count, replacement=True, generator=self.generator)
        return torch.tensor(values, dtype=torch.float, device=self.device)[picked].reshape(shape)

    def permutations(self, count: int, size: int) -> Tensor:
        """(count, size): a permutation each."""
        return torch.rand((count, size), generator=self.generator, device=self.device).argsort(1)
