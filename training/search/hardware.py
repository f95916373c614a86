"""GPUs, shares of them and prices, as made-up services have them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.search.draw import Draw
from training.search.spaces import MAX_CHOICES, SpaceBuilder
from tuner.search.surrogate.gpus import GPUS

# MIG's profiles are sevenths of the compute and eighths of memory and bandwidth (NVIDIA's MIG user guide: 1g.10gb to
# 7g.80gb). Other ways to share a GPU (MPS, time slices, a framework's fraction) share all of it, or compute alone.
_SLICES = (
    [1 / 7, 2 / 7, 3 / 7, 4 / 7, 1.0], [1 / 7, 2 / 7, 3 / 7, 1.0], [0.25, 0.5, 1.0],
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], [0.1, 0.2, 0.5, 1.0], [0.25, 0.5, 0.75, 1.0],
    [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0], [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0],
)  # fmt: skip
_MIG_MEMORY = ([1 / 8, 2 / 8, 4 / 8, 4 / 8, 1.0], [1 / 8, 2 / 8, 4 / 8, 1.0])


@dataclass(frozen=True)
class Accelerator:
    """GPUs of one type or several, and how many: what they can do for this service, and what they cost.

    `specs` (B, MAX_CHOICES, 3) are TFLOP/s, GB/s and GiB; `odds` how far this service is from what they promise.
    """

    space: SpaceBuilder
    kind: int
    count: int
    specs: Tensor
    odds: Tensor
    prices: Tensor
    lacks: Tensor

    def _of_kind(self, figure: Tensor) -> Tensor:
        return self.space.chosen(self.kind, figure, figure[:, :1])

    def strength(self, share: Tensor) -> Tensor:
        """Compute over 100 TFLOP/s, as this service finds it."""
        return self._of_kind(self.specs[..., 0] * self.odds) * share / 100

    def bandwidth(self) -> Tensor:
        """In TB/s."""
        return self._of_kind(self.specs[..., 1] * self.odds**0.5) / 1000

    def gib(self) -> Tensor:
        """Of one GPU."""
        return self._of_kind(self.specs[..., 2])

    def odd(self) -> Tensor:
        """A figure of the type that nothing shows, about 1."""
        return self._of_kind(self.lacks)

    def gpus(self) -> Tensor:
        """How many."""
        return self.space.value(self.count, 1.0)

    def price(self, *, alone: bool = False) -> Tensor:
        """Per hour, of all GPUs, or of one `alone`."""
        return self._of_kind(self.prices) * (1.0 if alone else self.gpus())

    def physics(self, share: Tensor, memory: Tensor, shown: Tensor, cores: Tensor, gib: Tensor) -> Tensor:
        """(B, N, len(PHYSICS)) as the search is told."""
        specs = [self._of_kind(self.specs[..., column]) for column in range(3)]
        parts = [specs[0] * share, specs[1] * memory, specs[2] * memory]
        gpu = [torch.where(shown, part.clamp(min=1e-3).log(), torch.nan) for part in parts]
        gpus = torch.where(self.space.has(self.count), self.gpus().log(), torch.nan)
        return torch.stack([*gpu, cores.log(), gib.log(), gpus], dim=-1)


def accelerators(draw: Draw, space: SpaceBuilder, several_types: Tensor, several: Tensor | float) -> Accelerator:
    """`several_types` and `several` are the chances that the space has GPU types, and numbers of GPUs."""
    size = space.size
    kind = space.categories("gpu_type", 0.0, 5)
    space.slots[kind].present = draw.chance(several_types, size)
    count = space.listed("gpus", 0.0, [[1, 2, 4, 8], [1, 2, 4], [1, 2, 3, 4], [1, 2], [1, 2, 3, 4, 5, 6, 7, 8]])
    space.slots[count].present = draw.chance(several, size)
    table = torch.tensor(list(GPUS.values()), device=draw.device)
    chosen = draw.permutations(size, len(table)).repeat(1, 1 + MAX_CHOICES // len(table))[:, :MAX_CHOICES]
    specs = table[chosen]
    strange = draw.chance(0.15, size, MAX_CHOICES, 1)  # a GPU that no list has
    specs = specs * torch.where(strange, (0.7 * draw.normal(size, MAX_CHOICES, 3)).exp(), 1.0)
    odds = (draw.heavy(size, MAX_CHOICES) * draw.log_uniform(0.05, 0.6, size, 1)).exp()
    prices = 0.02 * specs[..., 0] ** draw.uniform(0.3, 1.0, size, 1) * (draw.normal(size, MAX_CHOICES) * 0.4).exp()
    unrelated = draw.log_uniform(0.3, 10, size, MAX_CHOICES)
    prices = torch.where(draw.chance(0.12, size, 1), unrelated, prices)
    lacks = (draw.heavy(size, MAX_CHOICES) * 0.6).exp()
    return Accelerator(space, kind, count, specs, odds, prices, lacks)


@dataclass(frozen=True)
class GpuShares:
    """Shares of a GPU: of compute (B, N) and of memory; one parameter for both, or one each."""

    space: SpaceBuilder
    both: int
    compute_only: int
    memory: Tensor
    by_compute: Tensor

    def share(self) -> Tensor:
        """Of what is divided as a whole."""
        return self.space.value(self.both, 1.0)

    def compute(self) -> Tensor:
        """Of the compute; 0 where there is no GPU."""
        return self.share() * self.space.value(self.compute_only, 1.0)

    def memory_of(self) -> Tensor:
        """Of the memory and its bandwidth."""
        return self.space.chosen(self.both, self.memory, 1.0)

    def paid(self) -> Tensor:
        """Of the price."""
        return torch.where(self.by_compute, self.compute(), self.share())


def slices(draw: Draw, space: SpaceBuilder, chance: Tensor, with_none: Tensor) -> GpuShares:
    """`chance` is that of being sliced; where `with_none` is true the first choice may be no GPU at all."""
    size = space.size
    table, memory = (torch.zeros(len(_SLICES), MAX_CHOICES) for _ in range(2))
    for row, shares in enumerate(_SLICES):
        table[row, : len(shares)] = memory[row, : len(shares)] = torch.tensor(shares)
    for row, shares in enumerate(_MIG_MEMORY):
        memory[row, : len(shares)] = torch.tensor(shares)
    which = draw.integers(0, len(_SLICES), size)
    lengths = torch.tensor([len(shares) for shares in _SLICES], device=draw.device)[which]
    share, memory = table.to(draw.device)[which], memory.to(draw.device)[which]
    none = (with_none & draw.chance(0.8, size)) | draw.chance(0.03, size)
    share, memory = (torch.where(none[:, None], one.roll(1, 1) * _not_first(one), one) for one in (share, memory))
    count = lengths + none
    # In shares, in sevenths, in percent, in GiB: any unit.
    smallest = torch.where(share > 0, share, torch.inf).amin(1, keepdim=True)
    unit = torch.where(
        draw.chance(0.5, size, 1),
        1.0,
        torch.where(draw.chance(0.5, size, 1), 1 / smallest, draw.log_uniform(10, 100, size, 1)),
    )
    both = space.add("gpu_memory", share, count, draw.chance(chance, size), share * unit)
    time = space.listed("gpu_compute", 0.0, [[0.25, 0.5, 0.75, 1.0], [0.2, 0.4, 0.6, 0.8, 1.0], [0.1, 0.5, 1.0],
                                             [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]])  # fmt: skip
    space.slots[time].present = draw.chance(chance * 0.3, size)
    return GpuShares(space, both, time, memory, draw.chance(0.7, size, 1))


def _not_first(values: Tensor) -> Tensor:
    return (torch.arange(values.shape[1], device=values.device) > 0).float()


def core_price(draw: Draw, *shape: int) -> tuple[Tensor, Tensor]:
    """Per core and hour, and what is paid whatever is chosen."""
    core = torch.where(draw.chance(0.85, *shape), 0.04, 0.0)
    fixed = torch.where(draw.chance(0.35, *shape), draw.log_uniform(0.001, 0.5, *shape), 1e-3)
    return core, fixed
