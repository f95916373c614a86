"""Experts, each weighted by how well it has predicted the trials so far: the network, the network with its doubts
doubled, the network without being told what parameters mean, two Gaussian processes that know nothing of services (one
expects what costs half to hold half, the other what is cheap to hold as much as anything), and after a warm start the
network that is shown the trials of other studies too.

The weights are those of Bayes' rule with a fixed share (Herbster and Warmuth, Tracking the Best Expert, 1998): some of
each is returned with every trial, so that an expert that was wrong early is heard again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.search.surrogate.carried_over import CarriedOver
from tuner.search.surrogate.features import Candidates, Floats, Ints, Trials
from tuner.search.surrogate.gaussian_process import GaussianProcess
from tuner.search.surrogate.inference import SurrogateNetwork
from tuner.search.surrogate.predict import Prediction, Predictor, load_network

_NETWORK, _DOUBTED, _ROLELESS, _BY_PRICE, _WHATEVER_PRICE, _CARRIED = range(6)
_AT_FIRST = (0.45, 0.3, 0.15, 0.07, 0.03, 0.0)
_CARRIED_FIRST = 0.3  # of the weight, where there are trials of other studies
_DOUBLED = 2.0
_SHARE = 0.03
_MAX = 4.0  # how much one trial's log density may count: one outlier decides nothing
_HEARD = 0.02  # the least weight for which a model is asked
_MANY, _HEARD_OF_MANY = (
    2_000,
    0.2,
)  # where there are so many configurations asking is slow, and a little weight no reason
_LOOKED_BACK = 40  # trials: what the experts earned before has faded by then
_TAIL = 0.05  # on either side of a 90% interval
Weights = tuple[float, ...]


@dataclass(frozen=True)
class Judgement:
    """How one trial compared with what was predicted of it: each expert's prediction, and the weight it had by then.

    `measured` is its log capacity, None where it had none; `weights` are those after it.
    """

    predicted: list[tuple[float, Prediction]]
    measured: float | None
    weights: Weights

    @property
    def trust(self) -> float:
        """In the network, in whatever way it was asked, after this trial."""
        return _in_network(self.weights)

    @property
    def inside(self) -> bool | None:
        """Whether the capacity lay in the 90% interval; None where there was none."""
        if self.measured is None:
            return None
        return bool(inside(self.predicted, np.arange(1), np.array([self.measured]))[0])


class Surrogate:
    """Predictions for one space. The same trials in the same order give the same predictions; but a study of more than
    `_LOOKED_BACK` trials that is resumed weighs its experts by the latest of them alone.
    """

    def __init__(
        self, candidates: Candidates, earlier: tuple[Candidates, Trials] | None = None, weights: Path | None = None
    ) -> None:
        self._candidates, self._earlier, self._file = candidates, earlier, weights
        self._processes = {
            _BY_PRICE: GaussianProcess(candidates, by_price=True),
            _WHATEVER_PRICE: GaussianProcess(candidates, by_price=False),
        }
        share = _CARRIED_FIRST if earlier is not None else 0.0
        self._at_first: Weights = (*(one * (1 - share) for one in _AT_FIRST[:-1]), share)
        self._judged: dict[tuple[tuple[int, int], ...], Judgement] = {}

    @cached_property
    def _loaded(self) -> SurrogateNetwork:
        return load_network(self._file)

    @cached_property
    def network(self) -> Predictor:
        """Loaded when it is first asked."""
        return Predictor(self._candidates, network=self._loaded)

    @cached_property
    def carried(self) -> CarriedOver | None:
        """The same network, which is shown other studies' trials too; None where there are none."""
        return None if self._earlier is None else CarriedOver(self._candidates, *self._earlier, self._loaded)

    @cached_property
    def roleless(self) -> Predictor:
        """The same network, which is not told of roles."""
        return Predictor(self._candidates, roles=False, network=self._loaded)

    @cached_property
    def _has_roles(self) -> bool:
        return any(column.role for column in self._candidates.columns)

    def predict(self, trials: Trials, pending: Ints) -> list[tuple[float, Prediction]]:
        """The experts' predictions with their weights. Pending trials are taken to show what is expected of them."""
        if self.carried is not None and not len(trials):  # nobody else knows anything of this service
            return [(1.0, self.carried.predict(self._with_pending(self.carried, trials, pending)))]
        weights = self.weights(trials)
        found: list[tuple[float, Prediction]] = []
        if weights[_NETWORK] + weights[_DOUBTED] > _HEARD:
            network = self.network.predict(self._with_pending(self.network, trials, pending))
            found += [(weights[_NETWORK], network), (weights[_DOUBTED], _doubted(network))]
        heard = _HEARD_OF_MANY if len(self._candidates) > _MANY else _HEARD
        if self._has_roles and weights[_ROLELESS] > min(heard, max(weights)):
            roleless = self.roleless.predict(self._with_pending(self.roleless, trials, pending))
            found.append((weights[_ROLELESS], roleless))
        if self.carried is not None and weights[_CARRIED] > _HEARD:
            carried = self.carried.predict(self._with_pending(self.carried, trials, pending))
            found.append((weights[_CARRIED], carried))
        for expert, process in self._processes.items():
            if weights[expert] > _HEARD:
                known = self._with_pending(process, trials, pending)
                found.append((weights[expert], process.predict(known)))
        return found

    def expected(self, trials: Trials, number: int, others: Trials) -> tuple[float, float]:
        """Mean and standard deviation of the log capacity that the `others` of the trials make one expect of one."""
        others, at = others.only(others.index != trials.index[number]), trials.index[[number]]
        weights = self.weights(trials)
        experts: list[tuple[float, Prediction]] = []
        if weights[_NETWORK] + weights[_DOUBTED] > _HEARD:
            network = self.network.predict(others, at)
            experts += [(weights[_NETWORK], network), (weights[_DOUBTED], _doubted(network))]
        if self._has_roles and weights[_ROLELESS] > _HEARD:
            experts.append((weights[_ROLELESS], self.roleless.predict(others, at)))
        if self.carried is not None and weights[_CARRIED] > _HEARD:
            experts.append((weights[_CARRIED], self.carried.predict(others, at)))
        for expert, process in self._processes.items():
            if weights[expert] > _HEARD:
                experts.append((weights[expert], process.predict(others, at, fitted_to=trials)))
        means = [one.middle() for _, one in experts]
        squares = [((one.mean**2 + one.spread**2) * one.weight).sum(axis=1) for _, one in experts]
        mean = float(mixed(experts, means)[0])
        return mean, float(np.sqrt(max(0.0, float(mixed(experts, squares)[0]) - mean**2)))

    def weights(self, trials: Trials) -> Weights:
        """What each expert has earned by its predictions of these trials."""
        return self.judge(trials)[-1].weights if len(trials) else self._at_first

    def trust(self, trials: Trials) -> float:
        """In the network, in whatever way it is asked."""
        return _in_network(self.weights(trials))

    def judge(self, trials: Trials) -> list[Judgement]:
        """Each trial against what the experts predicted from those before it. Of many that were not judged yet (after
        a resume) the latest alone: each takes as long as a proposal.
        """
        found: list[Judgement] = []
        weights: Weights = self._at_first
        for number in range(len(trials)):
            key = tuple(zip(trials.index[: number + 1].tolist(), trials.state[: number + 1].tolist(), strict=True))
            if key not in self._judged:
                if number < len(trials) - _LOOKED_BACK:
                    continue
                before, trial = trials.only(np.arange(number)), trials.only(np.array([number]))
                self._judged[key] = self._judge(before, trial, weights)
            found.append(self._judged[key])
            weights = found[-1].weights
        return found

    def _judge(self, before: Trials, trial: Trials, weights: Weights) -> Judgement:
        network = self.network.predict(before, trial.index)
        roleless = self.roleless.predict(before, trial.index) if self._has_roles else network
        experts = [network, _doubted(network), roleless]
        experts += [process.predict(before, trial.index) for process in self._processes.values()]
        experts.append(network if self.carried is None else self.carried.predict(before, trial.index))
        level_known = len(before.throughputs) > 0
        density = np.array([_log_density(one, trial, level_known=level_known) for one in experts])
        raised = np.array(weights) * np.exp(np.maximum(density - density.max(), -_MAX))
        after = (1 - _SHARE) * raised / raised.sum() + _SHARE * np.array(self._at_first)
        measured = float(trial.log_capacity[0]) if trial.state[0] == 0 else None
        return Judgement(list(zip(weights, experts, strict=True)), measured, tuple(after.tolist()))

    def _with_pending(self, model: Predictor | CarriedOver | GaussianProcess, trials: Trials, pending: Ints) -> Trials:
        if not len(pending):
            return trials
        expected = model.predict(trials, pending)
        serves = expected.outcome[:, 0] > 0.5
        state = np.where(serves, 0, 1 + np.maximum(1, expected.outcome.argmax(axis=1)))
        return trials.plus(
            Trials(
                pending, state, np.where(serves, expected.middle(), 0.0), np.full(len(pending), np.nan),
                np.full((len(pending), trials.measured.shape[1]), np.nan), np.full(len(pending), np.nan),
            )
        )  # fmt: skip


