"""The prior-fitted network, evaluated with numpy: trials in, predictions for every configuration out.

It was trained in PyTorch (`training.search.model.network`, which says what each part is for); a test holds the two
together.
For each configuration it predicts the log capacity as a mixture of normal distributions, the log p99 over its limit as
one, the probability of each outcome, and a score by which the cheapest configuration is likely to be found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from tuner.search.surrogate.encoder import F32, OUTCOMES, Encoded, relations

HEADS, COMPONENTS, READ_AFTER = 8, 4, (1, 3, 5)  # configurations read the trials after these of the trials' layers
MIN_SPREAD = 0.004
_EPSILON = 1e-5  # of layer norms
# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: erf within 1.5e-7.
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
_ERF_P = 0.3275911


class SurrogateOutput(NamedTuple):
    """Means, spreads and log weights of the log capacity (queries, COMPONENTS), mean and spread of the log p99 over its
    limit (queries), log probabilities of OUTCOMES (queries, len(OUTCOMES)), scores of being the cheapest (queries): the
    log of a probability, up to a constant.
    """

    mean: F32
    spread: F32
    weight: F32
    p99_mean: F32
    p99_spread: F32
    outcome: F32
    best: F32


class SurrogateNetwork:
    """Weights by name, as `training.search.weights` writes them."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self._w: dict[str, F32] = {name: np.asarray(value, dtype=np.float32) for name, value in weights.items()}
        self._layers = sum(name.startswith("trials.") and name.endswith(".out.bias") for name in self._w)

    def known(self, tried: Encoded, rows: F32) -> tuple[list[F32], F32]:
        """What configurations read of the trials, layer by layer, and what each relation to them counts there."""
        trials = self._linear("widened", self.tokens(tried)) + self._sequence("trial", rows)
        trials = np.concatenate([self._w["nothing"][0], trials])
        coefficients, own = self._coefficients(tried), self._layers * HEADS
        bias = _bias(relations(tried, tried), coefficients[:, :own])
        bias = np.pad(bias, ((0, 0), (1, 0), (0, 0)))  # the token for nothing attends as well
        read = []
        for layer in range(self._layers):
            trials = self._reading(f"trials.{layer}", trials, trials, bias[layer * HEADS : (layer + 1) * HEADS])
            if layer in READ_AFTER:
                read.append(trials)
        return read, coefficients[:, own:]

    def predict(self, known: tuple[list[F32], F32], tried: Encoded, asked: Encoded, tokens: F32) -> SurrogateOutput:
        """Of the configurations `asked`, whose `tokens` no trial changes, after the trials `tried`."""
        read, coefficients = known
        bias = _bias(relations(asked, tried), coefficients)
        for number, trials in enumerate(read):
            tokens = self._reading(f"reads.{number}", tokens, trials, bias[number * HEADS : (number + 1) * HEADS])
        figures = self._linear("head.1", self._norm("head.0", tokens))
        ends = np.cumsum([COMPONENTS, COMPONENTS, COMPONENTS, 2, len(OUTCOMES)])
        mean, spread, weight, p99, outcome, best = np.split(figures, ends, axis=-1)
        return SurrogateOutput(
            mean, _positive(spread), log_softmax(weight, axis=-1), p99[:, 0], _positive(p99[:, 1]),
            log_softmax(outcome, axis=-1), best[:, 0],
        )  # fmt: skip

    def tokens(self, encoded: Encoded) -> F32:
        """A row for each configuration: the sum over parameters of what each value means, and the whole. A value means
        the same wherever it stands, and is thought about once.
        """
        of_parameter = self._linear("of_parameter", encoded.parameter)
        total = np.zeros((len(encoded.value), of_parameter.shape[1]), dtype=np.float32)
        for column, parameter in enumerate(of_parameter):
            values, which = _distinct(encoded.value[:, column])
            meaning = _gelu(self._linear("mixed", _gelu(self._linear("of_value", values) + parameter)))
            total += meaning[which]
        return self._sequence("configuration", np.concatenate([total / 2, encoded.space], axis=-1))

    def _coefficients(self, encoded: Encoded) -> F32:
        """(P * RELATIONS + WHOLE_RELATIONS, layers * heads): what each relation counts in each layer and head."""
        each = self._sequence("relation", encoded.parameter)
        whole = self._w["whole_relation"]
        return np.concatenate([each.reshape(-1, whole.shape[1]), whole])

    def _reading(self, name: str, tokens: F32, trials: F32, bias: F32) -> F32:
        """Tokens attend to trials, the first of which is the token for none, then think."""
        keys, values = np.split(
            self._linear(f"{name}.keys_values", self._norm(f"{name}.of_trials", trials)), 2, axis=-1
        )
        query = self._linear(f"{name}.query", self._norm(f"{name}.before_attention", tokens))
        query *= np.float32((tokens.shape[-1] // HEADS) ** -0.5)
        scores = _split(query) @ _split(keys).swapaxes(-1, -2)
        scores[..., 1:] += bias
        scores -= scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores, out=scores)
        weights /= weights.sum(axis=-1, keepdims=True)
        seen = (weights @ _split(values)).swapaxes(0, 1).reshape(tokens.shape)
        tokens = tokens + self._linear(f"{name}.out", seen)
        return tokens + self._sequence(f"{name}.hidden", self._norm(f"{name}.before_hidden", tokens))

    def _sequence(self, name: str, values: F32) -> F32:
        return self._linear(f"{name}.2", _gelu(self._linear(f"{name}.0", values)))

    def _linear(self, name: str, values: F32) -> F32:
        result: F32 = values @ self._w[f"{name}.weight"].T
        result += self._w[f"{name}.bias"]
        return result

    def _norm(self, name: str, values: F32) -> F32:
        centred: F32 = values - values.mean(axis=-1, keepdims=True)
        centred /= np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(_EPSILON))
        centred *= self._w[f"{name}.weight"]
        centred += self._w[f"{name}.bias"]
        return centred


def _distinct(rows: F32) -> tuple[F32, NDArray[np.intp]]:
    """The different rows, and which of them each row is."""
    plain = np.ascontiguousarray(rows + 0.0)  # no -0.0
    keys = plain.view(np.dtype((np.void, plain.dtype.itemsize * plain.shape[1]))).ravel()
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return plain[first], which


def _split(tokens: F32) -> F32:
    return tokens.reshape(len(tokens), HEADS, -1).swapaxes(0, 1)


def _bias(related: F32, coefficients: F32) -> F32:
    """(layers * heads, tokens, trials)."""
    flat = np.ascontiguousarray(coefficients.T) @ related.reshape(len(related), -1)
    return np.asarray(flat.reshape(coefficients.shape[1], *related.shape[1:]))


def _gelu(values: F32) -> F32:
    """`x * (1 + erf(x / sqrt(2))) / 2`."""
    size = np.abs(values) * np.float32(0.5**0.5)
    step = 1 / (1 + np.float32(_ERF_P) * size)
    series = np.full_like(step, _ERF[-1])
    for coefficient in _ERF[-2::-1]:
        series *= step
        series += np.float32(coefficient)
    series *= step
    np.multiply(size, -size, out=size)
    series *= np.exp(size, out=size)  # 1 - erf of the size
    # The series itself below 0, and 2 less it elsewhere: without a branch, which costs as much as all of the above.
    whole = (values >= 0) * np.float32(2)
    whole -= series
    np.abs(whole, out=whole)
    whole *= values
    whole *= np.float32(0.5)
    return np.asarray(whole)


def _positive(spread: F32) -> F32:
    return np.asarray(np.logaddexp(spread, np.float32(0)) + np.float32(MIN_SPREAD))
