"""Made-up servers, a batch at a time: rates, latencies, memory and prices by how servers work, constants drawn widely.

- `language`: prefill and decoding, a cache that limits how many sequences run, tensor and pipeline parallel.
- `diffusion`: few long steps, split over GPUs in two ways that cost different communication.
- `anything`: no server: sums, products and steps over choices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.search.draw import Draw
from training.search.hardware import accelerators, core_price
from training.search.knobs import Knobs
from training.search.spaces import MAX_CHOICES, SpaceBuilder
from training.search.truth import Served, Services, constrained, services, unknown_physics

_POWERS = [1.0, 2, 4, 8, 16]


def language(draw: Draw, size: int, configurations: int) -> Services:
    """A server of a language model: every step moves all weights and the caches of the sequences that run."""
    space = SpaceBuilder(draw, size)
    column = [size, 1]
    accelerator = accelerators(draw, space, torch.full((size,), 0.7, device=draw.device), several=0.5)
    tensor_slot = space.listed("tensor_parallel", 0.3, [_POWERS[:4], [1, 2, 3, 4], [2, 4, 8]])
    pipeline_slot = space.listed("pipeline_parallel", 0.12, [_POWERS[:3], [1, 2, 3, 4]])
    batch_slot = space.numbers("batch_size", 0.5, 1, 512, max_values=10)
    queue_slot = space.numbers("concurrency", 0.4, 1, 512, max_values=12, linear=0.25)
    share_slot = space.listed("gpu_memory_share", 0.15, [[0.7, 0.8, 0.9, 0.95], [0.5, 0.9], [0.3, 0.5, 0.7, 0.9]])
    bits_slot = space.listed("precision", 0.25, [[4, 8, 16], [8, 16], [16, 32]])
    chunk_slot = space.numbers("", 0.2, 128, 8192, max_values=6)
    knobs = Knobs(space, 0.2, ("engine", 0.35))
    valid = space.configurations(configurations)

    tensor = space.value(tensor_slot, 1.0) * torch.where(space.has(tensor_slot), 1.0, accelerator.gpus())
    copies = torch.where(space.has(tensor_slot), accelerator.gpus(), 1.0)
    pipeline = space.value(pipeline_slot, 1.0)
    bits = space.value(bits_slot, 16.0)
    asked = torch.where(space.has(queue_slot), space.value(queue_slot, 1.0), draw.log_uniform(16, 512, *column))
    running = torch.minimum(asked, space.value(batch_slot, 1e6))
    running = torch.minimum(running, torch.where(space.has(batch_slot), 1e6, draw.log_uniform(32, 512, *column)))
    billions, context = draw.log_uniform(0.3, 180, *column), draw.log_uniform(64, 16_000, *column)
    out = draw.log_uniform(4, 1500, *column)
    weights = billions * bits / 8
    cache = context * billions * 2e-5 * draw.log_uniform(0.05, 3, *column)
    gib = accelerator.gib() * tensor * pipeline * space.value(share_slot, 0.9)
    room = (gib - weights * draw.uniform(1, 1.3, *column)) * knobs.other(0.2).exp()
    fitting = (room / cache).clamp(min=0)
    swaps = (running / fitting.clamp(min=0.3)).clamp(min=1) ** draw.uniform(0, 0.6, *column)
    admitted = torch.minimum(running, fitting.clamp(min=1e-3))
    bandwidth = (
        accelerator.bandwidth() * 1000 * tensor ** draw.uniform(0.5, 1, *column) * draw.uniform(0.4, 0.9, *column)
    )
    flops = accelerator.strength(torch.ones_like(tensor)) * 1e5 * tensor ** draw.uniform(0.5, 1, *column) * 0.5
    talk = (tensor > 1) * tensor.log2() * draw.log_uniform(1e-4, 1e-2, *column) * accelerator.odd()
    overhead = draw.log_uniform(5e-4, 3e-2, *column) * (1 + (pipeline - 1) * draw.uniform(0, 0.5, *column))
    quick = torch.where(bits < 16, draw.uniform(0.7, 1.6, *column), 1.0)
    step = torch.maximum((weights + cache * admitted) / bandwidth, 2 * billions * admitted / flops) * quick
    step = (step + talk) * pipeline ** draw.uniform(-0.1, 0.3, *column) + overhead
    chunk = space.value(chunk_slot, 512.0)
    ripple = 1 + draw.uniform(0, 0.4, *column) * (chunk / draw.log_uniform(256, 4096, *column)).log2().abs() / 4
    prefill = 2 * billions * context / flops * ripple * draw.log_uniform(0.2, 2, *column)
    speed = knobs.effect().exp()
    step, prefill = step / speed * swaps, prefill / speed
    answer = step * out + prefill * (1 + admitted * draw.uniform(0, 1, *column))
    rate = admitted / answer * pipeline ** draw.uniform(0.2, 0.9, *column) * copies
    gap = step + prefill * admitted / out * draw.uniform(0.1, 1, *column)
    waits = torch.where(draw.chance(0.5, *column), (asked / admitted.clamp(min=1e-3)).clamp(min=1), 1.0)
    latency = torch.where(draw.chance(0.5, *column), gap, answer) * waits
    gpus = tensor * pipeline * copies
    core, fixed = core_price(draw, *column)
    none = torch.full_like(rate, torch.nan)
    served = Served(
        rate, latency, step + prefill / out, torch.where(room < cache, 1.5, (weights + admitted * cache) / gib), none,
        none.nan_to_num(0.3), torch.zeros_like(valid), accelerator.price(alone=True) * gpus + 4 * core + fixed,
        accelerator.physics(torch.ones_like(rate), torch.ones_like(rate), torch.ones_like(valid), none, none),
    )  # fmt: skip
    return constrained(draw, services(draw, space, valid, served), gpus, draw.one_of([2, 4, 8, 16, 64], None, *column))


def diffusion(draw: Draw, size: int, configurations: int) -> Services:
    """A server of a diffusion model: all steps of a batch, each split over GPUs by heads or around a ring."""
    space = SpaceBuilder(draw, size)
    column = [size, 1]
    accelerator = accelerators(draw, space, torch.full((size,), 0.8, device=draw.device), several=0.15)
    ways = [
        space.listed("sequence_parallel", 0.7, [_POWERS[:4], _POWERS[:3], _POWERS[:2]]),
        space.listed("", 0.6, [_POWERS[:4], _POWERS[:2]]),
        space.listed("tensor_parallel", 0.15, [_POWERS[:4], _POWERS[:2]]),
    ]  # fmt: skip
    batch_slot = space.numbers("batch_size", 0.9, 1, 64, max_values=7)
    steps_slot = space.numbers("", 0.1, 4, 50, max_values=5)
    knobs = Knobs(space, 0.2, ("engine", 0.15))
    valid = space.configurations(configurations)

    batch = space.value(batch_slot, 1.0)
    degrees = [space.value(way, 1.0) for way in ways]
    split = torch.stack(degrees).prod(0)
    item_s = 10 ** draw.uniform(-2, 2, *column)
    strength = accelerator.strength(torch.ones_like(batch))
    fills = (batch / split * strength) ** -draw.uniform(0, 0.25, *column)  # small pieces do not fill a GPU
    compute = item_s * batch / strength / split ** draw.uniform(0.75, 1.0, *column) * fills.clamp(0.7, 3)
    talk = torch.stack([
        (one > 1) * one ** draw.uniform(0, 0.8, *column) * batch ** draw.uniform(0.5, 1, *column)
        * item_s * draw.log_uniform(0.002, 0.3, *column) * accelerator.odd() for one in degrees
    ]).sum(0)  # fmt: skip
    fixed_s = item_s * draw.log_uniform(0.001, 0.3, *column)
    steps = space.value(steps_slot, 20.0) / 20
    latency = ((compute + talk) * steps + fixed_s) / knobs.effect().exp()
    rate = batch / latency * accelerator.gpus() ** draw.uniform(0.8, 1, *column)
    model, each = draw.log_uniform(2, 60, *column), draw.log_uniform(0.2, 20, *column)
    need = (model / split ** draw.one_of([0, 0, 1], None, *column) + each * batch / split) / accelerator.gib()
    core, fixed = core_price(draw, *column)
    none = torch.full_like(rate, torch.nan)
    gpus = split * accelerator.gpus()
    served = Served(
        rate, latency, latency / batch**0.5, need, none, none.nan_to_num(0.2), torch.zeros_like(valid),
        accelerator.price(alone=True) * gpus + core + 0.1 * fixed,
        accelerator.physics(torch.ones_like(rate), torch.ones_like(rate), torch.ones_like(valid), none, none),
    )  # fmt: skip
    return constrained(draw, services(draw, space, valid, served), split, draw.one_of([4, 8, 8, 16], None, *column))


def anything(draw: Draw, size: int, configurations: int) -> Services:
    """No server: effects of single choices, of pairs, and steps; throughput and latency are related or not."""
    space = SpaceBuilder(draw, size)
    column = [size, 1]
    roles = ("cpu_cores", "batch_size", "threads", "workers", "", "gpu_memory", "concurrency")
    slots = [space.numbers(role, 0.4, 1, 64, max_values=16, zero=0.1, linear=0.5) for role in roles]
    slots += [
        space.categories(role, chance, 12) for role, chance in (("", 0.3), ("engine", 0.2), ("instance_type", 0.3))
    ]
    valid = space.configurations(configurations)
    stages = [torch.zeros(valid.shape, device=draw.device) for _ in range(2)]
    latency, price = torch.zeros_like(stages[0]), torch.zeros_like(stages[0])
    for slot in slots:
        categorical = space.slots[slot].categorical
        effect, first = space.chosen(slot, _curve(draw, size, categorical, 1.0)), draw.chance(0.5, *column)
        stages = [stages[0] + effect * first, stages[1] + effect * ~first]
        latency = latency + space.chosen(slot, _curve(draw, size, categorical, 1.0))
        price = price + space.chosen(slot, _curve(draw, size, categorical, 0.7))
    # A chain is as fast as its slower stage: what speeds up one helps only together with what speeds up the other.
    sharp, apart = draw.log_uniform(1.5, 12, *column), draw.normal(*column) * 0.5
    slower = -torch.logaddexp(-sharp * stages[0], -sharp * (stages[1] + apart)) / sharp
    logs = torch.where(draw.chance(0.4, *column), slower, stages[0] + stages[1])
    along = draw.uniform(-1, 1, *column)
    latency = latency * draw.uniform(0, 1, *column) - along * logs
    _, fixed = core_price(draw, *column)
    need = latency - draw.uniform(0, 3, *column) * latency.std(1, keepdim=True) + 1
    need = torch.where(draw.chance(0.7, *column), 0.5, need)
    none = torch.full_like(logs, torch.nan)
    served = Served(
        logs.clamp(-12, 12).exp(), latency.clamp(-12, 12).exp(), latency.clamp(-12, 12).exp() / 2, need, none,
        none.nan_to_num(0.5), torch.zeros_like(valid), price.clamp(-6, 6).exp() + fixed, unknown_physics(valid),
    )  # fmt: skip
    return services(draw, space, valid, served)


def _curve(draw: Draw, size: int, categorical: bool, scale: float) -> Tensor:
    """(B, MAX_CHOICES): what each choice of a parameter does, in logs."""
    strength = scale * draw.log_uniform(0.02, 1.2, size, 1) * ~draw.chance(0.15, size, 1)
    if categorical:
        return draw.heavy(size, MAX_CHOICES) * strength
    steps = draw.normal(size, MAX_CHOICES)
    walk = (steps * 0.5 + draw.normal(size, 1) * 0.4).cumsum(1)
    x = torch.arange(MAX_CHOICES, device=draw.device) / draw.uniform(2, 16, size, 1)
    peak = -((x - draw.uniform(0, 1.3, size, 1)).abs() ** draw.uniform(1, 2, size, 1)) * 3
    saturating = 2 * (1 - (-3 * x).exp()) * draw.normal(size, 1)
    kind = draw.uniform(0, 1, size, 1)
    found = torch.where(
        kind < 0.35, walk, torch.where(kind < 0.6, peak, torch.where(kind < 0.85, saturating, steps * 0.6))
    )
    return (found - found[:, :1]) * strength
