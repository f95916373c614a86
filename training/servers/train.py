"""Train the network that infers a server: `python -m training.servers.train --device cpu --minutes 60 --out DIR`.

Processes simulate servers while the network learns from what they have made so far: trials of random policies and,
with `--searching WEIGHTS`, as many of searches with those. With a GPU: `--device cuda --minutes 6 --processes 7`. Goes
on where an earlier run with the same `--out` was stopped. Writes `weights.npz` (what `loadtest.judge` reads),
`state.pt` and `report.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loadtest.judge.features import BURST_RATES, BURST_WAVES, PROBE_RATES, PROBE_WAVES, QUERY_RATES, WAVES
from training.servers import generate
from training.servers.held_out import held_out, judged
from training.servers.network import ServerModule, capacity_loss, curve_loss
from training.servers.weights import restore

_RATE, _DECAY, _CURVE = 1e-3, 0.1, 0.15
_UNIT_SPREAD = 0.3
_WARM_STEPS, _AVERAGE = 500, 0.998
_KEEP_PROBE = 0.7  # of the probes, where some are left out at all: half of the examples
_LOOK_S, _SAVE_S = 5.0, 60.0
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


class _Run:
    """The network that learns, the running average of its weights, which is what is kept, and how it is judged."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self._folder, self._device = asked.out, torch.device(asked.device)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._network, self.average = ServerModule().to(self._device), ServerModule().to(self._device).eval()
        if asked.begin_with is not None:
            restore(self._network, asked.begin_with)
        self.average.load_state_dict(self._network.state_dict())
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=_RATE, weight_decay=_DECAY, fused=self._device.type == "cuda"
        )
        self.steps, self._best = 0, math.inf
        if (state := self._folder / "state.pt").exists():
            stored = torch.load(state, map_location=self._device, weights_only=True)
            self._network.load_state_dict(stored["network"])
            self.average.load_state_dict(stored["average"])
            self._optimizer.load_state_dict(stored["optimizer"])
            self.steps = int(stored["steps"])
        self._judging = held_out(asked.seed, asked.held_out, asked.held_out_data, asked.searching)

    def step(self, batch: dict[str, Tensor], rate: float) -> float:
        """One step; the loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate * min(1.0, (self.steps + 1) / _WARM_STEPS)
        found = forward(self._network, batch)
        loss = capacity_loss(found, batch["target"]).mean() + _CURVE * curve_loss(found, batch["curve"]).mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()
        self.steps += 1
        keep = min(_AVERAGE, self.steps / (self.steps + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self._network.parameters()), 1 - keep)
        return float(loss.detach())

    def keep(self) -> None:
        """The state to go on from, and what the load test reads: the weights with the least loss on held-out servers of
        the families that are trained on and of those for validation, in equal parts.
        """
        state = {
            "network": self._network.state_dict(), "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(), "steps": self.steps,
        }  # fmt: skip
        torch.save(state, self._folder / "state.new")
        (self._folder / "state.new").replace(self._folder / "state.pt")
        short = self.judged()["short"]
        print(json.dumps(short), flush=True)
        loss = float(np.mean([float(found["loss"]) for name, found in short.items() if name != "unseen"]))
        if loss < self._best:
            self._best = loss
            kept = self.average.state_dict().items()
            np.savez(
                self._folder / "weights.new.npz",
                **{name: value.detach().cpu().numpy().astype(np.float16) for name, value in kept},
            )
            (self._folder / "weights.new.npz").replace(self._folder / "weights.npz")

    def judged(self) -> dict[str, Any]:
        """The average, on held-out servers."""
        return judged(self.average, self._judging, self._device)


def train(asked: argparse.Namespace) -> None:
    """Blocks for about `--minutes`."""
    torch.manual_seed(asked.seed)
    torch.set_float32_matmul_precision("high")
    begun, device, data = time.time(), torch.device(asked.device), asked.data or asked.out / "data"
    made = generate.start(data, asked.seed, asked.minutes - asked.last_minutes, asked.processes, asked.searching)
    run, store, known = _Run(asked), Store(device), set[str]()
    generator, looked, saved, losses = torch.Generator(device).manual_seed(asked.seed), 0.0, time.time(), list[float]()
    while (passed := time.time() - begun) < 60 * asked.minutes:
        if time.time() - looked > _LOOK_S:
            looked = time.time()
            for block in generate.read(data, known):
                store.add(block)
            if losses:
                print(
                    f"{passed:.0f} s, {store.count} examples, {run.steps} steps, loss {np.mean(losses):.3f}", flush=True
                )
                losses.clear()
        if store.count < _FEWEST:
            time.sleep(0.2)
            continue
        falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * passed / (60 * asked.minutes)))
        losses.append(run.step(store.batch(asked.batch, generator), asked.rate * falling))
        if time.time() - saved > _SAVE_S:
            saved = time.time()
            run.keep()
    run.keep()
    restore(run.average, asked.out / "weights.npz")
    report = run.judged() | {"steps": run.steps, "examples": store.count, "seconds": time.time() - begun}
    (asked.out / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))
    for process in made:
        process.terminate()


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
