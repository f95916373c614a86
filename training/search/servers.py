"""Made-up servers, a batch at a time: rates, latencies, memory and prices by how servers work, constants drawn widely.

- `batching`: batches on CPU cores, on shares of a GPU, on several GPUs or instance types, by several workers.
- `language`: prefill and decoding, a cache that limits how many sequences run, tensor and pipeline parallel.
- `diffusion`: few long steps, split over GPUs in two ways that cost different communication.
- `anything`: no server: sums, products and steps over choices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.search.draw import Draw
from training.search.hardware import Accelerator, accelerators, core_price, slices
from training.search.spaces import MOST_CHOICES, SpaceBuilder
from training.search.truth import Served, Services, services, unknown_physics

_POWERS = [1.0, 2, 4, 8, 16]


def soft_min(one: Tensor, other: Tensor, sharp: Tensor) -> Tensor:
    """The slower of two stages, with a corner that is more or less round."""
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    ratio = (low / high.clamp(min=1e-30)).clamp(0, 1)
    return low * (1 + ratio**sharp) ** (-1 / sharp)


class _Knobs:
    """Parameters that nobody told the meaning of: up to three categories and three ordered ones, with effects on speed
    that reach from nothing to tenfold.
    """

    def __init__(self, space: SpaceBuilder, chance: float, named: tuple[str, float] = ("", 0.0)) -> None:
        self._space, draw, size = space, space.draw, space.size
        self._slots = [space.categories(named[0], named[1], 5)] if named[0] else []
        self._slots += [space.categories(role, chance / 2, 6) for role in ("", "compile")]
        self._ordered = [space.numbers("", chance / 2, 1, 64, zero=0.2) for _ in range(2)]
        strength = draw.log_uniform(0.03, 1.3, size, 1)
        self.effects = {slot: draw.heavy(size, MOST_CHOICES) * strength for slot in self._slots}
        for slot in self._ordered:
            walk = draw.normal(size, MOST_CHOICES).cumsum(1) * draw.log_uniform(0.02, 0.5, size, 1)
            self.effects[slot] = walk - walk[:, :1]

    def effect(self) -> Tensor:
        """(B, N): in logs."""
        return torch.stack([self._space.chosen(slot, each) for slot, each in self.effects.items()]).sum(0)

    def other(self, share: float = 1.0) -> Tensor:
        """Another effect of the categories alone, such as on what a batch saves, or on memory."""
        draw, space = self._space.draw, self._space
        each = [space.chosen(slot, draw.normal(space.size, MOST_CHOICES)) for slot in self._slots]
        return torch.stack(each).sum(0) * share * draw.log_uniform(0.03, 1.0, space.size, 1)


def batching(draw: Draw, size: int, configurations: int) -> Services:
    """A server that computes batches."""
    space = SpaceBuilder(draw, size)
    kind = draw.uniform(0, 1, size)  # CPU, GPU, shares of a GPU or none, instance types
    on_cpu, hybrid, by_instance = kind < 0.3, (kind > 0.3) & (kind < 0.42), kind > 0.85
    cores_slot = space.numbers("cpu_cores", 0.7, 1, 64, most=16, linear=0.5)
    batch_slot = space.numbers("batch_size", 0.75, 1, 512, most=11, zero=0.05)
    workers_slot = space.numbers(("workers", "instances")[int(draw.integers(0, 2, 1))], 0.4, 1, 16, most=8, linear=0.5)
    threads_slot = space.numbers("threads", 0.3, 1, 64, most=16, zero=0.1, linear=0.4)
    spread_slot = space.numbers("threads", 0.1, 1, 32, most=16, linear=0.5)
    queue_slot = space.numbers("concurrency", 0.3, 1, 256, most=17, linear=0.5)
    delay_slot = space.listed("batch_delay", 0.15, [[0, 1, 2, 5, 10, 20, 50], [0.5, 1, 5, 10, 100], [0, 5, 20, 100]])
    memory_slot = space.numbers("memory", 0.12, 1, 64, most=6)
    bits_slot = space.listed("precision", 0.12, [[8, 16, 32], [16, 32], [4, 8, 16]])
    copies_slot = space.numbers("replicas", 0.06, 1, 4, most=4, linear=1.0)
    power_slot = space.listed("power_cap", 0.07, [[100, 150, 200, 250, 300, 350, 400], [40, 60, 70], [150, 300]])
    accelerator = accelerators(draw, space, 0.5 * (~on_cpu) * (~by_instance), several=0.25 * (~on_cpu))
    shared = slices(draw, space, torch.where(hybrid, 1.0, 0.45 * (~on_cpu)), hybrid)
    instance_slot = space.add(
        "instance_type" if draw.generator.initial_seed() % 2 else "",
        torch.arange(MOST_CHOICES, device=draw.device).float().expand(size, -1),
        draw.integers(3, 13, size), by_instance, categorical=True,
    )  # fmt: skip
    for slot in (workers_slot, threads_slot, spread_slot, memory_slot, copies_slot):
        space.slots[slot].present &= ~by_instance | draw.chance(0.3, size)
    space.slots[cores_slot].present &= ~by_instance
    knobs = _Knobs(space, 0.3, ("engine", 0.25))
    valid = space.configurations(configurations)

    column = [size, 1]
    machine_cores = draw.log_uniform(1, 64, size, MOST_CHOICES)
    machine_gpu = draw.chance(draw.uniform(0, 1, size, 1), size, MOST_CHOICES)
    machine_speed = (draw.heavy(size, MOST_CHOICES) * draw.log_uniform(0.1, 1.0, *column)).exp()
    is_machine = space.has(instance_slot)
    cores = torch.where(is_machine, space.chosen(instance_slot, machine_cores), space.value(cores_slot, 4.0))
    batch = space.value(batch_slot, 1.0).clamp(min=1)
    workers = space.value(workers_slot, 1.0)
    threads = space.value(threads_slot, 0.0)
    threads = torch.where(threads > 0, threads, cores)
    gib = space.value(memory_slot, 1e6)
    bits, copies = space.value(bits_slot, 16.0), space.value(copies_slot, 1.0)
    effect, eager = knobs.effect(), knobs.other(0.3)
    share, held = shared.compute(), shared.memory_of()
    on_gpu = torch.where(
        is_machine, space.chosen(instance_slot, machine_gpu.float()) > 0, ~on_cpu[:, None] & (share > 0)
    )

    # How many requests are under way, and so how large batches are.
    own_limit = draw.log_uniform(1, 256, *column)
    queue = space.value(queue_slot, 0.0)
    queued = space.has(queue_slot)
    cap = torch.where(space.has(batch_slot), batch, torch.where(queued, own_limit, 1.0))
    under_way = torch.where(queued, queue, workers * cap)
    batch = torch.minimum(cap, (under_way / workers).clamp(min=1))

    item_s = 10 ** draw.uniform(-4.5, -1, *column)
    gpu = accelerator.strength(share)
    alone_gpu, busy_gpu, gpus = _on_gpu(draw, accelerator, gpu, batch, workers, bits, item_s, eager, held)
    alone_cpu, busy_cpu = _on_cpu(draw, cores, threads, space.value(spread_slot, 1.0), batch, workers, item_s, eager)
    slower = torch.where(on_cpu[:, None], 1.0, draw.log_uniform(2, 300, *column))
    alone = torch.where(on_gpu, alone_gpu, alone_cpu * slower)
    busy = torch.where(on_gpu, busy_gpu, busy_cpu * slower)
    overlap = torch.where(draw.chance(0.5, *column), draw.uniform(0.85, 1, *column), draw.uniform(0.2, 1, *column))
    sharp = draw.log_uniform(1.5, 12, *column)
    rate = soft_min(workers**overlap * batch / alone, batch / busy, sharp) * gpus
    prepared = cores * rate.median(1, keepdim=True).values * draw.log_uniform(0.03, 30, *column)
    rate_all = torch.where(on_gpu, soft_min(rate, prepared, sharp), rate)
    by_cores = torch.where(on_gpu, prepared < rate, alone_cpu.isfinite())
    speed = effect.exp() * torch.where(is_machine, space.chosen(instance_slot, machine_speed), 1.0)
    speed = speed * _clocked(draw, space, power_slot)
    delay = space.value(delay_slot, 0.0) / 20 * alone.median(1, keepdim=True).values * draw.log_uniform(0.05, 5, *column)
    delay = torch.where(batch > 1, delay, 0.0)
    gathers = 1 + draw.uniform(0, 0.5, *column) * (batch > 1) * (space.value(delay_slot, 0.0) / 10).clamp(max=1)
    rate_all = rate_all * speed * gathers
    alone = alone / speed.clamp(min=1e-6) ** draw.uniform(0.3, 1, *column)
    latency = torch.maximum(alone, under_way * gpus / rate_all.clamp(min=1e-12)) + delay
    latency = torch.where(draw.chance(0.3, *column), alone * draw.uniform(1, 2, *column) + delay, latency)
    model, each = draw.log_uniform(0.1, 20, *column), draw.log_uniform(0.001, 0.5, *column)
    need = (model * workers ** draw.one_of([0, 1, 1], None, *column) + each * batch * workers) * (bits / 16)
    need = need * knobs.other(0.3).exp() / torch.where(on_gpu, accelerator.gib() * held.clamp(min=1e-3), gib)
    need = torch.where(draw.chance(0.4, *column), need.clamp(max=0.9), need)
    fails = (~on_gpu & ~on_cpu[:, None] & ~is_machine) & draw.chance(0.4, *column)  # without a GPU nothing runs
    core, fixed = core_price(draw, *column)
    parts = core * cores + 0.005 * torch.where(gib < 1e5, gib, 0.0) + accelerator.price() * shared.paid() * on_gpu + fixed
    odd = (draw.heavy(size, MOST_CHOICES) * draw.log_uniform(0.05, 1.2, *column)).exp()
    by_machine = core.clamp(min=0.01) * cores + torch.where(on_gpu, draw.log_uniform(0.3, 4, *column), 0.0)
    price = torch.where(is_machine, by_machine * space.chosen(instance_slot, odd, 1.0), parts) * copies
    use = torch.where(on_gpu, (rate_all * busy / batch).clamp(0, 1), torch.nan)
    told = on_gpu & (~is_machine | draw.chance(0.5, *column))
    known_cores = torch.where(is_machine | space.has(cores_slot), cores, torch.nan)
    known_gib = torch.where(is_machine, cores * space.chosen(instance_slot, draw.one_of([2, 4, 8], None, size, MOST_CHOICES)),
                            torch.where(gib < 1e5, gib, torch.nan))  # fmt: skip
    physics = accelerator.physics(share, held, told, known_cores, known_gib)
    served = Served(
        rate_all * copies, latency, alone / batch ** draw.uniform(0.3, 1, *column), need, use,
        torch.where(by_cores, 0.95, 0.4), fails, price, physics,
    )  # fmt: skip
    return services(draw, space, valid, served)


def _clocked(draw: Draw, space: SpaceBuilder, slot: int) -> Tensor:
    """Speed under a power cap: it falls below some of it, slowly first."""
    cap = space.value(slot, 1.0)
    share = cap / cap.amax(1, keepdim=True)
    return (share / draw.uniform(0.4, 1, space.size, 1)).clamp(max=1) ** draw.uniform(0.2, 1, space.size, 1)


def _on_gpu(
    draw: Draw, accelerator: Accelerator, strength: Tensor, batch: Tensor, workers: Tensor, bits: Tensor, item_s: Tensor,
    eager: Tensor, held: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Seconds of a batch alone and of the GPU's time, and by how much several GPUs multiply the rate."""
    column = [len(item_s), 1]
    gpus = accelerator.gpus()
    splits = draw.chance(0.4, *column)  # the model is split over the GPUs, which speeds one batch up
    scaling = gpus ** torch.where(draw.chance(0.6, *column), draw.uniform(0.7, 1, *column), draw.uniform(-0.2, 0.8, *column))
    strength = torch.where(splits, strength * scaling, strength).clamp(min=1e-4)
    bandwidth = (accelerator.bandwidth() * held.clamp(min=1e-3)).clamp(min=1e-4)
    overhead = item_s * draw.log_uniform(0.05, 30, *column) * (1 + splits * (gpus > 1) * draw.log_uniform(0.01, 3, *column))
    half = draw.log_uniform(0.5, 64, *column)
    speed = (bits / 16) ** draw.uniform(0.2, 1.0, *column)
    full = item_s * batch ** (1 - 0.3 * eager.clamp(-1, 1)) / strength ** draw.uniform(0.5, 1.1, *column) * speed
    moved = item_s * draw.uniform(0, 3, *column) / bandwidth * speed * (0.3 + 0.7 * batch ** draw.uniform(0.2, 1, *column))
    floor = item_s * half * speed * batch ** draw.uniform(0, 0.4, *column) * draw.chance(0.8, *column)
    alone = overhead + torch.maximum(torch.maximum(full, moved), floor)
    busy = torch.maximum(full, moved) + overhead * draw.uniform(0, 0.4, *column)
    fight = 1 + draw.uniform(0, 0.15, *column) * (workers - 1)
    return alone * fight, busy * fight, torch.where(splits, torch.ones_like(scaling), scaling)


