"""What was tried so far, and what it showed: noise from launch to launch, pruned trials as bounds, much left unsaid.

What is tried never depends on what was not measured before it. Else the network would learn that whatever was not
tried is worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.search.draw import Draw
from training.search.model.encoding import MEASURED, Encoded, Trials, encode_trials
from training.search.model.network import SurrogateModule, SurrogateTensors
from training.search.truth import Services

_TOLD_APART = 40  # choices of a parameter that do different things in a sister service


@dataclass(frozen=True)
class Shown:
    """What a trial of each configuration would show, were it tried: (B, N) each; the same whenever it is asked.

    `error` is what the search is told of the noise; `margin` (B, 1) the share of the bound that pruning gives away;
    `prunes` (B, 1) whether trials are pruned at all.
    """

    log_capacity: Tensor
    log_saturated: Tensor
    error: Tensor
    measured: Tensor
    outcome: Tensor
    price: Tensor
    margin: Tensor
    prunes: Tensor

    def trials(self, index: Tensor, count: Tensor, *, earlier: bool = False) -> Trials:
        """Of the configurations `index` (B, T) in that order, of which the first `count` (B,) were tried."""
        present = torch.arange(index.shape[1], device=index.device) < count[:, None]
        capacity, price = self.log_capacity.gather(1, index), self.price.gather(1, index)
        outcome = self.outcome.gather(1, index)
        state = torch.where(outcome == 0, 0, outcome + 1)
        cost = torch.where((state == 0) & present, price - capacity, torch.inf)
        best = torch.cat([torch.full_like(cost[:, :1], torch.inf), cost.cummin(1).values[:, :-1]], 1)
        bound = torch.where(best.isfinite(), price - best + self.margin, 0.0)
        pruned = self.prunes & (state == 0) & (cost > best) & (capacity < bound) & best.isfinite()
        state = torch.where(pruned, 1, state)
        capacity = torch.where(pruned, bound, torch.where(state == 0, capacity, 0.0))
        measured = self.measured.gather(1, index[..., None].expand(-1, -1, len(MEASURED)))
        first = torch.arange(len(MEASURED), device=index.device) == 0
        hidden = (state >= 2)[..., None] & ~first | ((state == 2) | (state == 4) | (state == 1))[..., None] & first
        saturated = torch.where((state == 2) | (state == 4), torch.nan, self.log_saturated.gather(1, index))
        return Trials(
            index, state, capacity, saturated, self.error.gather(1, index), torch.where(hidden, torch.nan, measured),
            torch.full_like(present, earlier), present,
        )  # fmt: skip


def show(draw: Draw, made: Services, *, exact: bool = False) -> Shown:
    """Draw the noise and what is told. `exact` is for tables replayed: no noise, and nothing but capacity and p99."""
    size, count = made.log_capacity.shape
    column = [size, 1]
    quiet = draw.chance(1.0 if exact else 0.35, *column)
    noise = torch.where(quiet, draw.log_uniform(0.002, 0.01, *column), draw.log_uniform(0.01, 0.2, *column))
    noise = noise * (0.0 if exact else 1.0)
    error = noise * draw.normal(size, count)
    halved = draw.chance(0.25, *column) & draw.chance(0.05, size, count) & (not exact)
    seen = made.log_capacity + error - halved * 0.69
    stated = noise * draw.log_uniform(0.6, 1.6, size, count)
    stated = torch.where(draw.chance(0.3, *column), torch.nan, torch.where(draw.chance(0.25, *column), 0.0, stated))
    own = draw.log_uniform(0.003, 0.1, *column) * draw.normal(size, count)
    saturated = made.log_saturated + torch.where(draw.chance(0.5, *column), error - halved * 0.69, own)
    saturated = torch.where(draw.chance(1.0 if exact else 0.45, *column), torch.nan, saturated)
    slow = (made.outcome == 2) & draw.chance(0.5, *column)
    saturated = torch.where(slow, torch.nan, saturated)
    kind = torch.arange(len(MEASURED), device=draw.device)
    wobble = torch.where(kind < 6, noise[..., None] * draw.normal(size, count, len(MEASURED)), 0.0)
    unsaid = draw.chance(0.5, size, 1, len(MEASURED))
    unsaid[..., 0] = draw.chance(0.0 if exact else 0.15, *column)
    unsaid[..., 1:] |= draw.chance(1.0 if exact else 0.4, size, 1, 1)
    measured = torch.where(unsaid, torch.nan, made.measured + wobble)
    measured[..., 0] = torch.where(
        (made.outcome == 2) & draw.chance(0.0 if exact else 0.2, *column), torch.nan, measured[..., 0]
    )
    margin = draw.one_of([0.0, -0.05], None, *column)
    price = made.spaces.log_price.nan_to_num()
    return Shown(seen, saturated, stated, measured, made.outcome, price, margin, draw.chance(0.75, *column) | exact)


def counts(draw: Draw, made: Services, max_trials: int) -> Tensor:
    """How many trials each has seen: often few, and never all."""
    found = (draw.uniform(0, 1, len(made.outcome)) ** 1.3 * (max_trials + 1)).long()
    return torch.minimum(found, (made.spaces.valid.sum(1) - 4).clamp(min=0))


def sister(draw: Draw, made: Services) -> Services:
    """The same space, of another model or on other hardware: faster or slower, and some values do other things."""
    size, _, parameters = made.spaces.rank.shape
    rank = made.spaces.rank.clamp(0, _TOLD_APART - 1).transpose(1, 2)
    effects = []
    for _ in range(2):
        strength = draw.log_uniform(0.01, 0.6, size, 1, 1) * draw.chance(0.5, size, parameters, 1)
        effects.append((draw.normal(size, parameters, _TOLD_APART) * strength).gather(2, rank).sum(1))
    log_p99 = made.measured[..., 0] - 0.5 * effects[0] + effects[1] + 0.5 * draw.normal(size, 1)
    rate = made.log_saturated + effects[0] + draw.normal(size, 1)
    slow = (log_p99 > 0) | rate.isnan()
    outcome = torch.where(made.outcome % 2 == 0, torch.where(slow, 2, 0), made.outcome)
    measured = torch.cat([log_p99[..., None], made.measured[..., 1:]], -1)
    capacity = torch.where(outcome == 0, rate, torch.nan)
    return made._replace(log_capacity=capacity, log_saturated=rate, outcome=outcome, measured=measured)


def wander(draw: Draw, made: Services, encoded: Encoded, shown: Shown, max_trials: int) -> Tensor:
    """(B, most): anywhere, or by a prejudice about values, or around the best that was measured so far."""
    size, count = made.log_capacity.shape
    prejudice = torch.einsum("bnp,bp->bn", encoded.place, draw.normal(size, encoded.place.shape[2]))
    prejudice = prejudice - draw.uniform(-0.5, 1, size, 1) * encoded.whole[..., 0]
    strength = torch.where(draw.chance(0.5, size, 1), 0.0, draw.log_uniform(0.2, 5, size, 1))
    score = prejudice * strength + _gumbel(draw, size, count)
    score = torch.where(made.spaces.valid, score, -torch.inf)
    if draw.chance(0.5, 1).item():
        return score.argsort(1, descending=True)[:, :max_trials]
    near = torch.where(draw.chance(0.3, size, 1), 0.0, draw.log_uniform(0.5, 8, size, 1))
    cost = shown.price - shown.log_capacity
    chosen, best, lowest = [], torch.zeros(size, 1, dtype=torch.long, device=draw.device), None
    for _ in range(max_trials):
        total = score
        if lowest is not None:
            distance = (
                (encoded.place - encoded.place.gather(1, best[..., None].expand(-1, -1, encoded.place.shape[2])))
                .abs()
                .sum(-1)
            )
            total = score - near * distance * lowest.isfinite()
        pick = total.argmax(1, keepdim=True)
        score = score.scatter(1, pick, -torch.inf)
        chosen.append(pick)
        found = cost.gather(1, pick)
        found = torch.where((shown.outcome.gather(1, pick) == 0) & ~found.isnan(), found, torch.inf)
        better = found < (lowest if lowest is not None else torch.inf)
        best, lowest = torch.where(better, pick, best), found if lowest is None else torch.minimum(lowest, found)
    return torch.cat(chosen, 1)


def search(
    draw: Draw, network: SurrogateModule, made: Services, encoded: Encoded, shown: Shown, max_trials: int
) -> Tensor:
    """(B, most): as the network itself would search, by one of its ways to choose, more or less strictly."""
    size, count = made.log_capacity.shape
    loose = torch.where(draw.chance(0.5, size, 1), 0.05, draw.log_uniform(0.1, 2.0, size, 1))
    by_best = draw.chance(0.5, size, 1)
    doubt = draw.uniform(0, 2, size, 1)
    free = made.spaces.valid
    index = torch.zeros(size, 0, dtype=torch.long, device=draw.device)
    for turn in range(max_trials):
        found = ask(network, made, encoded, shown, index, torch.full((size,), turn, device=draw.device))
        spread = (found.spread * found.weight.exp()).sum(-1)
        mean = (found.mean * found.weight.exp()).sum(-1)
        saves = (mean + doubt * spread - shown.price) + found.outcome[..., 0] if turn > 1 else found.outcome[..., 0]
        score = torch.where(by_best, found.best, 3 * saves) + loose * _gumbel(draw, size, count)
        pick = torch.where(free, score, -torch.inf).argmax(1, keepdim=True)
        free = free.scatter(1, pick, False)
        index = torch.cat([index, pick], 1)
    return index


def ask(
    network: SurrogateModule, made: Services, encoded: Encoded, shown: Shown, index: Tensor, count: Tensor
) -> SurrogateTensors:
    """What the network says of all configurations after these trials."""
    trials = shown.trials(index, count)
    rows, _ = encode_trials(trials, made.spaces.log_price.gather(1, index).nan_to_num())
    return network(encoded.only(index), rows, trials.present, encoded)  # type: ignore[no-any-return]


def _gumbel(draw: Draw, *shape: int) -> Tensor:
    return -(-draw.uniform(1e-6, 1 - 1e-6, *shape).log()).log()
