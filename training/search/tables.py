"""Measured tables as services, to fine-tune on: in part, under tighter limits, at other prices, with fewer roles."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import torch
from torch import Tensor

from training.search.draw import Draw
from training.search.model.encoding import MEASURED, PHYSICS, ROLES, Spaces
from training.search.spaces import MAX_PARAMETERS
from training.search.truth import Services
from tuner.search.surrogate.gpus import gpu_physics

_FIGURES = ("capacity_qps", "p99_ms", "status", "price_per_hour", "trial_s")
_LIMIT = re.compile(r"-(\d+)ms$")
_BY_NAME = {"processes": "workers", "gpu_slice": "gpu_memory", "ulysses_degree": "sequence_parallel",
            "ring_degree": "sequence_parallel", "gpus": "gpus"}  # fmt: skip


class Tables:
    """All tables of one or several sources, padded to one size."""

    def __init__(self, paths: list[Path], device: torch.device) -> None:
        parts = [_read(path) for path in paths]
        self.names = [path.stem for path in paths]
        longest = max(part["rank"].shape[0] for part in parts)
        self._columns = {
            key: torch.stack([_padded(part[key], longest, key) for part in parts]).to(device) for key in parts[0]
        }

    def services(self, draw: Draw, size: int, configurations: int, *, vary: bool) -> Services:
        """Some tables: `vary` draws which, what part, the limit, the prices and the roles; else they are as they are,
        in the order of the files.
        """
        device = draw.device
        count = len(self.names)
        which = draw.integers(0, count, size) if vary else torch.arange(size, device=device) % count
        rank = self._columns["rank"][which]
        valid = self._columns["valid"][which][..., 0] > 0
        if vary:
            valid = _part(draw, rank, valid)
        order = torch.where(valid, draw.uniform(0, 1, *valid.shape), 2.0).argsort(1)
        order = order[:, : min(configurations, order.shape[1])]

        def taken(key: str) -> Tensor:
            column = self._columns[key][which]
            return column.gather(1, order[..., None].expand(-1, -1, column.shape[-1]))

        rank, value, valid = taken("rank").long(), taken("value"), valid.gather(1, order)
        role = self._columns["role"][which][:, 0].long()
        categorical = self._columns["categorical"][which][:, 0] > 0
        log_price, log_capacity = taken("log_price")[..., 0], taken("log_capacity")[..., 0]
        log_p99, oom = taken("log_p99")[..., 0], taken("oom")[..., 0] > 0
        if vary:
            log_p99 = _tightened(draw, log_p99, valid & ~oom)
            role = _forgotten(draw, role)
            log_price = _repriced(draw, log_price, rank)
        served = ~log_capacity.isnan() & ~(log_p99 > 0)
        outcome = torch.where(served, 0, torch.where(oom, 1, 2))
        rank, value = _dense(rank, value, categorical, valid)
        physics = taken("physics")
        physics = torch.where(draw.chance(0.3 if vary else 0.0, size, 1, 1), torch.nan, physics)
        spaces = Spaces(role, categorical, draw.integers(0, 97, *role.shape), value, rank, log_price, physics, valid)
        measured = torch.full((*valid.shape, len(MEASURED)), torch.nan, device=device)
        measured[..., 0] = torch.where(log_p99.isnan(), torch.where(served, -0.1, 0.5), log_p99)
        log_capacity = torch.where(served & valid, log_capacity, torch.nan)
        saturated = torch.where(served, log_capacity, torch.nan)
        return Services(spaces, log_capacity, saturated, outcome, measured)


def sources(folder: Path) -> dict[str, list[Path]]:
    """The tables of each source: those in a folder of its own, and those beside the folders, of `parvagpu`."""
    found = {"parvagpu": sorted(folder.glob("*.csv"))}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        found[inner.name] = sorted(inner.glob("*.csv"))
    return {name: paths for name, paths in found.items() if paths}


def _read(path: Path) -> dict[str, Tensor]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    meta = path.parent / "meta.json"
    known = json.loads(meta.read_text(encoding="utf-8"))["roles"] if meta.is_file() else {}
    names = [name for name in rows[0] if name not in _FIGURES][:MAX_PARAMETERS]
    limit = _LIMIT.search(path.stem)
    limit_ms = float(limit[1]) if limit else math.nan
    role, categorical, rank, value = [], [], [], []
    for name in names:
        texts = [row[name] for row in rows]
        ordered = all(re.fullmatch(r"-?[0-9.]+", text) for text in texts)
        choices = sorted(set(texts), key=float) if ordered else list(dict.fromkeys(texts))
        guessed = known.get(name) or _BY_NAME.get(name) or (name if name in ROLES else "")
        role.append(ROLES.index(guessed))
        categorical.append(not ordered)
        rank.append([choices.index(text) for text in texts])
        value.append([float(text) if ordered else math.nan for text in texts])
    missing = MAX_PARAMETERS - len(names)
    capacity = [float(row["capacity_qps"] or 0) for row in rows]
    p99 = [float(row["p99_ms"] or "nan") for row in rows]
    return {
        "role": torch.tensor([[*role, *[-1] * missing]], dtype=torch.float),
        "categorical": torch.tensor([[*categorical, *[False] * missing]], dtype=torch.float),
        "rank": torch.tensor([*rank, *[[-1] * len(rows)] * missing], dtype=torch.float).T,
        "value": torch.tensor([*value, *[[math.nan] * len(rows)] * missing]).T,
        "valid": torch.ones(len(rows), 1),
        "log_price": torch.tensor([[float(row["price_per_hour"])] for row in rows]).log(),
        "log_capacity": torch.tensor([[math.log(one) if one > 0 else math.nan] for one in capacity]),
        "log_p99": torch.tensor([[math.log(one / limit_ms) if one > 0 else math.nan] for one in p99]),
        "oom": torch.tensor([[float(row["status"] == "oom")] for row in rows]),
        "physics": torch.tensor([_physics(row) for row in rows]),
    }


def _physics(row: dict[str, str]) -> list[float]:
    found = gpu_physics(row["gpu_type"]) if "gpu_type" in row else None
    gpu = [math.nan] * 3 if found is None else [math.log(one) for one in found]
    cores = math.log(float(row["cpu_cores"])) if "cpu_cores" in row else math.nan
    gpus = math.log(float(row["gpus"])) if "gpus" in row else math.nan
    return [*gpu, cores, math.nan, gpus]


def _padded(rows: Tensor, longest: int, key: str) -> Tensor:
    if key in ("role", "categorical"):
        return rows
    filler = {"rank": -1.0, "valid": 0.0, "oom": 0.0}.get(key, math.nan)
    return torch.cat([rows, torch.full((longest - len(rows), rows.shape[1]), filler)])


def _part(draw: Draw, rank: Tensor, valid: Tensor) -> Tensor:
    """Without some choices of some parameters, as long as a few configurations are left."""
    size, _, parameters = rank.shape
    dropped = draw.chance(0.35, size, 64, parameters) & draw.chance(0.4, size, 1, parameters)
    out = dropped.gather(1, rank.clamp(min=0).long()).any(2)
    smaller = valid & ~out & ~draw.chance(0.05, *valid.shape)
    return torch.where(smaller.sum(1, keepdim=True) >= 12, smaller, valid)


def _tightened(draw: Draw, log_p99: Tensor, fits: Tensor) -> Tensor:
    """Under a limit that more of the configurations miss."""
    within = fits & (log_p99 <= 0)
    ordered = torch.where(within, log_p99, torch.inf).sort(1).values
    share = torch.where(draw.chance(0.6, len(log_p99)), draw.uniform(0.1, 1, len(log_p99)), 1.0)
    place = (share * within.sum(1)).long().clamp(max=log_p99.shape[1] - 1)
    limit = ordered.gather(1, place[:, None])
    return log_p99 - torch.where(limit.isfinite() & (share[:, None] < 1), limit, 0.0)


def _forgotten(draw: Draw, role: Tensor) -> Tensor:
    """Roles that nobody gave, or gave wrongly."""
    lost = draw.chance(draw.one_of([0.05, 0.05, 0.5, 1.0], None, len(role), 1), *role.shape)
    wrong = draw.chance(0.12, len(role), 1) & draw.chance(0.7, *role.shape)
    role = torch.where(lost & (role > 0), 0, role)
    return torch.where(wrong & (role >= 0), draw.integers(0, len(ROLES), *role.shape), role)


def _repriced(draw: Draw, log_price: Tensor, rank: Tensor) -> Tensor:
    """With what another provider asks: other prices of the choices of one parameter, or another spread."""
    size, _, parameters = rank.shape
    scale = torch.where(draw.chance(0.5, size, 1), draw.log_uniform(0.5, 1.5, size, 1), 1.0)
    slot = draw.integers(0, parameters, size)[:, None, None].expand(-1, rank.shape[1], 1)
    choice = rank.gather(2, slot)[..., 0].clamp(min=0).long()
    other = draw.normal(size, 64) * draw.log_uniform(0.05, 0.6, size, 1)
    other = torch.where(draw.chance(0.4, size, 1), other, 0.0).gather(1, choice)
    return log_price * scale + other


def _dense(rank: Tensor, value: Tensor, categorical: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks among the choices that are left; categories have no values."""
    exists = (rank >= 0) & valid[..., None]
    slots = torch.zeros(len(rank), 64, rank.shape[2], device=rank.device)
    slots.scatter_add_(1, rank.clamp(min=0), exists.float())
    dense = ((slots > 0).cumsum(1) - 1).clamp(min=0).gather(1, rank.clamp(min=0))
    return torch.where(exists, dense, -1), torch.where(categorical[:, None], torch.nan, value)


assert len(PHYSICS) == 6  # noqa: S101 (the columns above)
