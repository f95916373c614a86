"""Made-up servers that compute batches: on CPU cores, on shares of a GPU, on several GPUs, on instance types.

Requests are prepared on cores, wait for a batch, and are computed by one of several workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.search.draw import Draw
from training.search.hardware import Accelerator, GpuShares, accelerators, core_price, slices
from training.search.knobs import Knobs
from training.search.spaces import MAX_CHOICES, SpaceBuilder
from training.search.truth import Served, Services, constrained, services

_FULL = 0.35  # of the services have all parameters that a container's spec usually has, with few choices each
_SINGLE_THREADED = 0.35  # where nothing says how many threads there are: as of an interpreter with a global lock


def soft_min(one: Tensor, other: Tensor, sharp: Tensor) -> Tensor:
    """The slower of two stages, with a corner that is more or less round."""
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    ratio = (low / high.clamp(min=1e-30)).clamp(0, 1)
    return low * (1 + ratio**sharp) ** (-1 / sharp)


@dataclass(frozen=True)
class _Parameters:
    """Numbers of the slots, and what is chosen by them together."""

    cores: int
    batch: int
    workers: int
    threads: int
    spread: int
    queue: int
    delay: int
    memory: int
    bits: int
    copies: int
    power: int
    instance: int


@dataclass(frozen=True)
class _Hardware:
    """Accelerator and shares of it; instance types' cores, GPUs and speeds; which services (B,) have no GPU at all."""

    accelerator: Accelerator
    shared: GpuShares
    machine_cores: Tensor
    machine_gpu: Tensor
    machine_speed: Tensor
    on_cpu: Tensor


@dataclass(frozen=True)
class _GivenGpu:
    """Shares of its compute and of its memory, and whether there is one at all."""

    share: Tensor
    held: Tensor
    used: Tensor


@dataclass(frozen=True)
class _Given:
    """What a server feels of each configuration, (B, N) each."""

    cores: Tensor
    threads: Tensor
    spread: Tensor
    workers: Tensor
    batch: Tensor
    under_way: Tensor
    bits: Tensor
    gib: Tensor
    gpu: _GivenGpu
    is_machine: Tensor
    eager: Tensor


def batching(draw: Draw, size: int, configurations: int) -> Services:
    """A server that computes batches."""
    space = SpaceBuilder(draw, size)
    parameters, hardware, knobs = _declared(draw, space)
    valid = space.configurations(configurations)
    given = _given(draw, space, parameters, hardware, knobs.other(0.3))
    alone, busy, gpus, by_cpu = _batch_times(draw, given, hardware)
    rate, by_cores = _rate(draw, given, alone, busy, gpus, by_cpu)
    speed = knobs.effect().exp() * _clocked(draw, space, parameters.power)
    speed = speed * torch.where(given.is_machine, space.chosen(parameters.instance, hardware.machine_speed), 1.0)
    column = [size, 1]
    waits = space.value(parameters.delay, 0.0)
    delay = waits / 20 * alone.median(1, keepdim=True).values * draw.log_uniform(0.05, 5, *column)
    delay = torch.where(given.batch > 1, delay, 0.0)
    gathers = 1 + draw.uniform(0, 0.5, *column) * (given.batch > 1) * (waits / 10).clamp(max=1)
    rate = rate * speed * gathers
    alone = alone / speed.clamp(min=1e-6) ** draw.uniform(0.3, 1, *column)
    latency = torch.maximum(alone, given.under_way * gpus / rate.clamp(min=1e-12)) + delay
    latency = torch.where(draw.chance(0.3, *column), alone * draw.uniform(1, 2, *column) + delay, latency)
    copies = space.value(parameters.copies, 1.0)
    # Where there is no GPU, nothing may run at all.
    fails = ~given.gpu.used & ~hardware.on_cpu[:, None] & ~given.is_machine & draw.chance(0.4, *column)
    served = Served(
        rate * copies, latency, alone / given.batch ** draw.uniform(0.3, 1, *column),
        _need(draw, given, hardware) * knobs.other(0.3).exp(),
        torch.where(given.gpu.used, (rate * busy / given.batch).clamp(0, 1), torch.nan),
        torch.where(by_cores, 0.95, 0.4), fails, _price(draw, space, parameters, given, hardware) * copies,
        _physics(draw, space, parameters, given, hardware),
    )  # fmt: skip
    made = services(draw, space, valid, served)
    together = given.threads * given.workers / given.cores
    return constrained(draw, made, together, draw.one_of([1, 1, 2, 4], None, *column))


