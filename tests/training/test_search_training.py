"""What the search's network is trained on: services, trials of them, and batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from training.search.contexts import counts, search, show, sister, wander
from training.search.draw import Draw
from training.search.model.encoding import encode
from training.search.model.network import SurrogateModule
from training.search.prior import KINDS, draw_services
from training.search.tables import Tables
from training.search.train import BatchSource, loss_of
from training.search.weights import carry_over, load_weights, save_weights

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", list(KINDS))
def test_services_are_drawn_the_same_from_a_seed(kind: str) -> None:
    first, again = (draw_services(Draw(5, CPU), 12, 48, (kind,)) for _ in range(2))
    assert torch.equal(first.outcome, again.outcome)
    assert torch.equal(first.log_capacity.nan_to_num(), again.log_capacity.nan_to_num())
    served = (first.outcome == 0) & first.spaces.valid
    assert torch.equal(served, ~first.log_capacity.isnan())
    assert first.log_capacity.nan_to_num().isfinite().all()


def test_configurations_of_a_space_are_distinct() -> None:
    made = draw_services(Draw(3, CPU), 40, 64)
    for rank, valid in zip(made.spaces.rank, made.spaces.valid, strict=True):
        rows = rank[valid]
        assert len(rows.unique(dim=0)) >= 0.9 * len(rows)  # of very large spaces two may be drawn alike


def test_drawn_trials_prune_only_what_is_dearer_than_the_best() -> None:
    draw = Draw(1, CPU)
    made = draw_services(draw, 60, 64)
    shown = show(draw, made)
    index = wander(draw, made, encode(made.spaces), shown, 24)
    trials = shown.trials(index, counts(draw, made, 24))
    pruned = (trials.state == 1) & trials.present
    assert pruned.any()
    assert (shown.log_capacity.gather(1, index)[pruned] < trials.log_capacity[pruned]).all()
    for row, present in zip(index, trials.present, strict=True):
        assert len(set(row[present].tolist())) == int(present.sum())


def test_the_network_may_search_for_itself_and_sisters_share_the_space() -> None:
    draw = Draw(2, CPU)
    made = draw_services(draw, 12, 48)
    encoded, shown = encode(made.spaces), show(draw, made)
    with torch.no_grad():
        index = search(draw, SurrogateModule(), made, encoded, shown, 6)
    assert all(len(set(row.tolist())) == 6 for row in index)
    other = sister(draw, made)
    assert other.spaces is made.spaces
    assert not torch.equal(other.outcome, made.outcome)


def test_a_batch_gives_gradients_that_are_finite() -> None:
    network, source = SurrogateModule(), BatchSource(CPU, 7)
    for progress in (0.0, 0.9):
        loss = loss_of(network, source.next(network, progress)).total()
        loss.backward()  # type: ignore[no-untyped-call]
    assert all(one.grad is None or bool(one.grad.isfinite().all()) for one in network.parameters())


def test_a_measured_table_is_a_service(tmp_path: Path) -> None:
    rows = [f"{batch},{cores},{10 * batch if batch < 4 else 0},{5 * batch},ok,{0.1 * cores},90"
            for batch in (0, 1, 2, 4) for cores in (1, 2, 4, 8)]  # fmt: skip
    head = "batch_size,cpu_cores,capacity_qps,p99_ms,status,price_per_hour,trial_s"
    path = tmp_path / "made-16ms.csv"
    path.write_text("\n".join([head, *rows]), encoding="utf-8")
    tables = Tables([path], CPU)
    as_it_is = tables.services(Draw(1, CPU), 1, 64, vary=False)
    assert int((as_it_is.outcome[as_it_is.spaces.valid] == 0).sum()) == 8
    varied = tables.services(Draw(1, CPU), 8, 64, vary=True)
    assert (varied.spaces.valid.sum(1) >= 12).all()


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    first, second = SurrogateModule(), SurrogateModule()
    save_weights(first, tmp_path / "weights.safetensors")
    load_weights(second, tmp_path / "weights.safetensors")
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))


def test_fine_tuning_is_carried_over_to_other_weights(tmp_path: Path) -> None:
    networks = {name: SurrogateModule() for name in ("old", "tuned", "first", "second")}
    files = {"old": "earlier/weights-base", "tuned": "earlier/weights-without-one", "first": "a/weights-base",
             "second": "b/weights-base"}  # fmt: skip
    for name, file in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        save_weights(networks[name], tmp_path / f"{file}.safetensors")
    _, written = carry_over(tmp_path / "earlier", [tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    found = SurrogateModule()
    load_weights(found, written)
    old, tuned, first, second = (one.state_dict() for one in networks.values())
    for key, value in found.state_dict().items():
        assert torch.allclose(value, (first[key] + second[key]) / 2 + tuned[key] - old[key], atol=1e-6)
