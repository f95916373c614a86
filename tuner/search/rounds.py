"""What is believed of configurations that were launched again in turns, round after round.

The machine itself may be faster in one round than in another: other tenants of the host, its clock, its temperature.
Then all launches of a round are off alike, and their differences say more than each figure alone. So a launch's
logarithm is

    figure of the configuration + what its round adds + error of the launch + error of the measurement

and now and then a disturbance, as in `beliefs`. What rounds add has a spread of its own, which is learned beside that
of launches; where rounds add nothing it becomes small, and the launches count one by one. A launch of the search has no
round, and so both errors.

Drawn by Gibbs sampling from many chains at once (Gelman and others, Bayesian Data Analysis, 3rd edition, section 11.1):
given spreads and disturbances everything is a linear model with normal errors; given that, each spread has a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    log_prior,
)  # fmt: skip

_ROUND_SPREAD, _ROUND_DOUBT = 0.05, 0.8  # before any round was seen, in logs as those of launches
_CHAINS, _BURN_IN, _APART = 500, 30, 3  # sweeps until the first draw, and from one to the next


def paired(contenders: Sequence[Contender]) -> bool:
    """Whether any round has launches of two configurations, so that it can tell them apart."""
    rounds = [{launch.round for launch in one.launches} - {None} for one in contenders]
    return any(one & other for place, one in enumerate(rounds) for other in rounds[:place])


def draw_rounds(
    contenders: Sequence[Contender], priors: Sequence[Expectation], draws: int, random: np.random.Generator
) -> Floats:
    """Joint draws of the contenders' figures: (contenders, draws). Each has at least one launch of a round."""
    chains = _Chains(_Launches.of(contenders), priors, random)
    found: list[Floats] = []
    for sweep in range(_BURN_IN + _APART * -(-draws // _CHAINS)):
        chains.sweep()
        if sweep >= _BURN_IN and (sweep - _BURN_IN) % _APART == 0:
            found.append(chains.figures.T)
    return np.concatenate(found, axis=1)[:, :draws]


@dataclass(frozen=True)
class _Launches:
    """A row per launch. `design` has a column per contender and one per round."""

    shown: Floats
    errors: Floats
    below: NDArray[np.bool_]
    alone: NDArray[np.bool_]
    design: Floats

    @classmethod
    def of(cls, contenders: Sequence[Contender]) -> _Launches:
        rows = [(place, launch) for place, one in enumerate(contenders) for launch in one.launches]
        rounds = sorted({launch.round for _, launch in rows if launch.round is not None})
        design = np.zeros((len(rows), len(contenders) + len(rounds)))
        for row, (place, launch) in enumerate(rows):
            design[row, place] = 1.0
            if launch.round is not None:
                design[row, len(contenders) + rounds.index(launch.round)] = 1.0
        launches = [launch for _, launch in rows]
        return cls(
            np.array([one.figure for one in launches]), np.array([one.error for one in launches]),
            np.array([one.below for one in launches]), np.array([one.round is None for one in launches]), design,
        )  # fmt: skip


class _Chains:
    """The state of all chains: a row per chain."""

    def __init__(self, seen: _Launches, priors: Sequence[Expectation], random: np.random.Generator) -> None:
        self._seen, self._random, self._contenders = seen, random, len(priors)
        self._rounds = seen.design.shape[1] - len(priors)
        self._prior_precision = np.array([one.spread**-2 for one in priors])
        self._pull = np.concatenate([[one.mean / one.spread**2 for one in priors], np.zeros(self._rounds)])
        self._products = np.einsum("la,lb->lab", seen.design, seen.design)
        shape = (_CHAINS, len(seen.shown))
        self._latent = np.tile(seen.shown, (_CHAINS, 1))  # of a bound: a figure below it
        self._slowed = np.zeros(shape, dtype=bool)
        self._launch = np.full((_CHAINS, 1), LAUNCH_SPREAD)
        self._round = np.full((_CHAINS, 1), _ROUND_SPREAD)
        self._effects = np.zeros((_CHAINS, seen.design.shape[1]))

    @property
    def figures(self) -> Floats:
        return self._effects[:, : self._contenders]

    def sweep(self) -> None:
        """Draw everything once, each given all the rest."""
        variance = self._variance(self._slowed)
        self._draw_effects(variance)
        mean = self._effects @ self._seen.design.T
        self._draw_latent(mean - SLOWED * self._slowed, np.sqrt(variance))
        away = self._latent - mean
        self._draw_slowed(away)
        self._draw_spreads(away + SLOWED * self._slowed)

    def _variance(self, slowed: NDArray[np.bool_] | bool) -> Floats:
        """Of each launch around its configuration and round."""
        extra = self._seen.errors**2 + SLOWED_SPREAD**2 * slowed
        return np.asarray(self._launch**2 + extra + self._round**2 * self._seen.alone)

    def _draw_effects(self, variance: Floats) -> None:
        weight = 1 / variance
        precision = np.einsum("kl,lab->kab", weight, self._products, optimize=True)
        own = np.arange(self._contenders)
        precision[:, own, own] += self._prior_precision
        rest = np.arange(self._contenders, precision.shape[1])
        precision[:, rest, rest] += self._round**-2
        target = self._latent + SLOWED * self._slowed
        pull = (weight * target) @ self._seen.design + self._pull
        root = np.linalg.cholesky(precision)
        noise = self._random.standard_normal(pull.shape)
        mean = np.linalg.solve(precision, pull[:, :, None])
        self._effects = (mean + np.linalg.solve(root.transpose(0, 2, 1), noise[:, :, None]))[:, :, 0]

    def _draw_latent(self, mean: Floats, spread: Floats) -> None:
        """What a launch that stayed below a bound would have shown: a normal variable, cut off there."""
        from scipy.special import ndtr, ndtri

        if not (below := self._seen.below).any():
            return
        most = ndtr((self._seen.shown[below] - mean[:, below]) / spread[:, below])
        share = np.maximum(self._random.random(most.shape) * most, 1e-12)
        cut = mean[:, below] + spread[:, below] * ndtri(share)
        self._latent[:, below] = np.minimum(cut, self._seen.shown[below])

    def _draw_slowed(self, away: Floats) -> None:
        usual, slowed = self._variance(False), self._variance(True)
        against = (
            np.log(DISTURBED / (1 - DISTURBED))
            + 0.5 * (away**2 / usual - (away + SLOWED) ** 2 / slowed)
            + 0.5 * np.log(usual / slowed)
        )
        self._slowed = self._random.random(away.shape) < 1 / (1 + np.exp(-np.clip(against, -700, 700)))

    def _draw_spreads(self, away: Floats) -> None:
        """That of launches, then that of rounds, each given the other."""
        seen = self._seen
        extra = seen.errors**2 + SLOWED_SPREAD**2 * self._slowed
        rest = extra + self._round**2 * seen.alone
        self._launch = self._from_grid(log_prior(LAUNCH_SPREAD, SPREAD_DOUBT) + _log_normals(away, rest))
        alone = _log_normals(away[:, seen.alone], extra[:, seen.alone] + self._launch**2)
        rounds = _log_normals(self._effects[:, self._contenders :], np.zeros((1, self._rounds)))
        self._round = self._from_grid(log_prior(_ROUND_SPREAD, _ROUND_DOUBT) + alone + rounds)

    def _from_grid(self, log_weight: Floats) -> Floats:
        """A spread for each chain, from the log weights (chains, spreads)."""
        total = np.cumsum(np.exp(log_weight - log_weight.max(axis=1, keepdims=True)), axis=1)
        wanted = self._random.random((len(total), 1)) * total[:, -1:]
        return np.asarray(SPREADS[(total < wanted).sum(axis=1)][:, None])


def _log_normals(away: Floats, rest: Floats) -> Floats:
    """The log likelihood for each chain and spread, where `rest` is the variance besides that spread's."""
    variance = rest[:, None, :] + SPREADS[None, :, None] ** 2
    return np.asarray(-0.5 * (away[:, None, :] ** 2 / variance + np.log(variance)).sum(axis=2))
