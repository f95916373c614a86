"""Muon for the matrices of the layers (Jordan, 2024), all of one shape at once; AdamW for the rest."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

_MOMENTUM, _DECAY = 0.95, 0.01
_STEPS, _COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration, from the author's code
_MUON_OVER_ADAM = 4.0  # how much larger its rate may be


class Optimizers:
    """Both, with one rate. `rate` is that of AdamW."""

    def __init__(self, network: nn.Module, rate: float) -> None:
        matrices = [one for name, one in network.named_parameters() if one.ndim == 2 and _in_layers(name)]
        known = {id(one) for one in matrices}
        others = [one for one in network.parameters() if id(one) not in known]
        fused = others[0].device.type == "cuda"
        self.rate = rate
        self._adam = torch.optim.AdamW(others, lr=rate, weight_decay=_DECAY, betas=(0.9, 0.98), fused=fused)
        groups: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for one in matrices:
            groups[one.shape].append(one)
        self._groups = [(each, torch.zeros(len(each), *shape, device=each[0].device)) for shape, each in groups.items()]

    def zero_grad(self) -> None:
        """Before a backward pass."""
        self._adam.zero_grad(set_to_none=True)
        for each, _ in self._groups:
            for one in each:
                one.grad = None

    @torch.no_grad()
    def step(self, share: float) -> None:
        """With this share of the rate."""
        for group in self._adam.param_groups:
            group["lr"] = self.rate * share
        self._adam.step()
        for each, momentum in self._groups:
            gradient = torch.stack([torch.zeros_like(one) if one.grad is None else one.grad for one in each])
            momentum.lerp_(gradient, 1 - _MOMENTUM)
            update = _orthogonal(gradient.lerp(momentum, _MOMENTUM))
            rows, columns = update.shape[1:]
            size = self.rate * share * _MUON_OVER_ADAM * 0.2 * max(rows, columns) ** 0.5
            torch._foreach_mul_(each, 1 - self.rate * share * _MUON_OVER_ADAM * _DECAY)
            torch._foreach_add_(each, list(update.unbind()), alpha=-size)


def _in_layers(name: str) -> bool:
    return name.startswith(("trials.", "reads."))


def _orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices whose singular values are about 1, each."""
    first, second, third = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    found: Tensor = matrices.transpose(1, 2) if tall else matrices
    found = found / (found.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = found @ found.transpose(1, 2)
        found = first * found + (second * gram + third * gram @ gram) @ found
    return found.transpose(1, 2) if tall else found
