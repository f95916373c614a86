"""The picture of a chain of services: a box for each stage with its time, for the template to draw."""

from __future__ import annotations

from dataclasses import dataclass

from results.text import NONE, figure, milliseconds, share
from results.trial_parts import ChainRecord, StageRecord

BAR = 200  # the width of a box's bar, which stands for the whole time


@dataclass(frozen=True)
class Box:
    """One stage. `service` and `queue` are widths within the bar; `calls` names the services it calls, where they are
    more than the next box.
    """

    name: str
    time: str
    words: str
    service: int
    queue: int
    calls: str
    is_bottleneck: bool


@dataclass(frozen=True)
class ChainPicture:
    """The boxes from the entry on, and in words what they show."""

    boxes: tuple[Box, ...]
    words: str
    bar: int = BAR


def chain_picture(chain: ChainRecord | None) -> ChainPicture | None:
    """The picture of a chain; None if there is none."""
    if chain is None:
        return None
    names = [one.name for one in chain.stages]
    following = [(name,) for name in names[1:]] + [()]
    boxes = tuple(
        _box(chain, one, straight=one.calls == after) for one, after in zip(chain.stages, following, strict=True)
    )
    return ChainPicture(boxes, _words(chain))


def _box(chain: ChainRecord, stage: StageRecord, *, straight: bool) -> Box:
    known = stage.service_ms is not None and stage.queue_ms is not None
    service, queue = stage.service_ms or 0.0, stage.queue_ms or 0.0
    whole = max(chain.whole_ms or 0.0, service + queue, 1e-9)
    parts = (
        [f"{milliseconds(service)} of work, {milliseconds(queue)} of waiting"]
        if known
        else ["no time of its own known"]
    )
    if stage.slo_share is not None:
        parts.append(f"{share(stage.slo_share)} of the SLO")
    if stage.saturated_qps is not None:
        parts.append(f"at most {figure(stage.saturated_qps)} requests/s when it is asked directly")
    if stage.cpu_cores_used is not None:
        parts.append(f"{figure(stage.cpu_cores_used, 2)} cores used")
    return Box(
        name=stage.name,
        time=milliseconds(service + queue) if known else NONE,
        words="; ".join(parts),
        service=round(BAR * service / whole),
        queue=round(BAR * queue / whole),
        calls="" if straight else ", ".join(stage.calls),
        is_bottleneck=stage.name == chain.bottleneck,
    )


def _words(chain: ChainRecord) -> str:
    if chain.whole_ms is None or chain.rate_qps is None:
        return "Where the time goes was not measured: no stage was asked directly, or no rate held the SLO."
    known = [one for one in chain.stages if one.service_ms is not None and one.queue_ms is not None]
    total = sum((one.service_ms or 0.0) + (one.queue_ms or 0.0) for one in known)
    text = (
        f"Mean times at {figure(chain.rate_qps)} requests/s: {milliseconds(chain.whole_ms)} from arrival at the entry "
        f"to the answer, and {milliseconds(total)} in the stages together."
    )
    untimed = [one.name for one in chain.stages if one not in known]
    return text + (f" The time of {', '.join(untimed)} counts as that of its caller." if untimed else "")
