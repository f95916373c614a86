"""What the network may expect before it has seen any trial: all kinds of made-up services, mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from training.search.batching import batching
from training.search.draw import Draw
from training.search.servers import anything, diffusion, language
from training.search.truth import Services

KINDS: dict[str, tuple[Callable[[Draw, int, int], Services], float]] = {
    "batching": (batching, 0.55), "language": (language, 0.17), "diffusion": (diffusion, 0.11),
    "anything": (anything, 0.17),
}  # fmt: skip
_MIN_SERVING = 2


def draw_services(draw: Draw, size: int, configurations: int, kinds: Sequence[str] = tuple(KINDS)) -> Services:
    """About `size` services with up to so many configurations each, without those of which next to nothing serves."""
    weights = {kind: KINDS[kind][1] for kind in kinds}
    total = sum(weights.values())
    made = [
        KINDS[kind][0](draw, max(1, round(size * weight / total)), configurations) for kind, weight in weights.items()
    ]
    batch = joined(made)
    serve = ((batch.outcome == 0) & batch.spaces.valid).sum(1)
    return only(batch, (serve >= _MIN_SERVING).nonzero()[:, 0])


def joined(parts: Sequence[Services]) -> Services:
    """One batch of several."""
    spaces = type(parts[0].spaces)(
        *(torch.cat(columns) for columns in zip(*(one.spaces for one in parts), strict=True))
    )
    return Services(spaces, *(torch.cat(columns) for columns in zip(*(one[1:] for one in parts), strict=True)))


def only(made: Services, which: torch.Tensor) -> Services:
    """Some services of a batch."""
    return Services(type(made.spaces)(*(one[which] for one in made.spaces)), *(one[which] for one in made[1:]))
