"""What is believed of each configuration, from all of its launches together.

A launch shows the configuration's figure (the logarithm of its capacity, or of one over its p99, so that more is
better) with three errors: that of the measurement, which its interval tells; that of the launch, whose spread is
learned from all configurations that were launched more than once; and now and then a disturbance, which makes a server
slower, never faster. A pruned launch shows only that it stayed below a bound, with the same errors.

The posterior is computed on grids, one for the spread that all configurations share and one for each configuration's
figure, so that no outlier is thrown away by a rule and none decides; its draws are the same whenever they are made.
In a study of many configurations a grid for each would take seconds: those that were measured once, whose posterior is
a mixture of two normal distributions, are drawn from it directly. Those that were launched again in turns are drawn
together, since a machine that was slow in a round was slow for all of them: see `rounds`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np
from numpy.typing import NDArray

from results import Estimate, MachineEffect
from tuner.search.launches import (
    DISTURBED,
    LAUNCH_SPREAD,
    SLOWED,
    SLOWED_SPREAD,
    SPREAD_DOUBT,
    SPREADS,
    Contender,
    Expectation,
    Floats,
    LaunchFigure,
    log_prior,
)  # fmt: skip
from tuner.search.rounds import draw_rounds, paired

_GRID = 700
_BELOW, _ABOVE = 0.6, 1.3  # of the grid beyond what was seen, in logs
_MIN_PRIOR = 0.03  # no expectation is surer than this
_APART, _APART_WEIGHT = 0.2, 2.0  # how far configurations are apart before any was seen, and for how many that counts
_DRAWS = 4000
_MANY, _MANY_GRID = 300, 160  # contenders; points of the grid for a bound among many
_MAX_FIGURES, _MIN_DRAWS = 2_000_000, 1000  # of many contenders, fewer draws each
FEW_LAUNCHES, _FEW_DOUBT = 4, 0.2
_MEDIAN_SQUARE = 0.4549  # of a standard normal variable


@dataclass(frozen=True)
class Beliefs:
    """Joint draws from the posterior: a row per contender, a column per draw.

    `losses` are logarithms of the first metric of which lower is better; infinite where a configuration cannot be good.
    `launch_spread` is the standard deviation between launches of one configuration, in logs (0: all is exact).
    `launches` counts those that were measured. `machine` is what the machine's speed did to figures, and for which they
    are; None where it was not timed, or where figures are no capacities. `servers` has one number for all that are the
    same server, whose launches were counted together; empty where each is another.
    """

    numbers: tuple[int, ...]
    figures: Floats
    losses: Floats
    launch_spread: float
    launches: tuple[int, ...]
    machine: MachineEffect | None = None
    servers: tuple[int, ...] = ()

    @cached_property
    def _rows(self) -> Mapping[int, int]:
        return {number: row for row, number in enumerate(self.numbers)}

    @cached_property
    def _intervals(self) -> Floats:
        """The 95% interval of what each figure is the logarithm of, and its median between them."""
        return np.exp(_quantiles(self.figures, (0.025, 0.5, 0.975)))

    @cached_property
    def _mean_losses(self) -> Floats:
        return np.asarray(self.losses.mean(axis=1))

    def __contains__(self, number: object) -> bool:
        return number in self._rows

    @property
    def measured(self) -> tuple[int, ...]:
        """The numbers of those that were measured, and not only bounded."""
        return tuple(number for number, launches in zip(self.numbers, self.launches, strict=True) if launches)

    def loss(self, number: int) -> float:
        """The mean of its loss."""
        return float(self._mean_losses[self._rows[number]])

    def best(self, among: Sequence[int] | None = None) -> int:
        """The number of the one whose loss is expected to be lowest; of one server's, that with the least memory."""
        least = set(self.servers)
        return min(self.numbers if among is None else among, key=lambda one: (self.loss(one), one not in least))

    def probability_best(self, number: int, margin: float = 0.0) -> float:
        """The probability that no other is better by more than `margin` (in logs: about a share)."""
        lowest = self.losses.min(axis=0)
        return float((self.losses[self._rows[number]] <= lowest + margin + 1e-9).mean())

    def probability_better(self, number: int, other: int, margin: float = 0.0) -> float:
        """The probability that its loss is lower than the other's by more than `margin`."""
        return float((self.losses[self._rows[number]] < self.losses[self._rows[other]] - margin - 1e-9).mean())

    def surely_better(self, number: int, other: int, confidence: float) -> bool:
        """Whether the interval of their difference, of that confidence, is all on the better side."""
        return self.probability_better(number, other) >= self.probability_needed(number, other, confidence)

    def probability_needed(self, number: int, other: int, confidence: float) -> float:
        """The probability to be better from which on it is surely so. While one of the two was launched fewer than four
        times the little that is known of the spread must not decide: then a fifth of the doubt is allowed.
        """
        few = min(self.launches[self._rows[one]] for one in (number, other)) < FEW_LAUNCHES and self.launch_spread > 0
        return 1 - (1 - confidence) / 2 * (_FEW_DOUBT if few else 1.0)

    def saving(self, number: int, other: int, *, maximised: bool = False) -> Estimate:
        """The share of the other's first metric by which it is better: less, or more where that is `maximised`.

        It is negative where it is worse, and has the 95% interval of the difference.
        """
        difference = self.losses[self._rows[number]] - self.losses[self._rows[other]]
        low, middle, high = (float(one) for one in np.quantile(difference, (0.025, 0.5, 0.975)))
        if maximised:
            return Estimate(value=math.expm1(-middle), low=math.expm1(-high), high=math.expm1(-low))
        return Estimate(value=-math.expm1(middle), low=-math.expm1(high), high=-math.expm1(low))

    def same_server(self, number: int) -> tuple[int, ...]:
        """The other numbers of that server."""
        servers = dict(zip(self.numbers, self.servers, strict=False))
        return tuple(one for one, server in servers.items() if server == servers.get(number) and one != number)

    def figure(self, number: int) -> Estimate:
        """Its capacity (or one over its p99) with the 95% interval of all launches together."""
        low, middle, high = self._intervals[self._rows[number]]
        return Estimate(value=float(middle), low=float(low), high=float(high))


