"""The network: what was asked and what was seen in, a density of the capacity and the latency curve out.

Tokens of the query, the bursts and the probes attend to each other, knowing how far apart their rates are. The
capacity is a mixture of normal distributions in its logarithm, two around the rate of each token: "a little above what
this probe was sent at" needs no other precision than that of the rate itself. `loadtest.judge.network` evaluates it
without torch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from loadtest.judge.features import BURST_WIDTH, PROBE_WIDTH, QUERY_WIDTH

WIDTH, HEADS, LAYERS, HIDDEN, COMPONENTS = 96, 4, 4, 192, 2
DISTANCES = (1.0, 4.0, 16.0)
CURVE_WIDTH = 2 + 6 + 3
MIN_SPREAD, MIN_CURVE_SPREAD, DROPOUT = 0.004, 0.02, 0.12


class ServerTensors(NamedTuple):
    """Log weights, means and spreads of the mixture (batch, components), of the log capacity over the scale; mean and
    spread of the log latency over the limit at the points that were asked (batch, points).
    """

    weight: Tensor
    mean: Tensor
    spread: Tensor
    curve_mean: Tensor
    curve_spread: Tensor


class Layer(nn.Module):
    """Attention, with a bias for how far apart two rates are, and a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_hidden = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attend, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.distance = nn.Linear(2 * len(DISTANCES), HEADS)
        self.first, self.second = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, tokens: Tensor, mask: Tensor, apart: Tensor) -> Tensor:
        """`mask` (batch, 1, 1, tokens) is -inf for those that are missing."""
        batch, count, _ = tokens.shape
        parts = self.attend(self.before_attention(tokens)).reshape(batch, count, 3, HEADS, WIDTH // HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)
        scores = scores + self.distance(apart).permute(0, 3, 1, 2) + mask
        seen = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, count, WIDTH)
        tokens = tokens + self.dropout(self.out(seen))
        hidden: Tensor = self.second(nn.functional.gelu(self.first(self.before_hidden(tokens)), approximate="tanh"))
        found: Tensor = tokens + self.dropout(hidden)
        return found


class ServerModule(nn.Module):
    """Over batches of trials."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(QUERY_WIDTH, WIDTH)
        self.burst_in, self.burst_out = nn.Linear(BURST_WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.probe_in, self.probe_out = nn.Linear(PROBE_WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.last = nn.LayerNorm(WIDTH)
        self.capacity = nn.Linear(WIDTH, 3 * COMPONENTS)
        self.curve_in, self.curve_out = nn.Linear(WIDTH + CURVE_WIDTH, HIDDEN), nn.Linear(HIDDEN, 2)

    def forward(self, query: Tensor, bursts: Tensor, burst_mask: Tensor, probes: Tensor, probe_mask: Tensor,
                anchors: Tensor, asked: Tensor) -> ServerTensors:  # fmt: skip
        """As `training.servers.examples.Batch` has them."""
        gelu = nn.functional.gelu
        tokens = torch.cat([
            self.query(query)[:, None],
            self.burst_out(gelu(self.burst_in(bursts), approximate="tanh")),
            self.probe_out(gelu(self.probe_in(probes), approximate="tanh")),
        ], dim=1)  # fmt: skip
        present = torch.cat([torch.ones_like(burst_mask[:, :1]), burst_mask, probe_mask], dim=1)
        rates = torch.cat([torch.zeros_like(anchors[:, :1]), anchors], dim=1)
        missing = torch.where(present, 0.0, -1e4)
        apart = distances(rates)
        for layer in self.layers:
            tokens = layer(tokens, missing[:, None, None, :], apart)
        tokens = self.last(tokens)
        weight, mean, spread = self.capacity(tokens).chunk(3, dim=-1)
        weight = (weight + missing[..., None]).flatten(1).log_softmax(-1)
        mean = (mean + rates[..., None]).flatten(1)
        spread = (nn.functional.softplus(spread - 3.0) + MIN_SPREAD).flatten(1)
        middle = (weight.exp() * mean).sum(-1, keepdim=True).detach()
        points = curve_points(asked, middle)
        around = tokens[:, :1].expand(-1, asked.shape[1], -1)
        curve = self.curve_out(gelu(self.curve_in(torch.cat([around, points], dim=-1)), approximate="tanh"))
        return ServerTensors(
            weight, mean, spread, curve[..., 0], nn.functional.softplus(curve[..., 1]) + MIN_CURVE_SPREAD
        )


def distances(rates: Tensor) -> Tensor:
    """How far apart the logarithms of two rates are, on several scales: (batch, tokens, tokens, features)."""
    apart = rates[:, :, None] - rates[:, None, :]
    found = [torch.tanh(apart * scale) for scale in DISTANCES]
    return torch.stack([*found, *(value.abs() for value in found)], dim=-1)


def curve_points(asked: Tensor, middle: Tensor) -> Tensor:
    """Features of the points: (batch, points, CURVE_WIDTH)."""
    rate, odds = asked[..., 0], asked[..., 1]
    near = rate - middle
    waves = [f(near * scale) for scale in (1.0, 3.0, 9.0) for f in (torch.sin, torch.cos)]
    return torch.stack([rate, odds, *waves, *(torch.tanh(near * scale) for scale in (2.0, 6.0, 18.0))], dim=-1)


def capacity_loss(found: ServerTensors, target: Tensor) -> Tensor:
    """Negative log likelihood, per example."""
    errors = (target[:, None] - found.mean) / found.spread
    logs = found.weight - 0.5 * errors**2 - found.spread.log() - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(logs, dim=-1)


def curve_loss(found: ServerTensors, curve: Tensor) -> Tensor:
    """Negative log likelihood of the latencies, per example."""
    errors = (curve - found.curve_mean) / found.curve_spread
    return (0.5 * errors**2 + found.curve_spread.log()).mean(-1)
