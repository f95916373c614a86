"""Fine-tuning carried over to other weights: `python -m training.search.model.carry_over EARLIER RUN... OUT`.

All are folders of `training.search.train`. EARLIER has weights that were fine-tuned on measured tables, and
`weights-base.safetensors` from before. RUNs went on from that base, by other seeds or on other machines; the mean of
their bases is the new one (Wortsman et al., Model Soups, 2022). What fine-tuning changed is added to it (a task
vector: Ilharco et al., Editing Models with Task Arithmetic, 2023), once per source that was left out and once for all:
seconds, where fine-tuning again takes minutes on a GPU. A source that was left out still is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from training.search.model.network import SurrogateModule
from training.search.weights import BASE, load_weights, save_weights

_State = dict[str, torch.Tensor]


def carry_over(earlier: Path, runs: Sequence[Path], out: Path) -> list[Path]:
    """Write the new base, and the fine-tuned weights of `earlier` carried over to it, into `out`; returns all."""
    bases = [_state(run / BASE) for run in runs]
    old_base = _state(earlier / BASE)
    new_base = {name: torch.stack([one[name] for one in bases]).mean(0) for name in old_base}
    out.mkdir(parents=True, exist_ok=True)
    written = [_written(new_base, out / BASE)]
    for path in sorted(earlier.glob("weights-*.safetensors")):
        if path.name != BASE:
            tuned = _state(path)
            moved = {name: new_base[name] + tuned[name] - old_base[name] for name in tuned}
            written.append(_written(moved, out / path.name))
    return written


def _state(path: Path) -> _State:
    network = SurrogateModule()
    load_weights(network, path)
    found: _State = network.state_dict()
    return found


def _written(state: _State, path: Path) -> Path:
    network = SurrogateModule()
    network.load_state_dict(state)
    save_weights(network, path)
    return path


if __name__ == "__main__":
    first, *between, last = (Path(one) for one in sys.argv[1:])
    carry_over(first, between, last)