def believe(
    contenders: Sequence[Contender], losses: Callable[[Floats], Floats], servers: Mapping[int, int] | None = None
) -> Beliefs:  # fmt: skip
    """`servers` has, by the number of each trial, that of the contender whose launches are its own; None: a trial for
    each contender. `losses` turns figures (trials, draws) into losses of the same shape, as each one's price has it.
    """
    rows = {one.number: row for row, one in enumerate(contenders)}
    trials = servers or {number: number for number in rows}
    places = [rows[server] for server in trials.values()]
    of_contenders, spread = _draw_figures(contenders)
    figures = of_contenders[places]
    known = np.isfinite(figures)
    found = np.where(known, losses(np.where(known, figures, 0.0)), np.inf)
    launches = tuple(len(contenders[place].measured) for place in places)
    return Beliefs(tuple(trials), figures, found, spread, launches, servers=tuple((servers or {}).values()))


def _draw_figures(contenders: Sequence[Contender]) -> tuple[Floats, float]:
    """Joint draws of the contenders' figures, and the spread between launches."""
    if all(one.exact for one in contenders):
        return np.array([[_exactly(one)] for one in contenders]), 0.0
    many = len(contenders) > _MANY
    grids = {
        place: _grid(one, _MANY_GRID if many and len(one.launches) == 1 else _GRID)
        for place, one in enumerate(contenders)
        if not (many and _once(one))
    }
    shown = {place: _log_likelihood(contenders[place], grid) for place, grid in grids.items()}
    weight = _spread_weights([one for place, one in shown.items() if len(contenders[place].measured) > 1])
    random = np.random.default_rng(0)
    draws = max(_MIN_DRAWS, min(_DRAWS, _MAX_FIGURES // len(contenders)))
    which = np.searchsorted(np.cumsum(weight), (np.arange(draws) + 0.5) / draws).clip(max=len(weight) - 1)
    figures, priors = np.empty((len(contenders), draws)), _priors(contenders)
    together = _in_rounds(contenders)
    if together:
        raced = [contenders[row] for row in together]
        figures[together] = draw_rounds(raced, [priors[row] for row in together], draws, random)
    mixtures = _Mixtures.of([one.launches[0] for one in contenders], priors)
    for row, prior in enumerate(priors):
        if row in together:
            continue
        if row in grids:
            posterior = shown[row] - 0.5 * ((grids[row] - prior.mean) / prior.spread) ** 2
            figures[row] = _draw(grids[row], posterior, which, random.random(draws))
        else:
            figures[row] = mixtures.draw(row, which, random)
    return figures, float(weight @ SPREADS)


def _in_rounds(contenders: Sequence[Contender]) -> list[int]:
    """The places of those that were launched again in turns; none where no round has two of them."""
    rows = [row for row, one in enumerate(contenders) if any(launch.round is not None for launch in one.launches)]
    return rows if paired([contenders[row] for row in rows]) else []


def _once(one: Contender) -> bool:
    return len(one.launches) == 1 and not one.launches[0].below


def _exactly(one: Contender) -> float:
    return float(np.mean(one.measured)) if one.measured else -math.inf


def _grid(one: Contender, points: int) -> Floats:
    seen = [launch.figure for launch in one.launches]
    return np.linspace(min(seen) - _BELOW, max(seen) + _ABOVE, points)


def _log_likelihood(one: Contender, grid: Floats) -> Floats:
    """The log likelihood of all launches, for each spread and each figure: (spreads, grid)."""
    from scipy.special import log_ndtr

    total = np.zeros((len(SPREADS), len(grid)))
    for launch in one.launches:
        usual = np.hypot(SPREADS, launch.error)[:, None]
        slowed = np.hypot(usual, SLOWED_SPREAD)
        away, away_slowed = launch.figure - grid, launch.figure - (grid - SLOWED)
        if launch.below:
            parts = (log_ndtr(away / usual), log_ndtr(away_slowed / slowed))
        else:
            parts = (_log_normal(away, usual), _log_normal(away_slowed, slowed))
        total += np.logaddexp(math.log1p(-DISTURBED) + parts[0], math.log(DISTURBED) + parts[1])
    return total


def _log_normal(away: Floats, spread: Floats) -> Floats:
    return np.asarray(-0.5 * (away / spread) ** 2 - np.log(spread))


def _spread_weights(shown: Sequence[Floats]) -> Floats:
    """The posterior of the spread between launches, from the likelihoods of those that were launched more than once,
    whatever is expected of them.
    """
    log_weight = log_prior(LAUNCH_SPREAD, SPREAD_DOUBT)
    if shown:
        from scipy.special import logsumexp  # a third of a second, and only where something was launched again

        for likelihood in shown:
            log_weight = log_weight + logsumexp(likelihood, axis=1)
    weight = np.exp(log_weight - log_weight.max())
    return np.asarray(weight / weight.sum())


def _priors(contenders: Sequence[Contender]) -> list[Expectation]:
    """What is expected of each, doubted by as much as such expectations were wrong; where nothing is, that it is as far
    from the others as they are from each other.
    """
    seen = {one.number: float(median(figures)) for one in contenders if (figures := one.measured)}
    squares = [
        (seen[one.number] - one.expected.mean) ** 2 / (one.expected.spread**2 + LAUNCH_SPREAD**2)
        for one in contenders
        if one.expected is not None and one.number in seen
    ]
    doubt = max(1.0, math.sqrt(float(np.median(squares)) / _MEDIAN_SQUARE)) if squares else 1.0
    level, apart = _population([seen[one.number] - one.scale for one in contenders if one.number in seen])
    return [
        Expectation(level + one.scale, apart)
        if one.expected is None
        else Expectation(one.expected.mean, max(_MIN_PRIOR, one.expected.spread * doubt))
        for one in contenders
    ]


def _population(worths: Sequence[float]) -> tuple[float, float]:
    """Mean and spread of configurations' figures over their prices: few that are alike make others expected to be."""
    level = float(np.mean(worths))
    squares = float(np.square(np.array(worths) - level).sum()) + _APART_WEIGHT * _APART**2
    return level, math.sqrt(squares / (_APART_WEIGHT + len(worths) - 1))


def _draw(grid: Floats, log_posterior: Floats, which: NDArray[np.int64], uniform: Floats) -> Floats:
    """A figure per draw, by inverting the distribution that belongs to the draw's spread."""
    density = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    cumulative = np.cumsum(density, axis=1)
    found = np.empty(len(which))
    for spread in np.unique(which):
        mine = which == spread
        total = cumulative[spread, -1]
        found[mine] = np.interp(uniform[mine] * total, cumulative[spread], grid)
    return found


@dataclass(frozen=True)
class _Mixtures:
    """What one launch of each configuration says of its figure: a launch as usual shows the figure itself, a disturbed
    one what is lower by `SLOWED`, and with a normal prior either leaves a normal posterior. A row per configuration;
    in `usually`, the probability that it was as usual, a column per spread, and in the others the spreads as usual,
    then those disturbed. It is computed for all rows at once, since there may be thousands.
    """

    usually: Floats
    means: Floats
    deviations: Floats

    @classmethod
    def of(cls, launches: Sequence[LaunchFigure], priors: Sequence[Expectation]) -> _Mixtures:
        seen, error = _columns([(one.figure, one.error) for one in launches])
        expected, spread = _columns([(one.mean, one.spread) for one in priors])
        usual = SPREADS**2 + error**2
        log_weights, means, deviations = [], [], []
        for share, figure, variance in (
            (1 - DISTURBED, seen, usual),
            (DISTURBED, seen + SLOWED, usual + SLOWED_SPREAD**2),
        ):
            together = variance + spread**2
            log_weights.append(math.log(share) - 0.5 * ((figure - expected) ** 2 / together + np.log(together)))
            means.append((expected * variance + figure * spread**2) / together)
            deviations.append(np.sqrt(variance * spread**2 / together))
        usually = 1 / (1 + np.exp(np.clip(log_weights[1] - log_weights[0], -700, 700)))
        return cls(usually, np.concatenate(means, axis=1), np.concatenate(deviations, axis=1))

    def draw(self, row: int, which: NDArray[np.int64], random: np.random.Generator) -> Floats:
        """A figure per draw; `which` of the spreads each draw has."""
        disturbed = random.random(len(which)) >= self.usually[row][which]
        kind = which + len(SPREADS) * disturbed
        noise = random.standard_normal(len(which))
        return np.asarray(self.means[row][kind] + self.deviations[row][kind] * noise)


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    rows = np.array(pairs)
    return rows[:, :1], rows[:, 1:]


def _quantiles(rows: Floats, shares: Sequence[float]) -> Floats:
    """Those of each row, in a row, as `numpy.quantile` has them; but that takes ten times as long for many rows."""
    places = np.array(shares) * (rows.shape[1] - 1)
    below = np.floor(places).astype(int)
    ordered = np.sort(rows, axis=1)
    low, high = ordered[:, below], ordered[:, np.minimum(below + 1, rows.shape[1] - 1)]
    return np.asarray(np.where(low == high, low, low + (places - below) * (high - low)))
