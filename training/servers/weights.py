"""One network from several that began with the same weights: `python -m training.servers.weights RUN... OUT`.

What was trained on from the same place, on other examples or in another order, differs by what each had by chance; the
mean of their weights is better on servers that none has seen than each alone (Wortsman and others, "Model soups", ICML
2022). The weights that they began with may be among them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn


def restore(network: nn.Module, path: Path) -> None:
    """Set the network's weights to those of a `weights.npz`. Raises RuntimeError where they are of another network."""
    with np.load(path) as stored:
        network.load_state_dict({name: torch.as_tensor(stored[name].astype(np.float32)) for name in stored.files})


def mean(paths: list[Path], out: Path) -> None:
    """Write the mean of `weights.npz` files. Raises KeyError or ValueError where they are not of the same network."""
    parts = []
    for path in paths:
        with np.load(path) as stored:
            parts.append({name: stored[name].astype(np.float64) for name in stored.files})
    means = {name: np.mean([part[name] for part in parts], axis=0).astype(np.float16) for name in parts[0]}
    np.savez(out, allow_pickle=False, **means)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    mean(asked.runs, asked.out)


if __name__ == "__main__":
    main()