def _declared(draw: Draw, space: SpaceBuilder) -> tuple[_Parameters, _Hardware, Knobs]:
    """All parameters that there may be; about a third of the services have no GPU, some shares of one from none on."""
    size = space.size
    kind, full = draw.uniform(0, 1, size), draw.chance(_FULL, size)
    on_cpu, by_instance = kind < torch.where(full, 0.6, 0.3), kind > 0.85
    hybrid = ~on_cpu & (kind < 0.42)
    copies = "workers" if draw.generator.initial_seed() % 3 else "instances"
    machines = "instance_type" if draw.generator.initial_seed() % 2 else ""
    numbers = torch.arange(MAX_CHOICES, device=draw.device).float().expand(size, -1)
    parameters = _Parameters(
        cores=space.numbers("cpu_cores", 0.7, 1, 64, max_values=16, linear=0.5),
        batch=space.numbers("batch_size", 0.75, 1, 512, max_values=11, zero=0.05),
        workers=space.numbers(copies, 0.4, 1, 16, max_values=8, linear=0.5),
        threads=space.numbers("threads", 0.3, 1, 64, max_values=16, zero=0.1, linear=0.4),
        spread=space.numbers("threads", 0.1, 1, 32, max_values=16, linear=0.5),
        queue=space.numbers("concurrency", 0.3, 1, 256, max_values=17, linear=0.5),
        delay=space.listed("batch_delay", 0.15, [[0, 1, 2, 5, 10, 20, 50], [0.5, 1, 5, 10, 100], [0, 5, 20, 100]]),
        memory=space.numbers("memory", 0.12, 1, 64, max_values=6),
        bits=space.listed("precision", 0.12, [[8, 16, 32], [16, 32], [4, 8, 16]]),
        copies=space.numbers("replicas", 0.06, 1, 4, max_values=4, linear=1.0),
        power=space.listed("power_cap", 0.07, [[100, 150, 200, 250, 300, 350, 400], [40, 60, 70], [150, 300]]),
        instance=space.add(machines, numbers, draw.integers(3, 13, size), by_instance, categorical=True),
    )
    for slot in (parameters.workers, parameters.threads, parameters.spread, parameters.memory, parameters.copies):
        space.slots[slot].present &= ~by_instance | draw.chance(0.3, size)
    _fill(space, parameters, full)
    space.slots[parameters.cores].present &= ~by_instance
    hardware = _Hardware(
        accelerators(draw, space, 0.5 * (~on_cpu) * (~by_instance), several=0.25 * (~on_cpu)),
        slices(draw, space, torch.where(hybrid, 1.0, 0.45 * (~on_cpu)), hybrid),
        draw.log_uniform(1, 64, size, MAX_CHOICES),
        draw.chance(draw.uniform(0, 1, size, 1), size, MAX_CHOICES),
        (draw.heavy(size, MAX_CHOICES) * draw.log_uniform(0.1, 1.0, size, 1)).exp(),
        on_cpu,
    )
    return parameters, hardware, Knobs(space, 0.3, ("engine", 0.25))


def _fill(space: SpaceBuilder, parameters: _Parameters, full: Tensor) -> None:
    """Gives services what most specs let a search choose: what helps only together is then all there."""
    draw, size = space.draw, space.size
    usual = {
        parameters.cores: 0.95, parameters.batch: 0.85, parameters.workers: 0.8, parameters.threads: 0.65,
        parameters.memory: 0.6, parameters.delay: 0.5,
    }  # fmt: skip
    for number, slot in enumerate(space.slots):
        if number in usual:
            slot.present = torch.where(full, draw.chance(usual[number], size), slot.present)
            slot.count = torch.where(full, torch.minimum(slot.count, draw.integers(2, 7, size)), slot.count)
        else:
            slot.present = slot.present & (~full | draw.chance(0.3, size))