def _on_cpu(
    draw: Draw, cores: Tensor, threads: Tensor, spread: Tensor, batch: Tensor, workers: Tensor, item_s: Tensor, eager: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same on cores: threads share one batch's work, workers take a batch each, too many of both fight."""
    column = [len(item_s), 1]
    overhead = item_s * draw.log_uniform(0.02, 10, *column)
    serial = draw.log_uniform(0.005, 0.5, *column)
    running = torch.minimum(threads, cores).clamp(min=0.25)
    coherent = draw.log_uniform(1e-4, 3e-2, *column)  # what each pair of threads costs (Gunther's kappa)
    faster = running / (1 + serial * (running - 1) + coherent * running * (running - 1).clamp(min=0))
    fight = (workers * threads * spread / cores).clamp(min=1) ** draw.uniform(0, 0.8, *column)
    work = item_s * batch ** (draw.uniform(0.7, 1.1, *column) - 0.2 * eager.clamp(-1, 1))
    # A batch below the threads leaves some idle; one beyond the cache is slow.
    idle = (running / batch).clamp(min=1) ** draw.uniform(0, 0.6, *column)
    spill = 1 + draw.uniform(0, 1, *column) * (batch > draw.log_uniform(4, 512, *column))
    helped = spread ** draw.uniform(-0.2, 0.3, *column)
    alone = (overhead + work / faster * idle * spill / helped) * fight
    busy = (overhead * draw.uniform(0.2, 1, *column) + work * spill * (1 + serial * running)) / cores * fight
    return alone, busy


def language(draw: Draw, size: int, configurations: int) -> Services:
    """A server of a language model: every step moves all weights and the caches of the sequences that run."""
    space = SpaceBuilder(draw, size)
    column = [size, 1]
    accelerator = accelerators(draw, space, torch.full((size,), 0.7, device=draw.device), several=0.5)
    tensor_slot = space.listed("tensor_parallel", 0.3, [_POWERS[:4], [1, 2, 3, 4], [2, 4, 8]])
    pipeline_slot = space.listed("pipeline_parallel", 0.12, [_POWERS[:3], [1, 2, 3, 4]])
    batch_slot = space.numbers("batch_size", 0.5, 1, 512, most=10)
    queue_slot = space.numbers("concurrency", 0.4, 1, 512, most=12, linear=0.25)
    share_slot = space.listed("gpu_memory_share", 0.15, [[0.7, 0.8, 0.9, 0.95], [0.5, 0.9], [0.3, 0.5, 0.7, 0.9]])
    bits_slot = space.listed("precision", 0.25, [[4, 8, 16], [8, 16], [16, 32]])
    chunk_slot = space.numbers("", 0.2, 128, 8192, most=6)
    knobs = _Knobs(space, 0.2, ("engine", 0.35))
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
    bandwidth = accelerator.bandwidth() * 1000 * tensor ** draw.uniform(0.5, 1, *column) * draw.uniform(0.4, 0.9, *column)
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
    return _kept(draw, services(draw, space, valid, served), gpus, draw.one_of([2, 4, 8, 16, 64], None, *column))


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
    batch_slot = space.numbers("batch_size", 0.9, 1, 64, most=7)
    steps_slot = space.numbers("", 0.1, 4, 50, most=5)
    knobs = _Knobs(space, 0.2, ("engine", 0.15))
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
    return _kept(draw, services(draw, space, valid, served), split, draw.one_of([4, 8, 8, 16], None, *column))


def _kept(draw: Draw, made: Services, size: Tensor, most: Tensor) -> Services:
    """Without the configurations that a constraint forbids, such as `tensor * pipeline <= 8`; in some spaces."""
    allowed = (size <= most) | draw.chance(0.3, len(size), 1)
    valid = made.spaces.valid & torch.where((allowed & made.spaces.valid).sum(1, keepdim=True) >= 8, allowed, True)
    return made._replace(
        spaces=made.spaces._replace(valid=valid), log_capacity=torch.where(valid, made.log_capacity, torch.nan)
    )


def anything(draw: Draw, size: int, configurations: int) -> Services:
    """No server: effects of single choices, of pairs, and steps; throughput and latency are related or not."""
    space = SpaceBuilder(draw, size)
    column = [size, 1]
    roles = ("cpu_cores", "batch_size", "threads", "workers", "", "gpu_memory", "concurrency")
    slots = [space.numbers(role, 0.4, 1, 64, most=16, zero=0.1, linear=0.5) for role in roles]
    slots += [space.categories(role, chance, 12) for role, chance in (("", 0.3), ("engine", 0.2), ("instance_type", 0.3))]
    valid = space.configurations(configurations)
    logs = torch.zeros(valid.shape, device=draw.device)
    latency, price = torch.zeros_like(logs), torch.zeros_like(logs)
    for slot in slots:
        categorical = space.slots[slot].categorical
        for number, figure in enumerate((logs, latency, price)):
            figure += space.chosen(slot, _curve(draw, size, categorical, 1.0 if number < 2 else 0.7))
    along = draw.uniform(-1, 1, *column)
    latency = latency * draw.uniform(0, 1, *column) - along * logs
    core, fixed = core_price(draw, *column)
    need = latency - draw.uniform(0, 3, *column) * latency.std(1, keepdim=True) + 1
    need = torch.where(draw.chance(0.7, *column), 0.5, need)
    none = torch.full_like(logs, torch.nan)
    served = Served(
        logs.clamp(-12, 12).exp(), latency.clamp(-12, 12).exp(), latency.clamp(-12, 12).exp() / 2, need, none,
        none.nan_to_num(0.5), torch.zeros_like(valid), price.clamp(-6, 6).exp() + fixed, unknown_physics(valid),
    )  # fmt: skip
    return services(draw, space, valid, served)


def _curve(draw: Draw, size: int, categorical: bool, scale: float) -> Tensor:
    """(B, MOST_CHOICES): what each choice of a parameter does, in logs."""
    strength = scale * draw.log_uniform(0.02, 1.2, size, 1) * ~draw.chance(0.15, size, 1)
    if categorical:
        return draw.heavy(size, MOST_CHOICES) * strength
    steps = draw.normal(size, MOST_CHOICES)
    walk = (steps * 0.5 + draw.normal(size, 1) * 0.4).cumsum(1)
    x = torch.arange(MOST_CHOICES, device=draw.device) / draw.uniform(2, 16, size, 1)
    peak = -(x - draw.uniform(0, 1.3, size, 1)).abs() ** draw.uniform(1, 2, size, 1) * 3
    saturating = 2 * (1 - (-3 * x).exp()) * draw.normal(size, 1)
    kind = draw.uniform(0, 1, size, 1)
    found = torch.where(kind < 0.35, walk, torch.where(kind < 0.6, peak, torch.where(kind < 0.85, saturating, steps * 0.6)))
    return (found - found[:, :1]) * strength
