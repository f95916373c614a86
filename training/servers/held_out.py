"""How well the network does on servers that it was not trained on: of the families of its training, and of others.

`python -m training.servers.held_out WEIGHTS... --searching WEIGHTS` prints it for files of weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.servers import families, generate
from training.servers.examples import NAMES
from training.servers.network import ServerModule, capacity_loss
from training.servers.weights import restore

Arrays = dict[str, NDArray[Any]]
_BINS = ((0, 1), (1, 60), (60, 150), (150, 400), (400, 1000), (1000, 2500), (2500, 10**9))


def held_out(seed: int, files: int, folder: Path | None, searching: Path | None) -> dict[str, Arrays]:
    """Examples of "trained", "validation" and "unseen" families, of the first two also what searches with those weights
    saw ("trained searches", "validation searches"); kept in the folder, where there is one.
    """
    found = {}
    kinds_of = {"trained": families.TRAINED, "validation": families.VALIDATION, "unseen": families.UNSEEN}
    searched = {} if searching is None else {f"{name} searches": kinds_of[name] for name in ("trained", "validation")}
    for name, kinds in (kinds_of | searched).items():
        path = None if folder is None else folder / f"{name}.npz"
        if path is not None and path.exists():
            with np.load(path) as stored:
                found[name] = {key: stored[key] for key in stored.files}
            continue
        weights = searching if name in searched else None
        blocks = [generate.block(seed + generate.HELD_OUT, number, kinds, weights).arrays() for number in range(files)]
        found[name] = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **found[name])
    return found


def mixture_quantiles(
    weight: NDArray[Any], mean: NDArray[Any], spread: NDArray[Any], shares: tuple[float, ...]
) -> NDArray[Any]:
    """Of mixtures of normal distributions, one per row, by bisection: (rows, shares)."""
    low = np.repeat((mean - 8 * spread).min(1, keepdims=True), len(shares), 1)
    high = np.repeat((mean + 8 * spread).max(1, keepdims=True), len(shares), 1)
    tensors = [torch.as_tensor(array)[:, None, :] for array in (np.exp(weight), mean, spread)]
    for _ in range(40):
        middle = (low + high) / 2
        below = (tensors[0] * torch.special.ndtr((torch.as_tensor(middle)[..., None] - tensors[1]) / tensors[2])).sum(
            -1
        )
        under = below.numpy() < np.array(shares)
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return np.asarray((low + high) / 2)


@torch.no_grad()
def judged(network: ServerModule, judging: dict[str, Arrays], device: torch.device) -> dict[str, Any]:
    """Per kind, by number of requests and by family: the median error, the share that the 95% interval covers, its
    width.
    """
    report: dict[str, Any] = {"short": {}}
    for kind, arrays in judging.items():
        names = ("query", "bursts", "burst_mask", "probes", "probe_mask", "anchors", "asked")
        found = network(*(torch.as_tensor(arrays[name]).to(device) for name in names))
        target = torch.as_tensor(arrays["target"]).to(device)
        loss = capacity_loss(found, target).cpu().numpy()
        parts = [part.double().cpu().numpy() for part in (found.weight, found.mean, found.spread)]
        low, middle, high = mixture_quantiles(parts[0], parts[1], parts[2], (0.025, 0.5, 0.975)).T
        truth = arrays["target"].astype(np.float64)
        rows = {
            "error": np.abs(np.exp(middle - truth) - 1), "covered": (low <= truth) & (truth <= high),
            "width": np.exp(high - low), "loss": loss,
            "curve": np.abs(found.curve_mean.cpu().numpy() - arrays["curve"]).mean(1),
        }  # fmt: skip
        report[kind] = _by(rows, arrays)
        report["short"][kind] = {"loss": round(float(loss.mean()), 3)} | {
            key: _line(rows, (arrays["requests"] >= low_n) & (arrays["requests"] < high_n))
            for key, low_n, high_n in (("150-400", 150, 400), ("1000-2500", 1000, 2500))
        }
    return report


def _line(rows: dict[str, NDArray[Any]], kept: NDArray[np.bool_]) -> str:
    if not kept.any():
        return ""
    error, width = np.median(rows["error"][kept]), np.quantile(rows["width"][kept], (0.5, 0.9))
    covered, loss = rows["covered"][kept].mean(), rows["loss"][kept].mean()
    widths = f"width {width[0]:.2f} {width[1]:.2f}"
    return f"n={kept.sum()} error {error:.1%} covered {covered:.1%} {widths} loss {loss:.2f}"


def _by(rows: dict[str, NDArray[Any]], arrays: Arrays) -> dict[str, str]:
    requests, family = arrays["requests"], arrays["family"]
    found = {f"{low} to {high} requests": _line(rows, (requests >= low) & (requests < high)) for low, high in _BINS}
    found |= {NAMES[number]: _line(rows, (family == number) & (requests >= 150)) for number in np.unique(family)}
    return found | {
        "all": _line(rows, np.ones(len(requests), dtype=bool)),
        "curve": f"{float(np.median(rows['curve'])):.3f}",
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", type=Path)
    parser.add_argument("--searching", type=Path, required=True, help="weights of the searches that are watched")
    parser.add_argument("--files", type=int, default=6, help="of 192 examples, of each kind")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    judging = held_out(asked.seed, asked.files, None, asked.searching)
    for path in asked.weights:
        network = ServerModule().eval()
        restore(network, path)
        print(path, json.dumps(judged(network, judging, torch.device("cpu"))["short"], indent=1))


if __name__ == "__main__":
    main()
