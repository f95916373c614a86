"""What servers do that no formula says, and what of it a search can see: from rates and latencies to capacities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.search.draw import Draw
from training.search.model.encoding import MEASURED, PHYSICS, Spaces
from training.search.spaces import MAX_CHOICES, SpaceBuilder

_WAVES = 16


class Served(NamedTuple):
    """Per configuration (B, N): requests/s at full load, seconds that a request takes then, and alone; memory over what
    there is; the use of GPU and cores; whether it fails for other reasons; the price per hour; (B, N, len(PHYSICS)).
    """

    rate: Tensor
    latency_s: Tensor
    lone_s: Tensor
    need: Tensor
    gpu_use: Tensor
    cpu_use: Tensor
    fails: Tensor
    price: Tensor
    physics: Tensor


class Services(NamedTuple):
    """Spaces with their truth. `log_capacity` is nan where nothing is served; `log_saturated` is the log throughput at
    full load, whatever the latency; `outcome` is an index into OUTCOMES; `measured` is what a trial could see.
    """

    spaces: Spaces
    log_capacity: Tensor
    log_saturated: Tensor
    outcome: Tensor
    measured: Tensor


def services(draw: Draw, space: SpaceBuilder, valid: Tensor, served: Served) -> Services:
    """With all that is particular: quirks of single values, interplay, texture, cliffs, a limit, a price."""
    shape = valid.shape
    sped, slowed = _quirks(draw, space, shape)
    rate = (served.rate.clamp(min=1e-12).log() + sped).clamp(-30, 30)
    latency = (served.latency_s.clamp(min=1e-12).log() + slowed).clamp(-30, 30)
    lone = torch.minimum(served.lone_s.clamp(min=1e-12).log() + slowed, latency)
    rough = draw.chance(0.75, shape[0], 1)
    latency = latency + rough * draw.log_uniform(0.003, 0.25, shape[0], 1) * draw.heavy(*shape)
    rate = rate + draw.log_uniform(0.002, 0.08, shape[0], 1) * draw.heavy(*shape)
    fits = valid & (served.need <= 1) & ~served.fails
    # The share of configurations that meet the limit: from next to none to nearly all.
    limit = _quantile(latency, fits, draw.uniform(0.04, 0.97, shape[0]))
    profiled = draw.chance(0.6, shape[0], 1)
    over = latency - limit[:, None]
    capacity, log_p99 = _under_limit(draw, rate, over, limit[:, None], profiled)
    outcome = torch.where((log_p99 > 0) | (capacity < rate - 4), 2, 0)
    outcome = torch.where(served.need > 1, torch.where(draw.chance(0.1, shape[0], 1), 3, 1), outcome)
    unlucky = draw.chance(0.08, shape[0], 1) & draw.chance(0.05, *shape)
    outcome = torch.where(served.fails | unlucky, 3, outcome)
    physics = torch.where(draw.chance(0.3, shape[0], 1, 1), torch.nan, served.physics)
    measured = torch.stack([
        log_p99, over + draw.uniform(-0.7, 0, shape[0], 1),
        lone - limit[:, None] + draw.uniform(-0.2, 0.2, shape[0], 1),
        served.cpu_use.clamp(0, 1), served.gpu_use.clamp(0, 1), served.need.clamp(0, 1),
        (served.cpu_use > 0.9).float(), (served.cpu_use <= 0.9).float() * ~served.gpu_use.isnan(),
    ], dim=-1)  # fmt: skip
    spaces = space.spaces(_price(draw, space, served.price), physics, valid)
    log_capacity = torch.where((outcome == 0) & valid, capacity, torch.nan)
    return Services(spaces, log_capacity, rate, outcome, measured)


def constrained(draw: Draw, made: Services, size: Tensor, max_size: Tensor) -> Services:
    """Without the configurations that a constraint forbids, such as `tensor * pipeline <= 8`; in some spaces."""
    allowed = (size <= max_size) | draw.chance(0.3, len(size), 1)
    valid = made.spaces.valid & torch.where((allowed & made.spaces.valid).sum(1, keepdim=True) >= 8, allowed, True)
    return made._replace(
        spaces=made.spaces._replace(valid=valid), log_capacity=torch.where(valid, made.log_capacity, torch.nan)
    )


def unknown_physics(valid: Tensor) -> Tensor:
    """Of all configurations."""
    return torch.full((*valid.shape, len(PHYSICS)), torch.nan, device=valid.device)


def _quantile(values: Tensor, which: Tensor, share: Tensor) -> Tensor:
    """(B,): of the values that count, so that a share of them lies at or below it."""
    ordered = torch.where(which, values, torch.inf).sort(1).values
    place = (share * which.sum(1)).floor().long().clamp(min=0)
    found = ordered.gather(1, place[:, None].clamp(max=values.shape[1] - 1))[:, 0]
    return torch.where(
        found.isfinite(), found, torch.where(which, values, -torch.inf).amax(1).nan_to_num(0.0, 0.0, 0.0)
    )


def _under_limit(draw: Draw, rate: Tensor, over: Tensor, limit: Tensor, profiled: Tensor) -> tuple[Tensor, Tensor]:
    """Log capacity, and the log of p99 over its limit. A profile tells the latency at full throughput: what is above
    the limit does not serve. A search under a limit finds the rate that it allows, the lower the closer the latency.
    """
    size = len(rate)
    slack = over.clamp(-30, 0).exp()
    usable = 1 - slack ** draw.uniform(0.5, 2.0, size, 1) * draw.uniform(0.0, 1.0, size, 1)
    # By M/M/1: the 99th percentile of the wait is ln(100) over what is left of the rate. So of twice the workers more
    # than twice as much is usable; some services do not show that.
    pooled = (rate + limit).clamp(-10, 15).exp() * draw.log_uniform(0.3, 3, size, 1)
    alike = draw.log_uniform(3, 1000, size, 1)
    room = (1 - slack).clamp(min=1e-4) * torch.where(draw.chance(0.5, size, 1), pooled, alike)
    queueing = (1 - 4.6 / room).clamp(min=1e-3)
    usable = torch.where(draw.chance(0.4, size, 1), queueing, usable).clamp(min=1e-3)
    capacity = torch.where(profiled, rate, rate + usable.log())
    at_limit = ~profiled & draw.chance(0.7, size, 1) & (over <= 0)
    return capacity, torch.where(at_limit, -draw.uniform(0.0, 0.1, *rate.shape), over)


def _quirks(draw: Draw, space: SpaceBuilder, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Logs by which rate and latency change: single values, pairs of parameters, smooth waves, cliffs."""
    size, slots = shape[0], len(space.slots)
    sped = torch.zeros(shape, device=draw.device)
    slowed = torch.zeros_like(sped)
    index = space.index
    present = torch.stack([slot.present for slot in space.slots], 1)
    counts = torch.stack([slot.count for slot in space.slots], 1)
    place = index / (counts - 1).clamp(min=1)[:, None, :] * present[:, None, :]
    own = draw.chance(0.3, size, slots) * draw.log_uniform(0.01, 0.25, size, slots) * present
    effects = draw.heavy(size, slots, MAX_CHOICES) * own[..., None]
    sped = sped + effects.gather(2, index.transpose(1, 2)).sum(1)
    slowed = slowed - draw.uniform(0, 1, size, 1) * sped
    # Pairs: what one value does depends on another's.
    for _ in range(2):
        first, second = draw.integers(0, slots, size), draw.integers(0, slots, size)
        both = [_of_choice(draw, index, one) * present.gather(1, one[:, None]) for one in (first, second)]
        pair = draw.chance(0.4, size, 1) * draw.log_uniform(0.01, 0.3, size, 1) * both[0] * both[1]
        sped, slowed = sped + pair, slowed - draw.uniform(-0.2, 1, size, 1) * pair
    frequency = draw.normal(size, slots, _WAVES) / draw.log_uniform(0.25, 3, size, 1, 1) * present[..., None]
    phase = draw.uniform(0, 6.2832, size, 1, _WAVES)
    waves = (place @ frequency + phase).cos() * draw.chance(0.6, size, 1, 1) * draw.log_uniform(0.01, 0.4, size, 1, 1)
    weights = draw.normal(size, 2, _WAVES) * (2 / _WAVES) ** 0.5
    smooth = torch.einsum("bnw,bkw->bkn", waves, weights)
    sped, slowed = sped + smooth[:, 0], slowed - 0.5 * smooth[:, 0] + 0.5 * smooth[:, 1]
    direction = draw.normal(size, slots) * draw.chance(0.5, size, slots) * present
    along = torch.einsum("bns,bs->bn", place, direction)
    edge = along.gather(1, draw.integers(0, shape[1], size, 1))
    beyond = (along > edge) & draw.chance(0.25, size, 1)
    return (
        sped - beyond * draw.log_uniform(0.02, 1.0, size, 1),
        slowed + beyond * draw.log_uniform(0.05, 2.5, size, 1),
    )


