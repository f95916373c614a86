"""Price catalogues: what the big clouds ask for their instances, and what hardware of one's own costs an hour.

A catalogue is YAML with the source and the date of its prices. An instance's price is split into its parts: cores and
memory cost what two instances without a GPU say they do (two equations), a GPU the rest of the cheapest instance that
has it. So a configuration costs the parts that it takes, whatever machine it shares.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, field_serializer, model_validator

from search_spaces.reading import is_file
from search_spaces.values import GIB, MIB
from tuner.errors import UsageError
from tuner.spec.quantities import Bytes, Money, Share
from tuner.spec.section import Section
from tuner.spec.yaml_file import YamlFile

Terms = Literal["on_demand", "spot", "one_year"]
TERMS: tuple[Terms, ...] = get_args(Terms)
HOURS_A_YEAR = 8760.0


class Instance(Section):
    """A machine, or (without cores and memory) GPUs that are priced by themselves; prices are per hour for all of it.

    `unverified` names the terms whose price could not be read at the source.
    """

    name: str
    vcpus: float = Field(default=0.0, ge=0)
    memory: Bytes | None = None
    gpu: str | None = None
    gpus: int = Field(default=0, ge=0)
    gpu_memory: Bytes | None = None
    on_demand: Money | None = None
    spot: Money | None = None
    one_year: Money | None = None
    unverified: tuple[Terms, ...] = ()

    @field_serializer("memory", "gpu_memory", when_used="json-unless-none")
    def _with_unit(self, size: int) -> str:
        return f"{size // MIB}Mi"

    @property
    def memory_gib(self) -> float:
        """The machine's memory in GiB."""
        return (self.memory or 0) / GIB

    def price(self, terms: Terms) -> float | None:
        """An hour of it."""
        price: float | None = getattr(self, terms)
        return price


