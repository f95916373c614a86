"""What a search computes with numpy is what the network was trained to compute in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.search.model.encoding import Spaces, _code_table, encode_trials
from training.search.model.encoding import Trials as TrialTensors
from training.search.model.encoding import encode as encode_batch
from training.search.model.network import SurrogateModule
from training.search.weights import load_weights
from tuner.search.surrogate.encoder import MEASURED, PHYSICS, STATES, Space, code_table, encode
from tuner.search.surrogate.features import Candidates, ParameterColumn, Trials, space_of
from tuner.search.surrogate.predict import WEIGHTS, Prediction, Predictor
from tuner.search.surrogate.trial_rows import trial_rows

ROLES = ("cpu_cores", "gpu_memory", None, "batch_size", "gpu_type", "threads", "replicas")


def drawn(seed: int) -> Candidates:
    """A space with what spaces may have: categories, missing parameters, zeros, numbers below 0, unknown prices."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 200))
    columns = []
    for number in range(int(rng.integers(1, 8))):
        if rng.random() < 0.3:
            columns.append(ParameterColumn(ROLES[number], np.full(count, np.nan), np.full(count, np.nan),
                                  rng.integers(-1, 5, count)))  # fmt: skip
            continue
        choices = rng.choice([-2.0, 0.0, 0.5, 1.0, 2.0, 3.0, 8.0, 1000.0], rng.integers(1, 7), replace=False)
        values = np.where(rng.random(count) < 0.1, np.nan, rng.choice(choices, count))
        columns.append(ParameterColumn(ROLES[number], values, values))
    price = rng.normal(size=count)
    price[rng.random(count) < rng.choice([0.0, 0.3, 1.0])] = np.nan
    physics = np.where(rng.random((count, len(PHYSICS))) < 0.5, np.nan, rng.normal(3, 1, (count, len(PHYSICS))))
    return Candidates(tuple(columns), price, physics)


def trials(candidates: Candidates, seed: int) -> Trials:
    rng = np.random.default_rng([seed, 1])
    count = min(len(candidates), int(rng.integers(0, 12)))
    state = rng.integers(0, len(STATES), count)

    def unsaid(values: np.ndarray) -> np.ndarray:
        return np.where(rng.random(values.shape) < 0.3, np.nan, values)

    return Trials(
        rng.choice(len(candidates), count, replace=False), state, np.where(state <= 1, rng.normal(4, 1, count), 0.0),
        unsaid(rng.normal(4, 1, count)), unsaid(rng.normal(size=(count, len(MEASURED)))),
        unsaid(np.abs(rng.normal(0, 0.1, count))),
    )  # fmt: skip


def batch_of(space: Space) -> Spaces:
    role, categorical, salt, value, rank, log_price, physics = (
        torch.from_numpy(np.asarray(part))[None] for part in vars(space).values()
    )
    return Spaces(
        role, categorical, salt, value, rank, log_price, physics, torch.ones(log_price.shape, dtype=torch.bool)
    )


def tensors_of(seen: Trials) -> TrialTensors:
    index, state = (torch.from_numpy(one)[None] for one in (seen.index, seen.state))
    capacity, saturated, error, measured = (
        torch.from_numpy(one.astype(np.float32))[None]
        for one in (seen.log_capacity, seen.log_saturated, seen.error, seen.measured)
    )
    present = torch.ones(1, len(seen), dtype=torch.bool)
    return TrialTensors(index, state, capacity, saturated, error, measured, torch.zeros_like(present), present)


def test_the_codes_of_choices_are_the_ones_that_the_network_was_trained_with() -> None:
    np.testing.assert_allclose(code_table(), _code_table(torch.device("cpu")).numpy(), atol=1e-6)


@pytest.mark.parametrize("seed", range(25))
def test_numpy_sees_and_predicts_what_torch_does(seed: int) -> None:
    candidates = drawn(seed)
    seen = trials(candidates, seed)
    space = space_of(candidates)
    batch = encode_batch(batch_of(space))
    for name, part in vars(encode(space)).items():
        np.testing.assert_allclose(part, getattr(batch, name)[0].numpy(), atol=1e-4, err_msg=name)
    price = np.nan_to_num(space.log_price)[seen.index]
    rows, middle = trial_rows(seen, price)
    known = tensors_of(seen)
    encoded, level = encode_trials(known, torch.from_numpy(price)[None])
    np.testing.assert_allclose(rows, encoded[0].numpy(), atol=1e-4)
    assert middle == pytest.approx(float(level[0]), abs=1e-5)

    network = SurrogateModule().eval()
    load_weights(network, WEIGHTS)
    with torch.inference_mode():
        expected = network(batch.only(known.index), encoded, known.present, batch)
    found = Predictor(candidates).predict(seen)
    pairs = {
        "mean": expected.mean + level, "spread": expected.spread, "weight": expected.weight.exp(),
        "p99_mean": expected.p99_mean, "p99_spread": expected.p99_spread, "outcome": expected.outcome.exp(),
        "best": expected.best,
    }  # fmt: skip
    assert set(pairs) == set(Prediction.__dataclass_fields__)
    for name, tensor in pairs.items():
        np.testing.assert_allclose(getattr(found, name), tensor[0].numpy(), atol=2e-3, rtol=1e-3, err_msg=name)
