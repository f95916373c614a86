"""What a configuration costs per hour: known before it is launched, from its roles and the spec's prices."""

from __future__ import annotations

from functools import cache
from typing import cast

from runners import KnowsPrices, Runner
from search_spaces import Configuration, QuantityError, SearchSpace, parse_size, quantity
from search_spaces.reading import quoted
from search_spaces.values import GIB, MIG_PROFILE
from tuner.launch.render import NO_GPU, resources
from tuner.spec.model import GpuPrice, PriceSpec
from tuner.spec.reading import LoadedSpec

_MIG_SHARES = 7  # an A100, or an H100, has seven of compute


def price_per_hour(space: SearchSpace, configuration: Configuration, prices: PriceSpec) -> float | None:
    """The price of a configuration per hour: cores, memory and GPUs (or shares of one), times the replicas. None if
    nothing in it has a price, or its GPU has none.
    """
    asked = resources(space, configuration)
    price = prices.cpu_core_hour * (asked.cpu_cores or 0.0)
    price += prices.memory_gib_hour * (asked.memory_bytes or 0) / GIB
    if asked.gpu_count:
        gpu = prices.gpu_hour.get(asked.gpu_type or _only_gpu(prices) or "")
        if gpu is None:
            return None
        share = gpu_share(asked.gpu_memory, gpu, prices.slices)
        # Others cannot have what it leaves of the one without as much of the other: the larger share is paid for.
        price += asked.gpu_count * gpu.price * max(share, asked.gpu_compute or 0.0)
    replicas = space.with_role("replicas")
    return price * (float(configuration[replicas.name]) if replicas else 1.0) or None


def _only_gpu(prices: PriceSpec) -> str | None:
    """The GPU type of a slice that comes without one: the only type that has a price, if there is just one."""
    return next(iter(prices.gpu_hour)) if len(prices.gpu_hour) == 1 else None


def known_price(loaded: LoadedSpec, runner: Runner, configuration: Configuration) -> float | None:
    """The price per hour that the runner itself knows, as a replayed table may; else that by the spec's prices."""
    price = cast(KnowsPrices, runner).price_per_hour(configuration) if _knows_prices(type(runner)) else None
    if price is not None:
        return price
    try:
        return price_of(loaded, configuration)
    except ValueError:  # a slice in bytes of a GPU whose memory is not said: only where a table has prices of its own
        return None


@cache
def _knows_prices(kind: type[Runner]) -> bool:
    """Once for all configurations: what a protocol asks for is looked up slowly."""
    return issubclass(kind, KnowsPrices)


def price_of(loaded: LoadedSpec, configuration: Configuration) -> float | None:
    """The price per hour of all services of a configuration together; None if one of them has none."""
    prices = [
        price_per_hour(service.loaded.space, service.own(configuration), loaded.spec.prices)
        for service in loaded.services
        if not service.best_effort  # it takes what is paid for by the others
    ]
    return None if None in prices else sum(price for price in prices if price is not None)


def gpu_share(slice_: bool | int | float | str | None, gpu: GpuPrice, by: str = "memory") -> float:
    """A slice as a share of its GPU: a share already (`0.5`, `"50%"`), bytes over the GPU's whole memory, or a MIG
    profile (`2g.10gb`), which has two of seven shares of the compute, and 10 GB of the memory.

    No slice is the whole GPU. Raises ValueError where bytes are asked for and the GPU's memory is not given.
    """
    if slice_ is None:
        return 1.0
    if isinstance(slice_, str) and (profile := MIG_PROFILE.fullmatch(slice_)):
        if by == "compute":
            return min(1.0, int(profile[1]) / _MIG_SHARES)
        slice_ = f"{profile[2]}Gi"
        if gpu.memory is not None and parse_size(slice_) > gpu.memory:
            return 1.0  # its profile is named in decimal units, or rounded up
    share = quantity(slice_)
    if isinstance(share, float) and 0 < share <= 1:
        return share
    size = parse_size(slice_)  # QuantityError is a ValueError
    if gpu.memory is None:
        raise ValueError("its price needs the GPU's whole memory: write {price: 0.35, memory: 16Gi}")
    if size > gpu.memory:
        raise ValueError(f"{slice_} is more than the GPU's memory")
    return size / gpu.memory


def check_prices(loaded: LoadedSpec) -> None:
    """Raises SpecError if the objective is a cost and some, or all, configurations have no price."""
    needs_cost = any(metric.startswith("cost") for metric in loaded.spec.objective.metrics)
    for service in loaded.services:
        if needs_cost or loaded.spec.prices.gpu_hour:
            _check_gpu_prices(service.loaded)
    if needs_cost and not any(price_of(loaded, found) for found in loaded.space.sample(100, seed=0)):
        replayed = loaded.spec.runner.type == "replay"
        more = ", in every service" if loaded.colocated else "; or give the table a price_per_hour" if replayed else ""
        raise loaded.error(
            ("prices",),
            "nothing in the space has a price: set cpu_core_hour, memory_gib_hour or gpu_hour, and give a parameter "
            f"the role cpu_cores, memory, gpu_type or gpus{more}",
        )


def _check_gpu_prices(loaded: LoadedSpec) -> None:
    space, prices = loaded.space, loaded.spec.prices
    gpu_type, gpu_memory = space.with_role("gpu_type"), space.with_role("gpu_memory")
    untyped = gpu_memory or space.with_role("gpus") or space.with_role("gpu_compute")
    types = gpu_type.choices if gpu_type else (_only_gpu(prices),) if untyped else ()
    for name in types:
        if name == NO_GPU:
            continue
        if name is None and untyped is not None:
            asked = (
                f"which GPU is {untyped.name} a slice of" if untyped is gpu_memory else f"{untyped.name} of which GPU"
            )
            raise loaded.error(
                ("prices",),
                f"{asked}? Give a parameter the role gpu_type, as in gpu_type: [T4], or gpu_hour one price",
            )
        if str(name) not in prices.gpu_hour:
            there = f"; there are prices of {', '.join(prices.gpu_hour)}" if prices.gpu_hour else ""
            may = f"which {gpu_type.name} may choose{there}" if gpu_type else "which is asked for"
            raise loaded.error(("prices",), f"gpu_hour has no price for {name}, {may}")
        for slice_ in gpu_memory.choices if gpu_memory else ():
            try:
                gpu_share(slice_, prices.gpu_hour[str(name)], prices.slices)
            except QuantityError as error:
                key = ("space", "parameters", gpu_memory.name, "choices") if gpu_memory else ("space",)
                text = f"{quoted(slice_)} is not a slice of a GPU; write 10Gi, 25%, 0.25 or a MIG profile, 2g.10gb"
                raise loaded.error(key, text) from error
            except ValueError as error:
                raise loaded.error(("prices", "gpu_hour", str(name)), f"{gpu_memory.name}={slice_}: {error}") from error  # type: ignore[union-attr]
