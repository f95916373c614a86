"""Train the network that infers a server: `python -m training.servers.train --device cpu --minutes 60 --out DIR`.

Processes simulate servers while the network learns from what they have made so far: trials of random policies, and with
`--searching WEIGHTS` as many of searches with those. With a GPU: `--device cuda --minutes 6 --processes 7`. Goes on where an earlier run with the same `--out` was stopped. Writes `weights.npz` (what
`loadtest.judge` reads), `state.pt` and `report.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loadtest.judge.features import BURST_RATES, BURST_WAVES, PROBE_RATES, PROBE_WAVES, QUERY_RATES, WAVES
from training.servers import generate
from training.servers.held_out import Arrays, held_out, judged
from training.servers.network import ServerModule, capacity_loss, curve_loss

_RATE, _DECAY, _CURVE = 1e-3, 0.1, 0.15
_UNIT_SPREAD = 0.3
_WARM_STEPS, _AVERAGE = 500, 0.998
_KEEP_PROBE = 0.7  # of the probes, where some are left out at all: half of the examples
_LOOK_S, _SAVE_S = 5.0, 30.0
_FEWEST = 2_000  # examples before the first step


class Store:
    """All examples so far, on the device; grows as files come."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._arrays, self.count = device, dict[str, Tensor](), 0

    def add(self, block: dict[str, NDArray[np.generic]]) -> None:
        """One file."""
        size = len(block["target"])
        for name, array in block.items():
            new = torch.as_tensor(array.astype(np.float32) if array.dtype.kind == "f" else array)
            if name not in self._arrays:
                self._arrays[name] = torch.zeros((4096, *array.shape[1:]), dtype=new.dtype, device=self._device)
            while self.count + size > len(self._arrays[name]):
                self._arrays[name] = torch.cat([self._arrays[name], torch.zeros_like(self._arrays[name])])
            self._arrays[name][self.count : self.count + size] = new.to(self._device)
        self.count += size

    def batch(self, size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Examples at random, half of them without some of their probes."""

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=self._device)

        rows = torch.randint(self.count, (size,), generator=generator, device=self._device)
        found = {name: array[rows] for name, array in self._arrays.items()}
        keep, some = uniform(size, found["probe_mask"].shape[1]) < _KEEP_PROBE, uniform(size, 1) < 0.5
        found["probe_mask"] = found["probe_mask"] & (keep | ~some)
        left = found["probe_mask"].sum(1).float() / 5
        shift = _UNIT_SPREAD * torch.randn((size, 1), generator=generator, device=self._device)
        rescale(found, torch.where(uniform(size, 1) < 0.5, shift, 0.0))
        found["query"] = torch.cat([found["query"][:, :9], left[:, None], found["query"][:, 10:]], dim=1)
        return found


def rescale(batch: dict[str, Tensor], shift: Tensor) -> None:
    """Another unit of rates, larger by exp(shift), for each example: nothing that is asked depends on it."""
    probes, bursts, query = batch["probes"].clone(), batch["bursts"].clone(), batch["query"].clone()
    for tokens, places, waves in ((probes, PROBE_RATES, PROBE_WAVES), (bursts, BURST_RATES, BURST_WAVES)):
        for place in places:
            tokens[..., place] -= shift
        turns = tokens[..., places[0]]
        for number, wave in enumerate(WAVES):
            tokens[..., waves + 2 * number] = torch.sin(turns * wave)
            tokens[..., waves + 2 * number + 1] = torch.cos(turns * wave)
    for place, factor in QUERY_RATES.items():
        query[:, place] += factor * shift[:, 0]
    batch |= {
        "probes": probes, "bursts": bursts, "query": query, "anchors": batch["anchors"] - shift,
        "target": batch["target"] - shift[:, 0],
        "asked": torch.stack([batch["asked"][..., 0] - shift, batch["asked"][..., 1]], dim=-1),
    }  # fmt: skip


def forward(network: ServerModule, batch: dict[str, Tensor]):  # type: ignore[no-untyped-def]
    """The network on one batch."""
    names = ("query", "bursts", "burst_mask", "probes", "probe_mask", "anchors", "asked")
    return network(*(batch[name] for name in names))


def train(asked: argparse.Namespace) -> None:
    """Blocks for about `--minutes`."""
    torch.manual_seed(asked.seed)
    torch.set_float32_matmul_precision("high")
    begun, device, folder = time.time(), torch.device(asked.device), asked.out
    folder.mkdir(parents=True, exist_ok=True)
    simulated = asked.minutes - asked.last_minutes
    data = asked.data or folder / "data"
    made = generate.start(data, asked.seed, simulated, asked.processes, asked.searching)
    network, average = ServerModule().to(device), ServerModule().to(device).eval()
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY, fused=device.type == "cuda")
    generator, store, known, steps = torch.Generator(device).manual_seed(asked.seed), Store(device), set[str](), 0
    if asked.begin_with is not None:
        _load(network, asked.begin_with)
        average.load_state_dict(network.state_dict())
    state = folder / "state.pt"
    if state.exists():
        stored = torch.load(state, map_location=device, weights_only=True)
        network.load_state_dict(stored["network"])
        average.load_state_dict(stored["average"])
        optimizer.load_state_dict(stored["optimizer"])
        steps = int(stored["steps"])
    looked, saved, losses, best = 0.0, time.time(), list[float](), math.inf
    judging = held_out(asked.seed, asked.held_out, asked.held_out_data, asked.searching)
    while (passed := time.time() - begun) < 60 * asked.minutes:
        if time.time() - looked > _LOOK_S:
            looked = time.time()
            for block in generate.read(data, known):
                store.add(block)
            if losses:
                print(f"{passed:.0f} s, {store.count} examples, {steps} steps, loss {np.mean(losses):.3f}", flush=True)
                losses.clear()
        if store.count < _FEWEST:
            time.sleep(0.2)
            continue
        share = passed / (60 * asked.minutes)
        for group in optimizer.param_groups:
            group["lr"] = (
                asked.rate * min(1.0, (steps + 1) / _WARM_STEPS) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
            )
        loss = _step(network, optimizer, store.batch(asked.batch, generator))
        steps += 1
        with torch.no_grad():
            keep = min(_AVERAGE, steps / (steps + 10))
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - keep)
        if steps % 20 == 0:
            losses.append(float(loss))
        if time.time() - saved > _SAVE_S:
            saved, best = time.time(), _keep(folder, network, average, optimizer, steps, judging, best)
    best = _keep(folder, network, average, optimizer, steps, judging, best)
    _load(average, folder / "weights.npz")
    report = judged(average, judging, device) | {
        "steps": steps,
        "examples": store.count,
        "seconds": time.time() - begun,
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))
    for process in made:
        process.terminate()


def _step(network: ServerModule, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor]) -> Tensor:
    found = forward(network, batch)
    loss = capacity_loss(found, batch["target"]).mean() + _CURVE * curve_loss(found, batch["curve"]).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


def _keep(folder: Path, network: ServerModule, average: ServerModule, optimizer: torch.optim.Optimizer, steps: int,
          judging: dict[str, Arrays], best: float) -> float:  # fmt: skip
    """The state to go on from, and what the load test reads: the weights with the least loss on held-out servers of the
    families that are trained on and of those for validation, in equal parts. Returns that loss.
    """
    state = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "steps": steps,
    }
    torch.save(state, folder / "state.new")
    (folder / "state.new").replace(folder / "state.pt")
    short = judged(average, judging, next(average.parameters()).device)["short"]
    print(json.dumps(short), flush=True)
    loss = float(np.mean([float(found["loss"]) for name, found in short.items() if name != "unseen"]))
    if loss >= best:
        return best
    weights = {name: value.detach().cpu().numpy().astype(np.float16) for name, value in average.state_dict().items()}
    np.savez(folder / "weights.new.npz", **weights)
    (folder / "weights.new.npz").replace(folder / "weights.npz")
    return loss


def _load(network: ServerModule, path: Path) -> None:
    with np.load(path) as stored:
        network.load_state_dict({name: torch.as_tensor(stored[name].astype(np.float32)) for name in stored.files})


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--last-minutes", type=float, default=1.0, help="of learning, after the last simulation")
    parser.add_argument("--processes", type=int, default=1, help="that simulate")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="examples made earlier, to be read and added to")
    parser.add_argument("--held-out", type=int, default=6, help="files of examples, of each kind, to judge by")
    parser.add_argument("--held-out-data", type=Path, help="a folder to keep them in")
    parser.add_argument("--batch", type=int, default=512, help="examples a step")
    parser.add_argument("--searching", type=Path, help="weights of searches that are watched, for half of the examples")
    parser.add_argument("--begin-with", type=Path, help="weights of an earlier run to start from")
    parser.add_argument("--rate", type=float, default=_RATE, help="of learning, at its highest")
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
