"""Simulated servers against theory, and the network in numpy against the one that was trained."""

from __future__ import annotations

import math
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.truth.queues import QUICK, capacity_qps, quantile_s
from loadtest.judge import features
from loadtest.judge.features import Query
from loadtest.judge.network import WEIGHTS, ServerNetwork, load
from training.servers import families, generate, weights
from training.servers.arrivals import Pattern
from training.servers.examples import padded
from training.servers.network import ServerModule
from training.servers.searched import search
from training.servers.server import SERVICES, Server, answers, closed_loop
from training.servers.train import forward, rescale
from training.servers.trials import Simulated
from training.servers.truth import capacity_qps as long_run_qps
from training.servers.truth import curve

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="servers are simulated in C, which needs a compiler"),
    pytest.mark.usefixtures("needs_machine"),  # the simulator is compiled once
]

QUEUES = {
    "M/D/1": Server(mean=0.004),
    "M/M/1": Server(mean=0.004, service=SERVICES["exponential"]),
    "M/D/4": Server(mean=0.016, workers=4),
    "batch": Server(engine=1, batch=8, fixed=0.016, item=0.002),
}


@pytest.mark.parametrize("kind", QUEUES)
def test_the_simulator_agrees_with_theory(kind: str) -> None:
    arrivals = Pattern().times(np.random.default_rng(0), 200, 400_000)
    found = answers(QUEUES[kind], arrivals, 1).latency[2000:]
    assert np.quantile(found, 0.99) == pytest.approx(quantile_s(kind, 200, 0.004), rel=0.04)


@pytest.mark.parametrize(("kind", "limit_s"), [("M/D/1", 0.05), ("M/M/1", 0.1), ("batch", 0.1)])
def test_the_true_capacity_is_that_of_theory(kind: str, limit_s: float) -> None:
    random = np.random.default_rng(3)
    found = curve(QUEUES[kind], Pattern(), "latency", random)
    assert found is not None
    assert long_run_qps(found, limit_s, 0.01, random) == pytest.approx(
        capacity_qps(kind, 0.004, limit_s, count=QUICK), rel=0.04
    )


def test_processor_sharing_with_one_slot_is_a_queue() -> None:
    arrivals = Pattern().times(np.random.default_rng(0), 200, 20_000)
    shared = answers(Server(engine=2, mean=0.004, slots=1), arrivals, 1)
    assert shared.latency == pytest.approx(answers(QUEUES["M/D/1"], arrivals, 1).latency)


def test_users_in_a_closed_loop_get_what_there_is() -> None:
    sent, found = closed_loop(QUEUES["batch"], 32, 5.0, 1)
    ended = sent + found.latency
    assert np.sum(ended <= 5.0) / 5.0 == pytest.approx(250, rel=0.05)


def test_a_short_queue_refuses() -> None:
    arrivals = Pattern().times(np.random.default_rng(0), 500, 5000)
    found = answers(Server(mean=0.004, admit=4), arrivals, 1)
    assert 0.4 < found.failed.mean() < 0.6
    assert found.latency[~found.failed].max() <= 4 * 0.004 + 1e-9


def test_one_process_before_all_workers_is_a_queue_of_its_own() -> None:
    sent, found = closed_loop(Server(mean=0.004, workers=8, front=0.01), 32, 5.0, 1)
    assert np.sum(sent + found.latency <= 5.0) / 5.0 == pytest.approx(100, rel=0.02)


def test_a_loop_that_looks_for_work_begins_batches_at_its_ticks() -> None:
    arrivals = Pattern().times(np.random.default_rng(0), 50, 2000)
    found = answers(Server(engine=1, batch=64, fixed=0.01, tick=0.05), arrivals, 1)
    ticks = (arrivals + found.latency - 0.01) / 0.05
    assert ticks == pytest.approx(np.round(ticks), abs=1e-6)


def test_strain_makes_everything_slower_the_more_are_inside() -> None:
    arrivals = Pattern().times(np.random.default_rng(0), 200, 20_000)
    plain, strained = (answers(Server(mean=0.004, strain=strain), arrivals, 1).latency for strain in (0.0, 0.05))
    assert strained[0] == plain[0]
    assert strained.mean() > 1.05 * plain.mean()


def test_a_worker_that_was_idle_has_to_wake() -> None:
    found = answers(Server(mean=0.004, wake=0.002, wake_after=0.01), np.array([1.0, 1.001, 1.03]), 1)
    assert found.latency == pytest.approx([0.006, 0.009, 0.006])


