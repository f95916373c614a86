"""Fine-tuning carried over to other weights: `python -m training.search.carry_over EARLIER NEW`.

Both are folders of `training.search.train`. EARLIER has weights that were fine-tuned on measured tables, and
`weights-base.safetensors` from before; NEW has base weights that were trained further. What fine-tuning changed is
added to the new base (a task vector: Ilharco et al., Editing Models with Task Arithmetic, 2023), once per source that
was left out and once for all: seconds, where fine-tuning again takes minutes on a GPU. A source that was left out still
is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from training.search.model.network import SurrogateModule
from training.search.weights import BASE, load_weights, save_weights


def carry_over(earlier: Path, new: Path) -> list[Path]:
    """Write the fine-tuned weights of `earlier`, carried over, into `new`; returns them."""
    old_base, new_base = _state(earlier / BASE), _state(new / BASE)
    written = []
    for path in sorted(earlier.glob("weights-*.safetensors")):
        if path.name == BASE:
            continue
        tuned, network = _state(path), SurrogateModule()
        network.load_state_dict({name: new_base[name] + tuned[name] - old_base[name] for name in tuned})
        save_weights(network, new / path.name)
        written.append(new / path.name)
    return written


def _state(path: Path) -> dict[str, torch.Tensor]:
    network = SurrogateModule()
    load_weights(network, path)
    found: dict[str, torch.Tensor] = network.state_dict()
    return found


if __name__ == "__main__":
    carry_over(Path(sys.argv[1]), Path(sys.argv[2]))