class Catalogue(Section):
    """One provider's prices in one region, with where and when they were read."""

    title: str
    region: str
    currency: str = "USD"
    date: datetime.date
    source: str = Field(min_length=1)
    instances: tuple[Instance, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_parts(self) -> Catalogue:
        plain = {one.memory_gib / one.vcpus for one in self.instances if not one.gpus and one.vcpus}
        if len(plain) < 2:
            raise ValueError("needs two instances without a GPU, with different memory per core")
        return self

    def parts(self, terms: Terms) -> dict[str, Any]:
        """Prices as a spec's `prices:` writes them."""
        core, gib = self._core_and_gib(terms)
        gpus: dict[str, dict[str, Any]] = {}
        for one in self.instances:
            price = one.price(terms)
            if not one.gpus or one.gpu is None or price is None:
                continue
            alone = max(0.0, price - core * one.vcpus - gib * one.memory_gib) / one.gpus
            if one.gpu not in gpus or alone < gpus[one.gpu]["price"]:
                memory = {} if one.gpu_memory is None else {"memory": f"{one.gpu_memory // MIB}Mi"}
                gpus[one.gpu] = {"price": round(alone, 5), **memory}
        return {"cpu_core_hour": round(core, 6), "memory_gib_hour": round(gib, 6), "gpu_hour": gpus}

    def as_prices(self, terms: Any, currency: Any = None) -> dict[str, Any]:
        """The parts with their source and currency; nothing for terms that there are not. Raises UsageError where the
        spec's own `currency` is another: its amounts would be shown as what they are not.
        """
        if terms not in TERMS:
            return {}
        if currency not in (None, self.currency):
            raise UsageError(
                f"{self.title} has its prices in {self.currency}, and currency says {currency}; remove currency, or "
                "write out the prices in yours"
            )
        source = f"{self.title}, {self.region}, {terms}, {self.date}: {self.source}"
        return self.parts(terms) | {"source": source, "currency": self.currency}

    def _core_and_gib(self, terms: Terms) -> tuple[float, float]:
        """From the two instances without a GPU whose memory per core differs most. Where these terms have no price for
        two of them, those on demand are taken.
        """
        plain = [one for one in self.instances if not one.gpus and one.vcpus and one.price(terms) is not None]
        if len({one.memory_gib / one.vcpus for one in plain}) < 2:
            return (0.0, 0.0) if terms == "on_demand" else self._core_and_gib("on_demand")
        lean = min(plain, key=lambda one: one.memory_gib / one.vcpus)
        rich = max(plain, key=lambda one: one.memory_gib / one.vcpus)
        first, second = lean.price(terms) or 0.0, rich.price(terms) or 0.0
        determinant = lean.vcpus * rich.memory_gib - rich.vcpus * lean.memory_gib
        core = (first * rich.memory_gib - second * lean.memory_gib) / determinant
        gib = (lean.vcpus * second - rich.vcpus * first) / determinant
        return max(0.0, core), max(0.0, gib)


class OwnGpus(Section):
    """The GPUs of a machine; `share` is their part of its cost."""

    type: str
    count: int = Field(ge=1)
    memory: Bytes | None = None
    share: Share = 0.8


class OwnHardware(Section):
    """A machine that was bought: what an hour of its use costs, over the years that it is used.

    Purchase over the years, the power that it draws and what hosting costs, over the share of the time in which it is
    put to use (`utilisation`).
    """

    purchase: Money
    years: float = Field(gt=0)
    power_watts: float = Field(default=0.0, ge=0)
    power_kwh: Money = 0.0
    hosting_month: Money = 0.0
    utilisation: Share = 1.0
    cpu_cores: float = Field(gt=0)
    memory: Bytes | None = None
    gpu: OwnGpus | None = None

    @property
    def hour(self) -> float:
        """The price of an hour of the whole machine in use."""
        running = self.power_watts / 1e3 * self.power_kwh + 12 * self.hosting_month / HOURS_A_YEAR
        return (self.purchase / (self.years * HOURS_A_YEAR) + running) / max(self.utilisation, 1e-6)

    def parts(self) -> dict[str, Any]:
        """The GPUs' share over the GPUs; of the rest, three quarters over the cores and one over the memory."""
        gpus = self.gpu.share if self.gpu else 0.0
        rest, memory = self.hour * (1 - gpus), (self.memory or 0) / GIB
        cores = rest * (0.75 if memory else 1.0)
        found: dict[str, Any] = {
            "cpu_core_hour": cores / self.cpu_cores,
            "memory_gib_hour": (rest - cores) / memory if memory else 0.0,
        }
        if self.gpu:
            size = {} if self.gpu.memory is None else {"memory": f"{self.gpu.memory // MIB}Mi"}
            found["gpu_hour"] = {self.gpu.type: {"price": self.hour * gpus / self.gpu.count, **size}}
        return found


def catalogue_names() -> tuple[str, ...]:
    """The names of the catalogues that ship with the product."""
    folder = resources.files("tuner.spec.prices") / "catalogues"
    return tuple(sorted(one.name.removesuffix(".yaml") for one in folder.iterdir() if one.name.endswith(".yaml")))


def load_catalogue(name: str, folder: Path = Path()) -> Catalogue:
    """One of ours by name, or a file. Raises UsageError."""
    if name in catalogue_names():
        with resources.as_file(resources.files("tuner.spec.prices") / "catalogues" / f"{name}.yaml") as path:
            return _read(path)
    path = folder / name
    if not is_file(path):
        known = ", ".join(catalogue_names())
        raise UsageError(f"there is no price file {path}, and no catalogue of that name; there are {known}")
    return _read(path)


def is_catalogue(content: Any) -> bool:
    """Whether a file of prices is a catalogue, and not prices as a spec writes them."""
    return isinstance(content, Mapping) and "instances" in content


def _read(path: Path) -> Catalogue:
    content = YamlFile.read(path).content
    if not is_catalogue(content):
        raise UsageError(f"{path} is no price catalogue: it has no `instances`; `tune prices` lists those of tune")
    try:
        return Catalogue.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from error


def listed(catalogue: Catalogue) -> Iterator[tuple[str, ...]]:
    """A row per instance: name, GPU, cores, memory, and its price on each of the terms (`?` after one unverified)."""
    for one in catalogue.instances:
        gpu = f"{one.gpus} x {one.gpu}" if one.gpu else ""
        prices = []
        for terms in TERMS:
            price = one.price(terms)
            prices.append("" if price is None else f"{price:.4g}" + ("?" if terms in one.unverified else ""))
        yield (one.name, gpu, f"{one.vcpus:g}", f"{one.memory_gib:g}", *prices)