@pytest.mark.parametrize("kind", ["poisson", "constant", "bursty", "trace"])
def test_arrivals_keep_their_mean_rate(kind: str) -> None:
    pattern = Pattern(kind, levels=(0.5, 1.5), step_s=2.0)
    times = pattern.times(np.random.default_rng(0), 50, 50_000)
    assert (np.diff(times) >= 0).all()
    assert len(times) / times[-1] == pytest.approx(50, rel=0.05)


def test_families_for_judging_are_not_trained_on() -> None:
    kinds = [set(one) for one in (families.TRAINED, families.VALIDATION, families.UNSEEN)]
    assert len(set.union(*kinds)) == sum(len(one) for one in kinds)


@pytest.mark.parametrize("searching", [None, WEIGHTS])
def test_the_same_seed_makes_the_same_examples(searching: Path | None) -> None:
    one, two = (generate.block(5, 0, searching=searching).arrays() for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert all(np.isfinite(one[name]).all() for name in one if one[name].dtype.kind == "f")


def test_a_search_is_seen_after_each_of_its_probes_and_in_the_middle_of_some() -> None:
    network, query = load(), Query(0.1, 0.01)
    seen = search(network, QUEUES["M/M/1"], Pattern(), query, np.random.default_rng(3))
    assert seen.moments[0] == []
    for before, after in pairwise(seen.moments):
        assert len(before) <= len(after) <= len(before) + 1, "one probe more, or the end of the one that was under way"
    ended = seen.moments[-1]
    parts = [one for one in seen.moments[1:] if all(one[-1] is not probe for probe in ended)]
    assert len(ended) > 1
    assert parts, "looks at probes that were not over"
    assert all(len(one[-1].scheduled_s) < len(ended[len(one) - 1].scheduled_s) for one in parts)


def test_the_mean_of_several_runs(tmp_path: Path) -> None:
    one, two, out = (tmp_path / name for name in ("one.npz", "two.npz", "out.npz"))
    np.savez(one, allow_pickle=False, **{"last.bias": np.array([1.0, 2.0], np.float16)})
    np.savez(two, allow_pickle=False, **{"last.bias": np.array([3.0, 6.0], np.float16)})
    weights.mean([one, two], out)
    with np.load(out) as found:
        assert found["last.bias"].tolist() == [2.0, 4.0]


def _seen() -> tuple[Query, features.NetworkInput]:
    query = Query(0.1, 0.01)
    trial = Simulated(QUEUES["M/M/1"], Pattern(), query, np.random.default_rng(2)).trial(4)
    return query, features.tokens(query, trial.lone_s, trial.bursts, trial.probes)


def test_numpy_computes_what_torch_does() -> None:
    torch.manual_seed(0)
    model = ServerModule().eval()
    ours = ServerNetwork({name: value.numpy() for name, value in model.state_dict().items()})
    _, seen = _seen()
    batch = {name: torch.as_tensor(value)[None] for name, value in padded(seen).items()}
    batch["asked"] = torch.tensor([[[math.log(0.7), math.log(0.1 / 0.9) / 3]]], dtype=torch.float32)
    with torch.no_grad():
        theirs = forward(model, batch)
    found = ours.infer(seen)
    there = theirs.weight[0].exp() > 1e-9
    scale = math.log(seen.scale_qps)
    assert found.means - scale == pytest.approx(theirs.mean[0][there].numpy(), abs=1e-4)
    assert found.weights == pytest.approx(theirs.weight[0][there].exp().numpy(), abs=1e-4)
    assert found.spreads == pytest.approx(theirs.spread[0][there].numpy(), rel=1e-3)
    assert found.log_latency(0.7 * seen.scale_qps, 0.9)[0] == pytest.approx(float(theirs.curve_mean[0, 0]), abs=1e-3)


def test_another_unit_of_rates_is_what_the_features_would_be() -> None:
    query, seen = _seen()
    batch = {name: torch.as_tensor(value)[None].clone() for name, value in padded(seen).items()}
    batch |= {"target": torch.zeros(1), "asked": torch.zeros(1, 6, 2)}
    rescale(batch, torch.full((1, 1), 0.3))
    trial = Simulated(QUEUES["M/M/1"], Pattern(), query, np.random.default_rng(2)).trial(4)
    unit_qps = math.exp(0.3) * seen.scale_qps
    other = padded(features.tokens(query, trial.lone_s, trial.bursts, trial.probes, unit_qps))
    assert batch["query"][0].numpy() == pytest.approx(other["query"], abs=1e-5)
    for name, mask in (("probes", "probe_mask"), ("bursts", "burst_mask")):
        assert batch[name][0].numpy()[other[mask]] == pytest.approx(other[name][other[mask]], abs=1e-4)