def _given(
    draw: Draw, space: SpaceBuilder, parameters: _Parameters, hardware: _Hardware, eager: Tensor
) -> _Given:  # fmt: skip
    """What is under way at once decides how large batches are: the queue's limit, or a batch for each worker."""
    is_machine = space.has(parameters.instance)
    machine_cores = space.chosen(parameters.instance, hardware.machine_cores)
    cores = torch.where(is_machine, machine_cores, space.value(parameters.cores, 4.0))
    single = draw.chance(_SINGLE_THREADED, space.size, 1).float()
    workers, threads = space.value(parameters.workers, 1.0), space.value(parameters.threads, single)
    share = hardware.shared.compute()
    machine_gpu = space.chosen(parameters.instance, hardware.machine_gpu.float()) > 0
    queued = space.has(parameters.queue)
    own_limit = torch.where(queued, draw.log_uniform(1, 256, space.size, 1), 1.0)
    max_batch = torch.where(space.has(parameters.batch), space.value(parameters.batch, 1.0).clamp(min=1), own_limit)
    under_way = torch.where(queued, space.value(parameters.queue, 0.0), workers * max_batch)
    return _Given(
        cores=cores, threads=torch.where(threads > 0, threads, cores), spread=space.value(parameters.spread, 1.0),
        workers=workers, batch=torch.minimum(max_batch, (under_way / workers).clamp(min=1)), under_way=under_way,
        bits=space.value(parameters.bits, 16.0), gib=space.value(parameters.memory, 1e6),
        gpu=_GivenGpu(
            share, hardware.shared.memory_of().clamp(min=1e-3),
            torch.where(is_machine, machine_gpu, ~hardware.on_cpu[:, None] & (share > 0)),
        ),
        is_machine=is_machine, eager=eager.clamp(-1, 1),
    )  # fmt: skip


def _batch_times(draw: Draw, given: _Given, hardware: _Hardware) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Seconds of a batch alone, and of the device's time; what several GPUs multiply the rate by; seconds on cores."""
    column = [len(given.cores), 1]
    item_s = 10 ** draw.uniform(-4.5, -1, *column)
    alone_gpu, busy_gpu, gpus = _on_gpu(draw, hardware.accelerator, given, item_s)
    alone_cpu, busy_cpu = _on_cpu(draw, given, item_s)
    slower = torch.where(hardware.on_cpu[:, None], 1.0, draw.log_uniform(2, 300, *column))
    alone = torch.where(given.gpu.used, alone_gpu, alone_cpu * slower)
    return alone, torch.where(given.gpu.used, busy_gpu, busy_cpu * slower), gpus, alone_cpu


