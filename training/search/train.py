"""Train the search's network: `python -m training.search.train --device cuda --minutes 6 --out DIR`.

First on made-up services, then, with `--finetune TABLES`, a little on measured ones: once per source on all the others
(`weights-without-SOURCE.safetensors`, by which that source can be reported on), and once on all. The minutes are those
of everything. Seeded; weights are written every 20 seconds, on a CPU every 3 minutes. `--start FILE` goes on from them,
`--start FOLDER` from those of an earlier run, each source's from its own.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.search.contexts import Shown, counts, search, show, sister, wander
from training.search.draw import Draw
from training.search.losses import Losses, losses
from training.search.model.encoding import Trials, encode, encode_trials
from training.search.model.network import SurrogateModule
from training.search.optimizers import Optimizers
from training.search.prior import draw_services, only
from training.search.tables import Tables, sources
from training.search.truth import Services
from training.search.weights import BASE, load_weights, save_weights

_TOKENS = {"cuda": 131_072, "cpu": 6_144}  # configurations in a batch
_SIZES = ((64, 0.2), (128, 0.4), (224, 0.3), (512, 0.1))  # configurations of a space, and how often
_MAX = ((6, 0.2), (12, 0.3), (24, 0.3), (48, 0.2))  # trials
_RATE, _WARM, _AVERAGED = 2e-3, 200, 0.998
_HELD_OUT = 10**6  # seeds from here on are never trained on
_BATCHES = {"cuda": 8, "cpu": 2}  # drawn at once
# Once so much of the time has passed, one of so many batches is searched by the network itself, up to so many trials.
_ITSELF_AFTER, _SEARCHES, _SEARCHED = 0.25, 14, 18
_WITH_EARLIER, _EARLIER = 0.12, 16  # how often there are trials of a sister service, and how many at most
_SHOWN_S = {"cuda": 20.0, "cpu": 180.0}


@dataclass
class Example:
    """A batch: services, what was tried in what order, and what it showed."""

    made: Services
    encoded: Any
    trials: Trials
    tried: Tensor


@dataclass
class BatchSource:
    """Where batches come from: made-up services, and with some share measured ones. `seed` moves on with every batch.

    Many services are drawn at once, since that costs about as much as drawing few, and each serves twice, with other
    trials. What the network searched itself serves three times, each time up to another trial.
    """

    device: torch.device
    seed: int
    tables: Tables | None = None
    share: float = 0.5
    waiting: list[tuple[Services, Any]] = field(default_factory=list)
    searched: list[tuple[Services, Any, Shown, Tensor]] = field(default_factory=list)

    def next(self, network: SurrogateModule, progress: float) -> Example:
        """A batch, with trials of other searches or, later in the training, of the network's own."""
        self.seed += 1
        draw = Draw(self.seed, self.device)
        if self.searched and self.seed % 2:
            made, encoded, shown, index = self.searched.pop()
            return _example(draw, made, encoded, shown, index)
        if not self.waiting:
            self._refill(draw)
        made, encoded = self.waiting.pop()
        shown = show(draw, made)
        if progress > _ITSELF_AFTER and self.seed % _SEARCHES == 0:
            with torch.no_grad():
                index = search(draw, network, made, encoded, shown, min(_SEARCHED, made.outcome.shape[1] - 4))
            self.searched = [(made, encoded, shown, index)] * 2
        else:
            max_trials = min(int(_one(draw, _MAX)), made.outcome.shape[1] - 4)
            index = wander(draw, made, encoded, shown, max_trials)
        return _example(draw, made, encoded, shown, index)

    def _refill(self, draw: Draw) -> None:
        size = int(_one(draw, _SIZES))
        at_once = max(8, _TOKENS[self.device.type] // size)
        batches = _BATCHES[self.device.type]
        if self.tables is not None and draw.chance(self.share, 1).item():
            made = self.tables.services(draw, at_once * batches, size, vary=True)
        else:
            made = draw_services(draw, at_once * batches, size)
        order = draw.permutations(1, len(made.outcome))[0]
        parts = [only(made, some) for some in order.chunk(batches)]
        self.waiting = [(part, encode(part.spaces)) for part in parts] * 2


def example(draw: Draw, made: Services, max_trials: int) -> Example:
    """Services with trials anywhere."""
    encoded, shown = encode(made.spaces), show(draw, made)
    return _example(draw, made, encoded, shown, wander(draw, made, encoded, shown, max_trials))


def _example(draw: Draw, made: Services, encoded: Any, shown: Shown, index: Tensor) -> Example:
    count = counts(draw, made, index.shape[1])
    trials = shown.trials(index, count)
    tried = torch.zeros_like(made.spaces.valid).scatter(1, index, trials.present)
    if draw.chance(_WITH_EARLIER, 1).item():
        other = sister(draw, made)
        before = wander(draw, other, encoded, show(draw, other), min(_EARLIER, index.shape[1]))
        many = counts(draw, made, before.shape[1])
        trials = Trials(
            *(
                torch.cat(pair, 1)
                for pair in zip(trials, show(draw, other).trials(before, many, earlier=True), strict=True)
            )
        )
    return Example(made, encoded, trials, tried)


def loss_of(network: SurrogateModule, batch: Example) -> Losses:
    """Of one batch."""
    index = batch.trials.index
    rows, middle = encode_trials(batch.trials, batch.made.spaces.log_price.gather(1, index).nan_to_num())
    found = network(batch.encoded.only(index), rows, batch.trials.present, batch.encoded)
    throughput = (batch.trials.state <= 1) | ~batch.trials.log_saturated.isnan()
    known = (batch.trials.present & throughput & ~batch.trials.earlier).any(1)
    return losses(found, batch.made, batch.tried, middle, known)


def train(
    network: SurrogateModule, source: BatchSource, seconds: float, rate: float, out: Path,
    held: dict[str, list[Example]],
) -> None:  # fmt: skip
    """With a cosine over the time, keeping an average of the weights, which is what is written."""
    parameters = list(network.parameters())
    optimizers = Optimizers(network, rate)
    average = copy.deepcopy(network).requires_grad_(False)
    begun, shown, step, seen, skipped = time.monotonic(), 0.0, 0, 0, 0
    while (passed := time.monotonic() - begun) < seconds:
        progress = passed / seconds
        batch = source.next(average, progress)
        optimizers.zero_grad()
        loss_of(network, batch).total().backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if bool(norm.isfinite()):
            optimizers.step(min(1.0, (step + 1) / _WARM) * max(0.003, 0.5 * (1 + math.cos(math.pi * progress))))
        else:
            skipped += 1
        kept = min(_AVERAGED, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(average.parameters()), [one.detach() for one in parameters], 1 - kept)
        step, seen = step + 1, seen + len(batch.made.outcome)
        if time.monotonic() - max(shown, begun) > _SHOWN_S[source.device.type]:
            shown = time.monotonic()
            save_weights(average, out)
            print(f"{(shown - begun) / 60:5.2f} min, step {step}, {seen:,} services, {skipped} skipped", flush=True)
            for name, batches in held.items():
                print(f"    {name:>17}: {evaluate(average, batches)}", flush=True)
    save_weights(average, out)
    print(f"{out.name}: {step} steps, {seen:,} services, {(time.monotonic() - begun) / 60:.2f} min", flush=True)
    for name, batches in held.items():
        print(f"    {name:>17}: {evaluate(average, batches)}", flush=True)
    network.load_state_dict(average.state_dict())


def evaluate(network: SurrogateModule, batches: list[Example]) -> Losses:
    """The mean losses over batches that are not trained on."""
    with torch.no_grad():
        found = [loss_of(network, batch) for batch in batches]
    return Losses(*(torch.stack(parts).mean() for parts in zip(*found, strict=True)))


def held_out(device: torch.device, tables: dict[str, Tables]) -> dict[str, list[Example]]:
    """Batches of made-up services of every kind, and of each source of tables, by name."""
    size = 64 if device.type == "cpu" else 512
    found: dict[str, list[Example]] = {}
    for kind in ("batching", "language", "diffusion", "anything"):
        draw = Draw(_HELD_OUT + len(found), device)
        made = draw_services(draw, size, 128, (kind,))
        found[f"made-up {kind}"] = [example(draw, made, 12)]
    for name, each in tables.items():
        draw = Draw(_HELD_OUT + len(found), device)
        made = each.services(draw, 2 * len(each.names), 224, vary=False)
        found[name] = [example(draw, made, 12)]
    return found


def _one(draw: Draw, weighted: tuple[tuple[int, float], ...]) -> float:
    values, weights = zip(*weighted, strict=True)
    return float(draw.one_of(values, weights, 1))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=_RATE)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="weights, or a folder of them, to go on from")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--finetune", type=Path, help="folder of measured tables, a folder per source")
    parser.add_argument("--finetune-seconds", type=float, default=15.0, help="per source left out")
    asked = parser.parse_args()
    begun = time.monotonic()
    torch.manual_seed(asked.seed)
    torch.set_num_threads(asked.threads)
    torch.set_float32_matmul_precision("high")
    device = torch.device(asked.device)
    asked.out.mkdir(parents=True, exist_ok=True)
    network = SurrogateModule().to(device)
    if asked.start:
        load_weights(network, asked.start / BASE if asked.start.is_dir() else asked.start)
    measured = {} if asked.finetune is None else sources(asked.finetune)
    tables = {name: Tables(paths, device) for name, paths in measured.items()}
    held = held_out(device, tables)
    rounds = len(measured) + 1 if measured else 0
    source = BatchSource(device, asked.seed * 10**7)
    left = asked.minutes * 60 - (time.monotonic() - begun) - rounds * asked.finetune_seconds
    print(f"{sum(one.numel() for one in network.parameters()):,} weights on {device}", flush=True)
    train(network, source, max(0.0, left), asked.rate, asked.out / BASE, held)
    for without in [*measured, None] if measured else []:
        paths = [path for name, some in measured.items() if name != without for path in some]
        tuned = copy.deepcopy(network)
        mixed = BatchSource(device, asked.seed * 10**7 + 5 * 10**6, Tables(paths, device))
        name = "weights-all.safetensors" if without is None else f"weights-without-{without}.safetensors"
        if asked.start and (asked.start / name).is_file():
            load_weights(tuned, asked.start / name)
        shown = {without: held[without]} if without is not None else {}
        train(tuned, mixed, asked.finetune_seconds, asked.rate / 5, asked.out / name, shown)
    (asked.out / "training.json").write_text(
        json.dumps({"seed": asked.seed, "minutes": (time.monotonic() - begun) / 60, "device": _name(device)}) + "\n",
        encoding="utf-8",
    )


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


if __name__ == "__main__":
    main()
