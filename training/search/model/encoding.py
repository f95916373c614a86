"""What the network sees: batches of search spaces, and of trials in them, as tensors.

A space is described parameter by parameter, so that any number of parameters, in any order, with or without roles, is
understood: what a parameter is (`Spaces.role`), the number that each choice stands for, its rank, what choosing it does
to the price. Two configurations are compared parameter by parameter too (`relations`): whether they share the value,
and how far apart their values are. `tuner.search.surrogate.encoder` is the same for one space in numpy, which searches
use; a test holds the two together.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from tuner.search.surrogate.encoder import (
    CODE_WIDTH,
    CODES,
    LARGE_SPACE,
    MAX_PRICED_CHOICES,
    MEASURED,
    OUTCOMES,
    PARAMETER_WIDTH,
    PHYSICS,
    RELATIONS,
    RELATIVE_ROLE,
    ROLES,
    SPACE_WIDTH,
    STATES,
    TRIAL_WIDTH,
    USUAL_PHYSICS,
    VALUE_WIDTH,
    WHOLE_RELATIONS,
)


class Spaces(NamedTuple):
    """Configurations of a batch of search spaces: B spaces, N configurations, P parameters; short ones are padded.

    `role` (B, P) are numbers of ROLES, -1 for padding; `categorical` (B, P) says that choices have no order; `value`
    (B, N, P) is the number that the choice stands for (nan: none), `rank` (B, N, P) its place among the choices from 0
    on (-1: the configuration lacks the parameter); `salt` (B, P) varies the codes of choices. `log_price` (B, N) and
    `physics` (B, N, len(PHYSICS)) are nan where unknown. `valid` (B, N) is false for padding.
    """

    role: Tensor
    categorical: Tensor
    salt: Tensor
    value: Tensor
    rank: Tensor
    log_price: Tensor
    physics: Tensor
    valid: Tensor


class Trials(NamedTuple):
    """What was measured: (B, T) each, `measured` (B, T, len(MEASURED)); nan where not known.

    `index` is the configuration's, `state` one of STATES; `log_capacity` that of a complete trial or the bound that a
    pruned one proved; `log_saturated` the throughput at full load; `error` the standard deviation of log capacities
    from launch to launch and by measurement; `log_price` the configuration's. `earlier` marks other studies' trials.
    """

    index: Tensor  # type: ignore[assignment]  # not the method of tuples
    state: Tensor
    log_capacity: Tensor
    log_saturated: Tensor
    error: Tensor
    measured: Tensor
    earlier: Tensor
    present: Tensor


class Encoded(NamedTuple):
    """Spaces as the network takes them: `parameter` (B, P, PARAMETER_WIDTH), `exists` (B, P), `value` (B, N, P,
    VALUE_WIDTH), `space` (B, N, SPACE_WIDTH); for relations `rank`, `place` and `log` (B, N, P) and `whole` (B, N, 2).
    """

    parameter: Tensor
    exists: Tensor
    value: Tensor
    space: Tensor
    rank: Tensor
    place: Tensor
    log: Tensor
    whole: Tensor

    def only(self, index: Tensor) -> Encoded:
        """Some configurations of each space: `index` is (B, K)."""
        return Encoded(self.parameter, self.exists, *(_taken(one, index) for one in self[2:]))


def _taken(rows: Tensor, index: Tensor) -> Tensor:
    return rows.gather(1, index.reshape(*index.shape, *[1] * (rows.ndim - 2)).expand(-1, -1, *rows.shape[2:]))


def encode(spaces: Spaces) -> Encoded:
    """Of all configurations; what is relative, is relative to all of the space's configurations given here."""
    exists = spaces.role >= 0
    present = (spaces.rank >= 0) & spaces.valid[..., None] & exists[:, None, :]
    numeric = present & ~spaces.value.isnan() & ~spaces.categorical[:, None, :]
    value = spaces.value.nan_to_num()
    logs = _logs(value, numeric)
    low, high = _extreme(logs, numeric, lowest=True), _extreme(logs, numeric, lowest=False)
    span = (high - low).clamp(min=1e-6)
    relative = torch.where(numeric & (high > low), (logs - low) / span * 2 - 1, 0.0)
    choices = torch.where(present, spaces.rank, 0).amax(1) + 1
    place = spaces.rank / (choices[:, None, :] - 1).clamp(min=1) * 2 - 1
    place = torch.where(present & (choices[:, None, :] > 1), place, 0.0)
    dear, order, spread = _prices(spaces, present)
    hides_units = (spaces.role == RELATIVE_ROLE)[:, None, :]
    absolute = torch.where(numeric, torch.where(hides_units, logs - high, logs) / 8, 0.0).clamp(-3, 3)
    bits = present.to(logs.dtype)
    zero = (numeric & (value == 0)).to(logs.dtype)
    features = [bits, numeric.to(logs.dtype), zero, absolute, relative, place, dear, order]
    per_value = torch.cat([torch.stack(features, dim=-1), _codes(spaces) * bits[..., None]], dim=-1)
    whole, space = _space(spaces, exists)
    # Categories have no places; what they cost puts them in an order.
    place = torch.where(spaces.categorical[:, None, :], order, place)
    role = torch.nn.functional.one_hot(spaces.role.clamp(min=0), len(ROLES)).to(logs.dtype)
    more = [
        spaces.categorical.to(logs.dtype), choices.log() / 3, spread,
        (span[:, 0] / 8).clamp(max=3), torch.where(hides_units, 0.0, high.nan_to_num() / 8)[:, 0].clamp(-3, 3),
    ]  # fmt: skip
    parameter = torch.cat([role, torch.stack(more, dim=-1)], dim=-1) * exists[..., None]
    return Encoded(parameter, exists, per_value, space, spaces.rank, place, relative * span / 8, whole)


