"""Parameters whose meaning nobody told, in made-up services."""

from __future__ import annotations

import torch
from torch import Tensor

from training.search.spaces import MAX_CHOICES, SpaceBuilder


class Knobs:
    """Parameters that nobody told the meaning of: up to three categories and three ordered ones, with effects on speed
    that reach from nothing to tenfold.
    """

    def __init__(self, space: SpaceBuilder, chance: float, named: tuple[str, float] = ("", 0.0)) -> None:
        self._space, draw, size = space, space.draw, space.size
        self._slots = [space.categories(named[0], named[1], 5)] if named[0] else []
        self._slots += [space.categories(role, chance / 2, 6) for role in ("", "compile")]
        self._ordered = [space.numbers("", chance / 2, 1, 64, zero=0.2) for _ in range(2)]
        strength = draw.log_uniform(0.03, 1.3, size, 1)
        self.effects = {slot: draw.heavy(size, MAX_CHOICES) * strength for slot in self._slots}
        for slot in self._ordered:
            walk = draw.normal(size, MAX_CHOICES).cumsum(1) * draw.log_uniform(0.02, 0.5, size, 1)
            self.effects[slot] = walk - walk[:, :1]

    def effect(self) -> Tensor:
        """(B, N): in logs."""
        return torch.stack([self._space.chosen(slot, each) for slot, each in self.effects.items()]).sum(0)

    def other(self, share: float = 1.0) -> Tensor:
        """Another effect of the categories alone, such as on what a batch saves, or on memory."""
        draw, space = self._space.draw, self._space
        each = [space.chosen(slot, draw.normal(space.size, MAX_CHOICES)) for slot in self._slots]
        return torch.stack(each).sum(0) * share * draw.log_uniform(0.03, 1.0, space.size, 1)