def _rate(
    draw: Draw, given: _Given, alone: Tensor, busy: Tensor, gpus: Tensor, by_cpu: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Requests/s at full load, and whether cores hold it back: workers overlap more or less, and cores prepare."""
    column = [len(alone), 1]
    overlap = torch.where(draw.chance(0.5, *column), draw.uniform(0.85, 1, *column), draw.uniform(0.2, 1, *column))
    sharp = draw.log_uniform(1.5, 12, *column)
    rate = soft_min(given.workers**overlap * given.batch / alone, given.batch / busy, sharp) * gpus
    prepared = given.cores * rate.median(1, keepdim=True).values * draw.log_uniform(0.03, 30, *column)
    held_back = torch.where(given.gpu.used, prepared < rate, by_cpu.isfinite())
    return torch.where(given.gpu.used, soft_min(rate, prepared, sharp), rate), held_back


def _need(draw: Draw, given: _Given, hardware: _Hardware) -> Tensor:
    """Memory over what there is: of the model, per worker or once, and of each item under way."""
    column = [len(given.cores), 1]
    model, each = draw.log_uniform(0.1, 20, *column), draw.log_uniform(0.001, 0.5, *column)
    shares_model = draw.one_of([0, 1, 1], None, *column)
    need = (model * given.workers**shares_model + each * given.batch * given.workers) * (given.bits / 16)
    need = need / torch.where(given.gpu.used, hardware.accelerator.gib() * given.gpu.held, given.gib)
    return torch.where(draw.chance(0.4, *column), need.clamp(max=0.9), need)


def _price(
    draw: Draw, space: SpaceBuilder, parameters: _Parameters, given: _Given, hardware: _Hardware
) -> Tensor:  # fmt: skip
    """Per hour, by its parts; that of an instance type is more or less what its parts would cost."""
    column = [space.size, 1]
    core, fixed = core_price(draw, *column)
    gpu = hardware.accelerator.price() * hardware.shared.paid() * given.gpu.used
    parts = core * given.cores + 0.005 * torch.where(given.gib < 1e5, given.gib, 0.0) + gpu + fixed
    odd = (draw.heavy(space.size, MAX_CHOICES) * draw.log_uniform(0.05, 1.2, *column)).exp()
    machine = core.clamp(min=0.01) * given.cores + torch.where(given.gpu.used, draw.log_uniform(0.3, 4, *column), 0.0)
    return torch.where(given.is_machine, machine * space.chosen(parameters.instance, odd, 1.0), parts)


def _physics(
    draw: Draw, space: SpaceBuilder, parameters: _Parameters, given: _Given, hardware: _Hardware
) -> Tensor:  # fmt: skip
    """As far as the search is told: an instance type's name may say nothing."""
    gpu_stated = given.gpu.used & (~given.is_machine | draw.chance(0.5, space.size, 1))
    cores = torch.where(given.is_machine | space.has(parameters.cores), given.cores, torch.nan)
    per_core = space.chosen(parameters.instance, draw.one_of([2, 4, 8], None, space.size, MAX_CHOICES))
    gib = torch.where(given.is_machine, given.cores * per_core, torch.where(given.gib < 1e5, given.gib, torch.nan))
    return hardware.accelerator.physics(given.gpu.share, given.gpu.held, gpu_stated, cores, gib)


def _clocked(draw: Draw, space: SpaceBuilder, slot: int) -> Tensor:
    """Speed under a power cap: it falls below some of it, slowly first."""
    cap = space.value(slot, 1.0)
    share = cap / cap.amax(1, keepdim=True)
    return (share / draw.uniform(0.4, 1, space.size, 1)).clamp(max=1) ** draw.uniform(0.2, 1, space.size, 1)


def _on_gpu(draw: Draw, accelerator: Accelerator, given: _Given, item_s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Seconds of a batch alone and of the GPU's time, and by how much several GPUs multiply the rate."""
    batch, bits, strength = given.batch, given.bits, accelerator.strength(given.gpu.share)
    column = [len(item_s), 1]
    gpus = accelerator.gpus()
    splits = draw.chance(0.4, *column)  # the model is split over the GPUs, which speeds one batch up
    scaling = gpus ** torch.where(
        draw.chance(0.6, *column), draw.uniform(0.7, 1, *column), draw.uniform(-0.2, 0.8, *column)
    )
    strength = torch.where(splits, strength * scaling, strength).clamp(min=1e-4)
    bandwidth = (accelerator.bandwidth() * given.gpu.held).clamp(min=1e-4)
    overhead = (
        item_s * draw.log_uniform(0.05, 30, *column) * (1 + splits * (gpus > 1) * draw.log_uniform(0.01, 3, *column))
    )
    half = draw.log_uniform(0.5, 64, *column)
    speed = (bits / 16) ** draw.uniform(0.2, 1.0, *column)
    full = item_s * batch ** (1 - 0.3 * given.eager) / strength ** draw.uniform(0.5, 1.1, *column) * speed
    moved = (
        item_s * draw.uniform(0, 3, *column) / bandwidth * speed * (0.3 + 0.7 * batch ** draw.uniform(0.2, 1, *column))
    )
    floor = item_s * half * speed * batch ** draw.uniform(0, 0.4, *column) * draw.chance(0.8, *column)
    alone = overhead + torch.maximum(torch.maximum(full, moved), floor)
    busy = torch.maximum(full, moved) + overhead * draw.uniform(0, 0.4, *column)
    fight = 1 + draw.uniform(0, 0.15, *column) * (given.workers - 1)
    return alone * fight, busy * fight, torch.where(splits, torch.ones_like(scaling), scaling)


def _on_cpu(draw: Draw, given: _Given, item_s: Tensor) -> tuple[Tensor, Tensor]:
    """The same on cores: threads share one batch's work, workers take a batch each, too many of both fight."""
    column = [len(item_s), 1]
    cores, threads, spread, batch = given.cores, given.threads, given.spread, given.batch
    overhead = item_s * draw.log_uniform(0.02, 10, *column)
    serial = draw.log_uniform(0.005, 0.5, *column)
    running = torch.minimum(threads, cores).clamp(min=0.25)
    coherent = draw.log_uniform(1e-4, 3e-2, *column)  # what each pair of threads costs (Gunther's kappa)
    faster = running / (1 + serial * (running - 1) + coherent * running * (running - 1).clamp(min=0))
    fight = (given.workers * threads * spread / cores).clamp(min=1) ** draw.uniform(0, 0.8, *column)
    work = item_s * batch ** (draw.uniform(0.7, 1.1, *column) - 0.2 * given.eager)
    # A batch below the threads leaves some idle; one beyond the cache is slow.
    idle = (running / batch).clamp(min=1) ** draw.uniform(0, 0.6, *column)
    spill = 1 + draw.uniform(0, 1, *column) * (batch > draw.log_uniform(4, 512, *column))
    helped = spread ** draw.uniform(-0.2, 0.3, *column)
    alone = (overhead + work / faster * idle * spill / helped) * fight
    busy = (overhead * draw.uniform(0.2, 1, *column) + work * spill * (1 + serial * running)) / cores * fight
    return alone, busy
