"""The network that infers a server, evaluated with numpy: a look takes about a millisecond.

It was trained on simulated servers (`training/servers`); MODEL_CARD.md says how, and how well it does on others.
Tokens of the query, the bursts and the probes attend to each other; out comes the capacity as a mixture of normal
distributions of its logarithm, two around the rate of each token, and the latency curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from loadtest.judge.features import NetworkInput

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]

WEIGHTS = Path(__file__).parent / "weights.npz"
MAX_PROBES = 9  # as it was trained with
_HEADS, _COMPONENTS = 4, 2
_DISTANCES = (1.0, 4.0, 16.0)
_CURVE_WAVES, _CURVE_NEAR = (1.0, 3.0, 9.0), (2.0, 6.0, 18.0)
_MIN_SPREAD, _MIN_CURVE_SPREAD, _SPREAD_OFFSET = 0.004, 0.02, 3.0


@dataclass(frozen=True)
class Inferred:
    """The capacity: normal distributions of its logarithm (requests/s), with weights that add up to 1."""

    weights: Floats
    means: Floats
    spreads: Floats
    scale_qps: float
    context: F32
    network: ServerNetwork

    def below(self, rates_qps: Floats, widen: float = 1.0) -> Floats:
        """The probability that the capacity is below each of the rates; `widen` stretches all spreads."""
        logs = np.log(rates_qps)[:, None]
        return np.asarray((self.weights * ndtr((logs - self.means) / (widen * self.spreads))).sum(axis=1))

    def log_latency(self, rate_qps: float, share: float) -> tuple[float, float]:
        """Mean and spread of the logarithm of a latency over the limit: of the quantile `share` at that rate."""
        middle = float((self.weights * self.means).sum())
        return self.network.curve(self.context, rate_qps, share, middle, self.scale_qps)


class ServerNetwork:
    """Weights by name, as `training.servers.train` writes them."""

    def __init__(self, weights: Mapping[str, NDArray[np.generic]]) -> None:
        self._w: dict[str, F32] = {name: np.asarray(value, dtype=np.float32) for name, value in weights.items()}
        self._layers = sum(name.endswith("attend.weight") for name in self._w)

    def infer(self, seen: NetworkInput) -> Inferred:
        """Everything that a trial has seen, for one query."""
        probes = seen.probes[-MAX_PROBES:]
        rates = np.concatenate(
            [[0.0], seen.anchors[: len(seen.bursts)], seen.anchors[len(seen.bursts) :][-MAX_PROBES:]]
        )
        rates = rates.astype(np.float32)
        tokens = np.concatenate([
            self._linear("query", seen.query.astype(np.float32))[None],
            self._linear("burst_out", _gelu(self._linear("burst_in", seen.bursts.astype(np.float32)))),
            self._linear("probe_out", _gelu(self._linear("probe_in", probes.astype(np.float32)))),
        ])  # fmt: skip
        apart = rates[:, None] - rates[None, :]
        near = [np.tanh(apart * scale) for scale in _DISTANCES]
        distances = np.stack([*near, *(np.abs(one) for one in near)], axis=-1)
        for number in range(self._layers):
            tokens = self._layer(f"layers.{number}", tokens, distances)
        tokens = self._normed("last", tokens)
        weight, mean, spread = np.split(self._linear("capacity", tokens).astype(np.float64), 3, axis=1)
        weights = np.exp(weight - weight.max())
        log_scale = math.log(seen.scale_qps)
        return Inferred(
            (weights / weights.sum()).ravel(),
            (mean + rates[:, None] + log_scale).ravel(),
            (np.logaddexp(0.0, spread - _SPREAD_OFFSET) + _MIN_SPREAD).ravel(),
            seen.scale_qps, tokens[0], self,
        )  # fmt: skip

    def curve(
        self, context: F32, rate_qps: float, share: float, log_capacity: float, scale_qps: float
    ) -> tuple[float, float]:
        """See `Inferred.log_latency`."""
        rate, odds = math.log(rate_qps / scale_qps), math.log((1 - share) / share) / 3
        near = math.log(rate_qps) - log_capacity
        waves = [turn(near * wave) for wave in _CURVE_WAVES for turn in (math.sin, math.cos)]
        point = np.array([rate, odds, *waves, *(math.tanh(near * scale) for scale in _CURVE_NEAR)], dtype=np.float32)
        found = self._linear("curve_out", _gelu(self._linear("curve_in", np.concatenate([context, point]))))
        return float(found[0]), float(np.logaddexp(0.0, found[1])) + _MIN_CURVE_SPREAD

    def _linear(self, name: str, values: F32) -> F32:
        return values @ self._w[f"{name}.weight"].T + self._w[f"{name}.bias"]

    def _normed(self, name: str, values: F32) -> F32:
        centred = values - values.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return np.asarray(centred / spread * self._w[f"{name}.weight"] + self._w[f"{name}.bias"], dtype=np.float32)

    def _layer(self, name: str, tokens: F32, distances: F32) -> F32:
        count, width = tokens.shape
        parts = self._linear(f"{name}.attend", self._normed(f"{name}.before_attention", tokens))
        query, key, value = parts.reshape(count, 3, _HEADS, width // _HEADS).transpose(1, 2, 0, 3)
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(width // _HEADS)
        scores = scores + self._linear(f"{name}.distance", distances).transpose(2, 0, 1)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        seen = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        tokens = tokens + self._linear(f"{name}.out", seen.transpose(1, 0, 2).reshape(count, width))
        hidden = _gelu(self._linear(f"{name}.first", self._normed(f"{name}.before_hidden", tokens)))
        return tokens + self._linear(f"{name}.second", hidden)


def _gelu(values: F32) -> F32:
    """By the logistic function, which is the approximation by tanh in other words."""
    return np.asarray(values * expit(1.5957691216 * (values + 0.044715 * values**3)), dtype=np.float32)


@lru_cache(maxsize=2)
def load(path: Path = WEIGHTS) -> ServerNetwork:
    """The weights that ship with the load test, read once."""
    with np.load(path) as stored:
        return ServerNetwork({name: stored[name] for name in stored.files})
