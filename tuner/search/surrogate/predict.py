"""What a model of a service predicts, and the network's predictions for one space."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.special import log_ndtr, logsumexp
from threadpoolctl import ThreadpoolController

from tuner.search.surrogate.encoder import F32, Encoded, encode
from tuner.search.surrogate.features import Candidates, Floats, Ints, Trials, space_of
from tuner.search.surrogate.inference import SurrogateNetwork
from tuner.search.surrogate.trial_rows import trial_rows

WEIGHTS = Path(__file__).parent / "weights.safetensors"
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_AT_ONCE = 1_024  # configurations: what is computed of them fits a processor's cache


@dataclass(frozen=True)
class Prediction:
    """Per configuration: the log capacity (a mixture of normal distributions: configurations, components), the log of
    p99 over its limit (one normal distribution), and the probabilities of OUTCOMES (configurations, len(OUTCOMES)).
    `best` is the log of the probability, up to a constant, that it is the cheapest of those that were not tried; None
    of a model that does not say.
    """

    mean: Floats
    spread: Floats
    weight: Floats
    p99_mean: Floats
    p99_spread: Floats
    outcome: Floats
    best: Floats | None = None

    def nodes(self) -> tuple[Floats, Floats]:
        """Log capacities and their probabilities: (configurations, nodes), by which any loss can be averaged."""
        log_capacity = self.mean[:, :, None] + self.spread[:, :, None] * _NODES
        probability = self.weight[:, :, None] * (_WEIGHTS / _WEIGHTS.sum())
        return log_capacity.reshape(len(self.mean), -1), probability.reshape(len(self.mean), -1)

    def p99_nodes(self) -> tuple[Floats, Floats]:
        """The same of the log p99 over its limit; the probabilities are those of every configuration."""
        return self.p99_mean[:, None] + self.p99_spread[:, None] * _NODES, _WEIGHTS / _WEIGHTS.sum()

    def middle(self) -> Floats:
        """The mean log capacity."""
        return np.asarray((self.mean * self.weight).sum(axis=1))

    def log_density(self, which: Ints, log_capacity: Floats, *, below: NDArray[np.bool_]) -> Floats:
        """Of capacities of some configurations; of the capacity being `below` that value, for pruned trials."""
        z = (log_capacity[:, None] - self.mean[which]) / self.spread[which]
        exact = -0.5 * z**2 - np.log(self.spread[which] * np.sqrt(2 * np.pi))
        each = np.where(below[:, None], log_ndtr(z), exact)
        return np.asarray(logsumexp(each, axis=1, b=self.weight[which]))

    def quantiles(self, which: Ints, probability: float) -> Floats:
        """Of the log capacity, by bisection over the mixture."""
        low = (self.mean - 9 * self.spread)[which].min(axis=1)
        high = (self.mean + 9 * self.spread)[which].max(axis=1)
        for _ in range(32):  # to a billionth
            middle = (low + high) / 2
            everywhere = np.zeros(len(which), dtype=bool)
            below = np.exp(self.log_density(which, middle, below=~everywhere)) < probability
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray((low + high) / 2)


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra on one thread. The work is small: several would only wait for each other, and take cores from
    what is measured beside it.
    """
    limit: AbstractContextManager[object] = _threads().limit(limits=1, user_api="blas")
    return limit


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all libraries that are loaded


class Predictor:
    """The network with one space's configurations encoded, and after them those of another study, `before`. Without
    `roles` it is not told what parameters mean.
    """

    def __init__(
        self, candidates: Candidates, before: Candidates | None = None, *, roles: bool = True,
        network: SurrogateNetwork | None = None,
    ) -> None:  # fmt: skip
        self._network = load_network() if network is None else network
        space = space_of(candidates, before, roles=roles)
        self._log_price = np.nan_to_num(space.log_price)
        self._count = len(candidates)
        self._encoded = encode(space)
        self._read: tuple[tuple[bytes, bytes], tuple[list[F32], F32]] | None = None

    def predict(self, trials: Trials, which: Ints | None = None) -> Prediction:
        """For some configurations, or all."""
        rows, middle = trial_rows(trials, self._log_price[trials.index])
        tried = self._encoded.only(trials.index)
        with one_thread():
            known = self._known(trials.index, tried, rows)
            asked = self._everything if which is None else self._parts(self._encoded.only(which), len(which))
            parts = [self._network.predict(known, tried, some, tokens) for some, tokens in asked]
        mean, spread, weight, p99_mean, p99_spread, outcome, best = (
            np.concatenate(figures).astype(np.float64) for figures in zip(*parts, strict=True)
        )
        return Prediction(mean + middle, spread, np.exp(weight), p99_mean, p99_spread, np.exp(outcome), best)

    def _known(self, index: Ints, tried: Encoded, rows: F32) -> tuple[list[F32], F32]:
        """What the trials say. The latest is kept: a trial is judged by those that it was proposed after."""
        asked = index.tobytes(), rows.tobytes()
        if self._read is None or self._read[0] != asked:
            self._read = asked, self._network.known(tried, rows)
        return self._read[1]

    @cached_property
    def _everything(self) -> list[tuple[Encoded, F32]]:
        """All configurations, which are asked for after every trial."""
        return self._parts(self._encoded, self._count)

    def _parts(self, encoded: Encoded, count: int) -> list[tuple[Encoded, F32]]:
        """So many at once, with what they are before any trial."""
        ends = np.linspace(0, count, max(1, -(-count // _AT_ONCE)) + 1).astype(int).tolist()
        parts = [encoded.only(slice(begin, end)) for begin, end in pairwise(ends)]
        return [(one, self._network.tokens(one)) for one in parts]


def load_network(weights: Path | None = None) -> SurrogateNetwork:
    """With the weights that ship where no others are given."""
    return SurrogateNetwork(load_file(weights or WEIGHTS))