def _logs(value: Tensor, numeric: Tensor) -> Tensor:
    """Base 2; 0 stands one below the least positive choice; numbers below 0 have no logarithm: their own scale."""
    positive = numeric & (value > 0)
    logs = torch.where(positive, value, 1.0).log2()
    lowest = torch.where(positive, logs, torch.inf).amin(1, keepdim=True)
    lowest = torch.where(lowest.isfinite(), lowest, 1.0)
    logs = torch.where(positive, logs, lowest - 1)
    negative = (numeric & (value < 0)).any(1, keepdim=True)
    size = torch.where(numeric, value.abs(), 0.0).amax(1, keepdim=True).clamp(min=1e-6)
    return torch.where(negative, value / size * 4, logs)


def _extreme(logs: Tensor, numeric: Tensor, *, lowest: bool) -> Tensor:
    """Per parameter, (B, 1, P); 0 where there is no number."""
    filled = torch.where(numeric, logs, torch.inf if lowest else -torch.inf)
    found = filled.amin(1, keepdim=True) if lowest else filled.amax(1, keepdim=True)
    return torch.where(found.isfinite(), found, 0.0)


def _prices(spaces: Spaces, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a choice does to the price: the mean log price of the configurations that have it over that of all; its
    place among the choices by that, from -1 to 1; and how far choices are apart, per parameter.
    """
    priced = present & ~spaces.log_price.isnan()[..., None]
    middle = _mean(spaces.log_price, spaces.valid)
    price = (spaces.log_price - middle[:, None]).nan_to_num()[..., None].expand(spaces.rank.shape)
    slot = spaces.rank.clamp(0, MAX_PRICED_CHOICES - 1)
    shape = (len(slot), MAX_PRICED_CHOICES, slot.shape[2])
    weight = priced.to(price.dtype)
    count = price.new_zeros(shape).scatter_add_(1, slot, weight)
    mean = price.new_zeros(shape).scatter_add_(1, slot, price * weight) / count.clamp(min=1)
    some = count > 0
    below = torch.where(some, mean, torch.inf)
    order = (below[:, :, None, :] < (mean - 1e-4)[:, None, :, :]).sum(1)
    place = order / (some.sum(1, keepdim=True) - 1).clamp(min=1) * 2 - 1
    spread = (mean.square() * some).sum(1) / some.sum(1).clamp(min=1)
    flat = spread[:, None, :] < 1e-8
    dear = torch.where(priced, mean.gather(1, slot), 0.0).clamp(-4, 4)
    return dear, torch.where(priced & ~flat, place.gather(1, slot), 0.0), spread.sqrt().clamp(max=4)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    known = valid & ~values.isnan()
    return (values.nan_to_num() * known).sum(1) / known.sum(1).clamp(min=1)


def _codes(spaces: Spaces) -> Tensor:
    """Numbers without meaning by which choices are told apart."""
    return _code_table(spaces.value.device)[(spaces.rank.clamp(min=0) * 7 + spaces.salt[:, None, :]) % CODES]


@cache
def _code_table(device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):  # else no gradient could ever pass what was made while predicting
        return torch.randn(CODES, CODE_WIDTH, generator=torch.Generator().manual_seed(1)).to(device)


def _space(spaces: Spaces, exists: Tensor) -> tuple[Tensor, Tensor]:
    """Price and physics per configuration, and how large the space is."""
    priced = ~spaces.log_price.isnan() & spaces.valid
    price = torch.where(priced, spaces.log_price - _mean(spaces.log_price, spaces.valid)[:, None], 0.0)
    known = ~spaces.physics.isnan()
    physics = ((spaces.physics - spaces.physics.new_tensor(USUAL_PHYSICS)) / 2).nan_to_num()
    count = spaces.valid.sum(1).clamp(max=LARGE_SPACE)
    spread = (price.square().sum(1) / priced.sum(1).clamp(min=1)).sqrt()
    sizes = torch.stack([count.log() / 5 - 1, exists.sum(1) / 4, spread], dim=-1)
    sizes = sizes[:, None, :].expand(-1, price.shape[1], -1)
    space = torch.cat([priced[..., None].to(price.dtype), price[..., None], known.to(price.dtype), physics, sizes], -1)
    return torch.stack([price, physics[..., 0]], dim=-1), space.clamp(-6, 6)


def relations(query: Encoded, trial: Encoded) -> Tensor:
    """(B, queries, trials, P * RELATIONS + WHOLE_RELATIONS): per parameter whether the value is the same, how far the
    places are apart (size, and with sign) and the logarithms; of the whole the difference in price (with sign, and
    size), the share of parameters that differ, and whether at most one does.
    """
    same = (query.rank[:, :, None] == trial.rank[:, None]) & query.exists[:, None, None]
    apart = (query.place[:, :, None] - trial.place[:, None]) / 2
    logs = (query.log[:, :, None] - trial.log[:, None]).abs()
    alike = same.to(apart.dtype)
    differ = query.exists.sum(1)[:, None, None] - alike.sum(-1)
    dearer = query.whole[:, :, None, 0] - trial.whole[:, None, :, 0]
    parameters = torch.stack([alike, apart.abs(), apart, logs], dim=-1).flatten(3)
    whole = [
        dearer,
        dearer.abs(),
        differ / query.exists.sum(1).clamp(min=1)[:, None, None],
        (differ <= 1).to(alike.dtype),
    ]
    return torch.cat([parameters, torch.stack(whole, dim=-1)], dim=-1)


def encode_trials(trials: Trials, log_price: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, TRIAL_WIDTH), and the log capacity (B,) that is 0 in it: the mean of the throughputs known, of this study
    before others', capacities and bounds before throughputs at full load. `log_price` (B, T) is that of what was tried.
    """
    zero = torch.zeros_like(trials.log_capacity)
    complete, pruned = ((trials.state == one) & trials.present for one in (0, 1))
    capacity = torch.where(complete | pruned, trials.log_capacity, torch.nan)
    saturated = torch.where(trials.present, trials.log_saturated, torch.nan)
    middle = zero.new_zeros(len(zero))
    found = torch.zeros_like(middle, dtype=torch.bool)
    for mine in (~trials.earlier, trials.earlier):
        for throughput in (capacity, saturated):
            known = mine & ~throughput.isnan()
            mean = (throughput.nan_to_num() * known).sum(1) / known.sum(1).clamp(min=1)
            middle = torch.where(~found & known.any(1), mean, middle)
            found = found | known.any(1)
    over = trials.log_capacity - middle[:, None]
    cost = torch.where(complete & ~trials.earlier, log_price - trials.log_capacity, torch.nan)
    lowest = torch.where(cost.isnan(), torch.inf, cost).amin(1, keepdim=True) if cost.shape[1] else cost
    above = torch.where(cost.isnan(), 0.0, (cost - lowest).nan_to_num(0.0, 0.0, 0.0))
    known_error = ~trials.error.isnan() & complete
    figures = [
        torch.where(complete, over, zero), torch.where(pruned, over, zero), found[:, None].expand_as(zero),
        trials.earlier, ~trials.log_saturated.isnan(), (trials.log_saturated - middle[:, None]).nan_to_num(), above,
        ~cost.isnan(), ~cost.isnan() & (above <= 0), known_error,
        torch.where(known_error, trials.error.nan_to_num().clamp(0, 1) * 4, zero),
    ]  # fmt: skip
    state = torch.nn.functional.one_hot(trials.state, len(STATES)).to(zero.dtype)
    measured = [trials.measured.nan_to_num().clamp(-4, 4), (~trials.measured.isnan()).to(zero.dtype)]
    rows = torch.cat([state, torch.stack([one.to(zero.dtype) for one in figures], -1).clamp(-8, 8), *measured], dim=-1)
    return rows * trials.present[..., None], middle


__all__ = [
    "MEASURED", "OUTCOMES", "PARAMETER_WIDTH", "PHYSICS", "RELATIONS", "ROLES", "SPACE_WIDTH", "STATES", "TRIAL_WIDTH",
    "VALUE_WIDTH", "WHOLE_RELATIONS", "Encoded", "Spaces", "Trials", "encode", "encode_trials", "relations",
]  # fmt: skip
