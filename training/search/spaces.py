"""Made-up search spaces, a batch at a time: which parameters there are, their choices, and the configurations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.search.draw import Draw
from training.search.model.encoding import ROLES, Spaces

MAX_CHOICES = 36
MAX_PARAMETERS = 8
_ALIKE = {  # roles that people take for each other
    "batch_size": ("concurrency", "batch_size"), "concurrency": ("batch_size", "concurrency"),
    "workers": ("instances", "workers", "replicas"), "instances": ("workers", "instances"),
    "gpu_memory": ("gpu_memory_share", "gpu_compute"), "gpu_compute": ("gpu_memory", "gpu_memory_share"),
    "threads": ("cpu_cores", "workers"), "engine": ("compile", "engine"), "tensor_parallel": ("gpus",),
    "gpus": ("tensor_parallel", "replicas"),
}  # fmt: skip


@dataclass
class Slot:
    """A parameter that some services of the batch have: `choices` (B, MAX_CHOICES) as the server feels them, of which
    the first `count` (B,) exist; `shown` are the numbers that the search sees; `present` (B,) says which have it.
    """

    role: str
    choices: Tensor
    count: Tensor
    present: Tensor
    shown: Tensor
    categorical: bool


class SpaceBuilder:
    """Collects parameters, then draws the configurations of all spaces at once."""

    def __init__(self, draw: Draw, size: int) -> None:
        self.draw, self.size = draw, size
        self.slots: list[Slot] = []
        self.index = torch.empty(0)  # (B, N, slots): the choice of every configuration, once they are drawn

    def numbers(
        self,
        role: str,
        chance: float,
        low: float,
        high: float,
        *,
        max_values: int = 9,
        zero: float = 0.0,
        linear: float = 0.3,
    ) -> int:
        """A parameter with ordered choices; where there is a `zero` it comes first. Returns the slot's number."""
        draw, size = self.draw, self.size
        count = draw.integers(2, max_values + 1, size)
        steps = torch.arange(MAX_CHOICES, device=draw.device)
        first = low * 2.0 ** draw.integers(0, 3, size, 1)
        doubling = first * 2.0**steps
        line = low * (1 + steps * draw.one_of([1, 1, 1, 2, 4], None, size, 1)) if low else steps * 1.0
        halves = torch.where(steps % 2 == 0, 1.0, 1.5) * first * 2.0 ** (steps // 2)  # 1, 1.5, 2, 3, 4, 6
        multiples = first * (1 + steps)  # 8, 16, 24
        line = torch.where(draw.chance(0.35, size, 1), multiples, line)
        kind = draw.uniform(0, 1, size, 1)
        long = (kind[:, 0] < linear) & draw.chance(0.3, size)
        count = torch.where(long, draw.integers(8, MAX_CHOICES + 1, size), count)
        choices = torch.where(kind < linear, line, torch.where(kind < linear + 0.15, halves, doubling))
        fits = (choices <= high).sum(1).clamp(min=2)
        count = torch.minimum(count, fits)
        # Leave some out: 1, 4, 16.
        sparse = draw.chance(0.15, size, 1)
        choices = torch.where(sparse & (count[:, None] * 2 <= MAX_CHOICES), choices[:, ::2].repeat(1, 2), choices)
        if zero:
            with_zero = draw.chance(zero, size, 1)
            choices = torch.where(with_zero, torch.cat([choices[:, :1] * 0, choices[:, :-1]], 1), choices)
        return self.add(role, choices, count, draw.chance(chance, size))

    def listed(self, role: str, chance: float, lists: list[list[float]]) -> int:
        """One of several lists of choices, cut to some length, always from its first."""
        draw, size = self.draw, self.size
        table = torch.zeros(len(lists), MAX_CHOICES)
        for row, values in enumerate(lists):
            table[row, : len(values)] = torch.tensor(values)
        lengths = torch.tensor([len(values) for values in lists], device=draw.device)
        which = draw.integers(0, len(lists), size)
        longest = lengths[which]
        count = (2 + (draw.uniform(0, 1.6, size).clamp(max=0.999) * (longest - 1)).floor()).clamp(max=longest)
        return self.add(role, table.to(draw.device)[which], count.long(), draw.chance(chance, size))

    def categories(self, role: str, chance: float, max_values: int, min_values: int = 2) -> int:
        """A parameter whose choices have no order: `choices` are their numbers."""
        few = self.draw.integers(min_values, max_values + 1, self.size)
        rare = self.draw.integers(min_values, 18, self.size)
        count = torch.where(
            self.draw.chance(0.1, self.size) & torch.tensor(max_values > 4, device=few.device), rare, few
        )
        choices = torch.arange(MAX_CHOICES, device=self.draw.device).float().expand(self.size, -1)
        return self.add(role, choices, count, self.draw.chance(chance, self.size), categorical=True)

    def add(
        self, role: str, choices: Tensor, count: Tensor, present: Tensor, shown: Tensor | None = None, *,
        categorical: bool = False,
    ) -> int:  # fmt: skip
        """Any parameter. Returns the slot's number."""
        self.slots.append(Slot(role, choices, count, present, choices if shown is None else shown, categorical))
        return len(self.slots) - 1

    def configurations(self, configurations: int) -> Tensor:
        """Draw up to `configurations` distinct ones per space; returns which are valid (B, N). Fills `index`."""
        draw, size = self.draw, self.size
        present = torch.stack([slot.present for slot in self.slots], 1)
        none = ~present.any(1)
        forced = torch.nn.functional.one_hot(draw.integers(0, len(self.slots), size), len(self.slots)).bool()
        present = torch.where(none[:, None], forced, present)
        # No more than MAX_PARAMETERS.
        order = torch.where(present, draw.uniform(0, 1, size, len(self.slots)), 2.0).argsort(1).argsort(1)
        present &= order < MAX_PARAMETERS
        counts = torch.where(present, torch.stack([slot.count for slot in self.slots], 1), 1)
        for number, slot in enumerate(self.slots):
            slot.present = present[:, number]
        total = counts.double().prod(1)
        step = torch.arange(configurations, device=draw.device)
        stride = (total / configurations).clamp(min=1.0)
        spread = (draw.uniform(0, 1, size, 1).double() + step) * stride[:, None]
        place = torch.where(total[:, None] <= configurations, step.double().expand(size, -1), spread.floor())
        valid = place < total[:, None]
        place = place.clamp(max=1e15)
        digits: list[Tensor] = [step] * len(self.slots)
        for slot in draw.permutations(1, len(self.slots))[0].tolist():
            digits[slot] = (place % counts[:, slot, None]).long()
            place = torch.div(place, counts[:, slot, None], rounding_mode="floor")
        self.index = torch.stack(digits, -1)
        return valid

    def value(self, slot: int, default: float | Tensor) -> Tensor:
        """(B, N): what the server feels of it, or the default where the space has no such parameter."""
        one = self.slots[slot]
        found = one.choices.gather(1, self.index[..., slot])
        return torch.where(
            one.present[:, None], found, torch.as_tensor(default, device=found.device, dtype=found.dtype)
        )

    def chosen(self, slot: int, per_choice: Tensor, default: float | Tensor = 0.0) -> Tensor:
        """(B, N): a figure that is given per choice (B, MAX_CHOICES)."""
        found = per_choice.gather(1, self.index[..., slot])
        present = self.slots[slot].present[:, None]
        return torch.where(present, found, torch.as_tensor(default, device=found.device, dtype=found.dtype))

    def has(self, slot: int) -> Tensor:
        """(B, 1): whether the space has it."""
        return self.slots[slot].present[:, None]

    def spaces(self, log_price: Tensor, physics: Tensor, valid: Tensor) -> Spaces:
        """As the search sees them: in another order, and with the roles that the user gave, if any."""
        draw, size, slots = self.draw, self.size, len(self.slots)
        role = _roles(draw, size, self.slots)
        present = torch.stack([slot.present for slot in self.slots], 1)
        role = torch.where(present, role, -1)
        value = torch.stack([slot.shown for slot in self.slots], 1)
        value = value.gather(2, self.index.transpose(1, 2)).transpose(1, 2)
        categorical = torch.tensor([slot.categorical for slot in self.slots], device=draw.device).expand(size, -1)
        # Numbers that a user writes as names ("1g.10gb", "large"), so that their order is lost.
        categorical = categorical | draw.chance(0.03, size, slots)
        salt = draw.integers(0, 97, size, slots)
        # Categories are numbered by their order of appearance, which means nothing.
        shuffled = draw.permutations(size * slots, MAX_CHOICES).reshape(size, slots, MAX_CHOICES)
        counts = torch.stack([slot.count for slot in self.slots], 1)[..., None]
        inside = torch.arange(MAX_CHOICES, device=draw.device) < counts
        shuffled = torch.where(inside, shuffled, MAX_CHOICES + 1).argsort(2).argsort(2)
        named = shuffled.gather(2, self.index.transpose(1, 2)).transpose(1, 2)
        rank = torch.where(categorical[:, None, :], named, self.index)
        rank = torch.where(present[:, None, :], rank, -1)
        value = torch.where(categorical[:, None, :], torch.nan, value)
        # Only MAX_PARAMETERS of them: those that are present first, in any order.
        order = torch.where(present, draw.uniform(0, 1, size, slots), 2.0).argsort(1)[:, :MAX_PARAMETERS]
        wide = order[:, None, :].expand(-1, rank.shape[1], -1)
        return Spaces(
            role.gather(1, order), categorical.gather(1, order), salt.gather(1, order), value.gather(2, wide),
            rank.gather(2, wide), log_price, physics, valid,
        )  # fmt: skip


def _roles(draw: Draw, size: int, listed: Sequence[Slot]) -> Tensor:
    """(B, slots): right, missing here and there, missing throughout, or wrong."""
    slots = len(listed)
    true = torch.tensor([ROLES.index(slot.role) for slot in listed], device=draw.device).expand(size, -1)
    alike = torch.tensor(
        [ROLES.index(_ALIKE.get(slot.role, (slot.role,))[0]) for slot in listed], device=draw.device
    ).expand(size, -1)
    quality = draw.uniform(0, 1, size, 1)
    hidden = draw.chance(torch.where(quality < 0.45, 0.03, torch.where(quality < 0.7, 0.4, 0.0)), size, slots)
    role = torch.where(hidden | ((quality >= 0.7) & (quality < 0.88)), 0, true)
    role = torch.where((role > 0) & draw.chance(0.08, size, slots), alike, role)
    wrong = torch.where(draw.chance(0.5, size, slots), draw.integers(1, len(ROLES), size, slots), 0)
    shuffled = true.gather(1, draw.permutations(size, slots))
    wrong = torch.where(draw.chance(0.5, size, 1), shuffled, wrong)
    return torch.where(quality >= 0.88, torch.where(draw.chance(0.7, size, slots), wrong, true), role)