def _of_choice(draw: Draw, index: Tensor, slot: Tensor) -> Tensor:
    """(B, N): a random number per choice of one parameter, smooth in its order or not."""
    steps = draw.normal(len(slot), MAX_CHOICES)
    walk = steps.cumsum(1) / 2
    table = torch.where(draw.chance(0.5, len(slot), 1), steps, walk - walk[:, :1])
    which = index.gather(2, slot[:, None, None].expand(-1, index.shape[1], 1))[..., 0]
    return table.gather(1, which)


def _price(draw: Draw, space: SpaceBuilder, price: Tensor) -> Tensor:
    """Log prices: mostly what it costs; sometimes something else by choice, the same for all, or not known."""
    size = len(price)
    kind = draw.uniform(0, 1, size, 1)
    found = price.clamp(min=1e-9).log()
    other = torch.zeros_like(found)
    for _ in range(2):
        other = other + _of_choice(draw, space.index, draw.integers(0, len(space.slots), size))
    other = other * draw.log_uniform(0.05, 1.0, size, 1)
    found = torch.where(kind < 0.05, other, torch.where(kind < 0.09, found + other * 0.5, found))
    found = torch.where((kind > 0.9) & (kind < 0.96), 0.0, found)
    found = torch.where(kind > 0.975, torch.nan, found)
    rough = draw.chance(0.04, size, 1)
    return found + rough * 0.1 * draw.normal(*price.shape)


assert len(MEASURED) == 8  # noqa: S101 (the columns above)