def inside(predictions: list[tuple[float, Prediction]], which: Ints, log_capacity: Floats) -> NDArray[np.bool_]:
    """Whether log capacities of some configurations lie in the 90% intervals predicted for them."""
    every = np.ones(len(which), dtype=bool)
    below = [np.exp(one.log_density(which, log_capacity, below=every)) for _, one in predictions]
    return np.asarray(np.abs(mixed(predictions, below) - 0.5) <= 0.5 - _TAIL)


def narrowed(predictions: Sequence[tuple[float, Prediction]], share: float) -> list[tuple[float, Prediction]]:
    """The predictions with that share of the spreads of capacity and p99."""
    return [
        (weight, replace(one, spread=share * one.spread, p99_spread=share * one.p99_spread))
        for weight, one in predictions
    ]


def _in_network(weights: Weights) -> float:
    return 1.0 - weights[_BY_PRICE] - weights[_WHATEVER_PRICE]


def _doubted(prediction: Prediction) -> Prediction:
    """The same middle, with all spreads doubled and all odds square-rooted."""
    outcome = np.sqrt(prediction.outcome)
    return replace(
        prediction, spread=prediction.spread * _DOUBLED, p99_spread=prediction.p99_spread * _DOUBLED,
        outcome=outcome / outcome.sum(axis=1, keepdims=True),
    )  # fmt: skip


def _log_density(prediction: Prediction, trial: Trials, *, level_known: bool) -> float:
    """Of the outcome, and of the capacity where it is known and there was something to predict it from."""
    outcome = np.log(prediction.outcome[0] + 1e-3)
    state = int(trial.state[0])
    found = float(outcome[0] if state <= 1 else outcome[state - 1])
    if state <= 1 and level_known:
        found += float(prediction.log_density(np.arange(1), trial.log_capacity, below=trial.state == 1)[0])
    return found


def mixed(predictions: Sequence[tuple[float, Prediction]], figures: Sequence[Floats]) -> Floats:
    """The models' figures, averaged by their weights."""
    total = sum(weight for weight, _ in predictions)
    return np.asarray(sum(weight / total * figure for (weight, _), figure in zip(predictions, figures, strict=True)))
