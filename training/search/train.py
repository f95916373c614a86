"""Train the network on made-up services: `python -m training.search.train`. Seeded; writes the weights.

Under an hour on two cores: one computes gradients, the other draws services.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.search.prior import draw_tasks, draw_trials
from tuner.search.surrogate.features import (
    CONFIGURATION_WIDTH,
    TRIAL_WIDTH,
    encode_configurations,
    encode_trials,
    mean_price,
)
from tuner.search.surrogate.network import Network, Output
from tuner.search.surrogate.predict import WEIGHTS

_TASKS, _QUERIES = 48, 96
_TRIALS = (8, 16, 32, 64)  # the most that a batch's tasks have; a batch has one of these, so that little is padding
_EARLIER = 24
_MUON_RATE, _ADAM_RATE, _WARM, _LEAST_RATE = 1e-2, 3e-3, 300, 1e-3
_HELD_OUT = 10**9  # seeds from here on are never trained on


class Batch(NamedTuple):
    """Arrays as the network takes them, and what it should say: nan where a configuration serves nothing."""

    trials: Tensor
    present: Tensor
    queries: Tensor
    log_capacity: Tensor
    log_p99: Tensor
    outcome: Tensor


def make_batch(seed: int, tasks: int = _TASKS) -> Batch:
    """Tasks of one seed."""
    g = np.random.default_rng(seed)
    most = int(g.choice(_TRIALS, p=(0.25, 0.3, 0.3, 0.15)))
    with_earlier = g.random() < 0.2
    width = most + (_EARLIER if with_earlier else 0)
    trials = np.zeros((tasks, width, CONFIGURATION_WIDTH + TRIAL_WIDTH), dtype=np.float32)
    present = np.zeros((tasks, width), dtype=bool)
    queries = np.zeros((tasks, _QUERIES, CONFIGURATION_WIDTH), dtype=np.float32)
    log_capacity = np.full((tasks, _QUERIES), np.nan, dtype=np.float32)
    log_p99 = np.full((tasks, _QUERIES), np.nan, dtype=np.float32)
    outcome = np.zeros((tasks, _QUERIES), dtype=np.int64)
    for row in range(tasks):
        task, resembling = draw_tasks(g)
        found = draw_trials(g, task, most)
        if with_earlier and g.random() < 0.2:
            found = found.only(np.zeros(0, dtype=np.int64))
        encoded = encode_configurations(task.candidates)
        contexts = [encoded[found.index]]
        if with_earlier and g.random() < 0.8:
            before = draw_trials(g, resembling, _EARLIER, earlier=True)
            contexts.append(encode_configurations(resembling.candidates, mean_price(task.candidates))[before.index])
            found = found.plus(before)
        rows, middle = encode_trials(found)
        trials[row, : len(rows)] = np.hstack([np.vstack(contexts), rows])
        present[row, : len(rows)] = True
        asked = g.integers(0, len(encoded), _QUERIES)
        queries[row], outcome[row] = encoded[asked], task.outcome[asked]
        log_p99[row] = np.where(np.isin(outcome[row], (0, 2)), task.measured[asked, 0], np.nan)
        if len(found.throughputs):  # else nothing says what 0 means
            log_capacity[row] = task.log_capacity[asked] - middle
    return Batch(*(torch.from_numpy(part) for part in (trials, present, queries, log_capacity, log_p99, outcome)))


def losses(output: Output, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Negative log likelihoods of the log capacities, of the log p99 and of the outcomes."""
    served = ~torch.isnan(batch.log_capacity)
    each = _log_normal(torch.nan_to_num(batch.log_capacity)[..., None], output.mean, output.spread)
    capacity = -(torch.logsumexp(output.weight + each, dim=-1) * served).sum() / served.sum().clamp(min=1)
    known = ~torch.isnan(batch.log_p99)
    p99 = -(_log_normal(torch.nan_to_num(batch.log_p99), output.p99_mean, output.p99_spread) * known).sum()
    return (
        capacity,
        p99 / known.sum().clamp(min=1),
        nn.functional.nll_loss(output.outcome.flatten(0, 1), batch.outcome.flatten()),
    )


def _log_normal(value: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    return (-0.5 * ((value - mean) / spread) ** 2 - spread.log() - 0.5 * math.log(2 * math.pi)).clamp(min=-60)


def train(steps: int, seed: int, out: Path, threads: int, start: Path | None = None) -> None:
    """Muon for the blocks' matrices (Jordan, 2024), Adam for the rest, both with a cosine over the steps. Batches
    are drawn in another process. Prints held-out losses.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    network = Network()
    if start is not None:
        network.load_state_dict(load_file(start))
    matrices = [one for one in network.blocks.parameters() if one.ndim == 2]
    others = [one for one in network.parameters() if all(one is not matrix for matrix in matrices)]
    optimizers: list[tuple[torch.optim.Optimizer, float]] = [
        (torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"), _MUON_RATE),
        (torch.optim.AdamW(others, weight_decay=0.01), _ADAM_RATE),
    ]
    begun, shown = time.monotonic(), 0.0
    held = [make_batch(_HELD_OUT + number) for number in range(12)]
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads, (1,)) as pool:
        pending = [pool.apply_async(make_batch, (seed * 10**7 + number,)) for number in range(8)]
        for step in range(steps):
            share = min(1.0, (step + 1) / _WARM) * max(_LEAST_RATE, 0.5 * (1 + math.cos(math.pi * step / steps)))
            for optimizer, rate in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * share
            batch = pending.pop(0).get()
            pending.append(pool.apply_async(make_batch, (seed * 10**7 + step + 8,)))
            capacity, p99, outcome = losses(network(batch.trials, batch.present, batch.queries), batch)
            network.zero_grad()
            (capacity + 0.3 * p99 + outcome).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            for optimizer, _ in optimizers:
                optimizer.step()
            if time.monotonic() - shown > 60 or step == steps - 1:
                shown = time.monotonic()
                print(f"{(shown - begun) / 60:5.1f} min, step {step}: held-out {_held_out(network, held)}", flush=True)
                save_file(network.state_dict(), out)
        pool.close()  # and not the end that `with` would make of it, which leaves files behind
        pool.join()


def _held_out(network: Network, held: list[Batch]) -> str:
    with torch.no_grad():
        found = [[float(part) for part in losses(network(one.trials, one.present, one.queries), one)] for one in held]
    return "capacity {:.3f}, p99 {:.3f}, outcome {:.3f}".format(*np.mean(found, axis=0))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=15_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--start", type=Path, help="weights to go on from")
    asked = parser.parse_args()
    train(asked.steps, asked.seed, asked.out, asked.threads, asked.start)


if __name__ == "__main__":
    main()
