"""Families of servers, drawn at random. Those of UNSEEN are never trained on: they say how the network does on others.
Those of VALIDATION are not trained on either: what is set by hand (how far intervals are widened, the search's
constants) is set on them, so that UNSEEN stays unseen.

Each draw is of about the speed asked for, in requests a second at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from training.servers.server import DISPATCHES, ENGINES, SERVICES, Server

Random = np.random.Generator
Draw = Callable[[Random, float], Server]


def _between(random: Random, low: float, high: float) -> float:
    """Log-uniform."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _whole(random: Random, low: int, high: int) -> int:
    return round(_between(random, low, high))


def _service(random: Random, *, bimodal: bool = True) -> dict[str, float]:
    """How service times vary."""
    kind = str(random.choice(["constant", "exponential", "lognormal", "bimodal", "erlang", "shifted", "uniform"],
                             p=[0.2, 0.12, 0.22, 0.12, 0.08, 0.16, 0.1]))  # fmt: skip
    if kind == "bimodal" and not bimodal:
        kind = "lognormal"
    shape, ratio = 0.0, 1.0
    if kind == "lognormal":
        shape = _between(random, 0.03, 1.2)
    elif kind == "bimodal":
        shape, ratio = _between(random, 0.01, 0.5), _between(random, 1.5, 12)
    elif kind == "erlang":
        shape = float(random.integers(2, 9))
    elif kind == "shifted":
        shape = _between(random, 0.02, 0.8)
    elif kind == "uniform":
        shape = _between(random, 0.1, 1.0)
    return {"service": SERVICES[kind], "shape": shape, "ratio": ratio}


def _around(random: Random, server: Server, qps: float) -> Server:
    """The network's part of a latency, and speed that wanders a little, as on most machines."""
    if random.random() < 0.5:
        server = replace(server, overhead=_between(random, 0.0002, 0.003))
    if random.random() < 0.3:
        server = replace(server, jitter=_between(random, 0.01, 0.2) / qps)
    if random.random() < 0.25 and not server.drift:
        server = replace(server, drift=_between(random, 0.003, 0.03), drift_time=_between(random, 1, 60))
    return server


def workers(random: Random, qps: float) -> Server:
    """A shared queue before one to sixteen workers."""
    count = 1 if random.random() < 0.35 else _whole(random, 2, 16)
    return Server(ENGINES["queue"], count, mean=count / qps, **_service(random))  # type: ignore[arg-type]


def _batches(random: Random, qps: float, *, bimodal: bool = True) -> Server:
    size, fixed_share = _whole(random, 2, 64), random.uniform(0.1, 0.95)
    instances = 1 if random.random() < 0.75 else int(random.integers(2, 5))
    full = size * instances / qps
    growth = 1.0 if random.random() < 0.7 else random.uniform(0.7, 1.15)
    padding = 0.0 if random.random() < 0.6 else random.uniform(0.3, 1.0)
    service = _service(random, bimodal=bimodal) if random.random() < 0.6 else {}
    delay = 0.0 if random.random() < 0.5 else _between(random, 0.02, 1.0) * full
    fixed, item = fixed_share * full, (1 - fixed_share) * full / size**growth
    return Server(
        ENGINES["batches"], instances, batch=size, delay=delay, fixed=fixed, item=item, growth=growth,
        padding=padding, **service,  # type: ignore[arg-type]
    )  # fmt: skip


def batches(random: Random, qps: float) -> Server:
    """Batches that wait for their delay or until they are full, padded or not, in one to four instances."""
    return _batches(random, qps)


def sharing(random: Random, qps: float) -> Server:
    """Threads that share the processor's cores, and contend for them."""
    cores = _whole(random, 1, 16)
    slots = 256 if random.random() < 0.5 else int(min(256, cores * _between(random, 1, 16)))
    contention = 0.0 if random.random() < 0.5 else _between(random, 0.01, 0.3)
    return Server(
        ENGINES["sharing"], cores, mean=cores / qps, slots=slots, contention=contention,
        **_service(random),  # type: ignore[arg-type]
    )  # fmt: skip


def streams(random: Random, qps: float) -> Server:
    """Continuous batching: prefill and decode in steps that all streams share."""
    slots, tokens = _whole(random, 4, 64), _between(random, 6, 60)
    step_share, prefill_share = random.uniform(0.2, 0.9), random.uniform(0.02, 0.6)
    full = slots / (qps * tokens)  # of one step of all
    decode = full * (1 - prefill_share)
    return Server(
        ENGINES["streams"], slots=slots, tokens=tokens, tokens_spread=random.uniform(0, 0.9), step=decode * step_share,
        step_item=decode * (1 - step_share) / slots, prefill=prefill_share / qps,
        prefill_spread=random.uniform(0, 0.6), batch=0 if random.random() < 0.6 else int(random.integers(1, 5)),
    )  # fmt: skip


def _with_pauses(random: Random, server: Server, qps: float) -> Server:
    every = _between(random, 0.5, 10) if random.random() < 0.7 else _between(random, 20, 600) / qps
    every = max(every, 5 / qps)
    return replace(
        server, pause_every=every, pause=every * _between(random, 0.004, 0.12),
        pause_regular=float(random.random() < 0.6),
    )  # fmt: skip


def pauses(random: Random, qps: float) -> Server:
    """Workers or threads that all stand still now and then, as for garbage collection."""
    count = 1 if random.random() < 0.5 else _whole(random, 2, 8)
    engine = ENGINES["queue"] if random.random() < 0.7 else ENGINES["sharing"]
    plain = Server(engine, count, mean=count / qps, **_service(random, bimodal=False))  # type: ignore[arg-type]
    return _with_pauses(random, plain, qps)


def drift(random: Random, qps: float) -> Server:
    """Workers whose speed wanders."""
    return replace(workers(random, qps), drift=_between(random, 0.02, 0.12), drift_time=_between(random, 2, 120))


def locks(random: Random, qps: float) -> Server:
    """Workers that spend a part of each request in one lock."""
    count, locked = _whole(random, 2, 16), random.uniform(0.05, 0.6)
    mean = 1 / qps * max(1 / locked if locked * count > 1 else count, 1.0)
    return Server(ENGINES["queue"], count, mean=mean, locked=locked, **_service(random))  # type: ignore[arg-type]


def limiter(random: Random, qps: float) -> Server:
    """A token bucket before workers or batches that could do more."""
    faster = qps * _between(random, 1.05, 3)
    server = workers(random, faster) if random.random() < 0.6 else batches(random, faster)
    return replace(server, limit_rate=qps, limit_burst=_between(random, 1, 40))


def admission(random: Random, qps: float) -> Server:
    """A short queue that refuses what it cannot take."""
    server = [workers, batches, sharing][int(random.integers(3))](random, qps)
    width = max(server.workers * max(1, server.batch), 1)
    return replace(server, admit=int(min(500, 1 + width * _between(random, 1.5, 12))))


def mixed(random: Random, qps: float) -> Server:
    """Two kinds of trouble at once, in pairs that no family for validation or for testing is about."""
    kind = int(random.integers(5))
    if kind == 0:
        return _with_pauses(random, replace(_batches(random, qps), padding=0.0), qps)
    if kind == 1:
        return replace(sharing(random, qps), drift=_between(random, 0.02, 0.1), drift_time=_between(random, 2, 60))
    if kind == 2:
        return replace(streams(random, qps), drift=_between(random, 0.02, 0.1), drift_time=_between(random, 2, 60))
    if kind == 3:
        server = streams(random, qps * _between(random, 1.05, 2))
        return replace(server, limit_rate=qps, limit_burst=_between(random, 1, 40))
    server = _with_pauses(random, sharing(random, qps), qps)
    return replace(server, admit=int(min(500, 1 + server.workers * _between(random, 2, 12))))


def drifting_batches(random: Random, qps: float) -> Server:
    """For validation: batches whose speed wanders a lot."""
    return replace(_batches(random, qps), drift=_between(random, 0.03, 0.12), drift_time=_between(random, 2, 60))


def limited_sharing(random: Random, qps: float) -> Server:
    """For validation: threads over cores behind a token bucket."""
    server = sharing(random, qps * _between(random, 1.05, 2))
    return replace(server, limit_rate=qps, limit_burst=_between(random, 1, 40))


def refusing_streams(random: Random, qps: float) -> Server:
    """For validation: streams with a short queue that refuses."""
    server = streams(random, qps)
    return replace(server, admit=int(server.slots * _between(random, 1.2, 4) + 1))


def paused_streams(random: Random, qps: float) -> Server:
    """For validation: streams that stand still now and then."""
    return _with_pauses(random, streams(random, qps), qps)


def balancers(random: Random, qps: float) -> Server:
    """Unseen: a load balancer over workers that each have a queue of their own."""
    count = int(random.integers(2, 13))
    dispatch = DISPATCHES[str(random.choice(["random", "round_robin", "least_connections", "power_of_two"]))]
    return Server(ENGINES["queue"], count, mean=count / qps, dispatch=dispatch, **_service(random))  # type: ignore[arg-type]


def caches(random: Random, qps: float) -> Server:
    """Unseen: a cache that answers a part of the requests soon, and that warms up."""
    hits, cost, count = random.uniform(0.2, 0.9), _between(random, 0.02, 0.4), _whole(random, 1, 8)
    mean = count / qps / (1 - hits + hits * cost)
    warm = _between(random, 20, 2000)
    return Server(
        ENGINES["queue"], count, mean=mean, hits=hits, hit_cost=cost, hits_after=warm,
        # A load test warms its server, and nothing that is simulated remembers the probe before.
        served_before=warm * random.uniform(4, 10), **_service(random, bimodal=False),  # type: ignore[arg-type]
    )  # fmt: skip


def bimodal_pauses(random: Random, qps: float) -> Server:
    """Unseen: two kinds of requests, and pauses."""
    count = 1 if random.random() < 0.5 else _whole(random, 2, 8)
    plain = Server(
        ENGINES["queue"], count, SERVICES["bimodal"], count / qps, _between(random, 0.02, 0.4), _between(random, 2, 10)
    )
    return _with_pauses(random, plain, qps)


def padded_batch_pauses(random: Random, qps: float) -> Server:
    """Unseen: batches that are padded to their longest, and pauses."""
    server = replace(_batches(random, qps), padding=random.uniform(0.5, 1.0), service=SERVICES["lognormal"],
                     shape=random.uniform(0.2, 0.8))  # fmt: skip
    return _with_pauses(random, server, qps)


def locked_threads(random: Random, qps: float) -> Server:
    """Unseen: threads over cores, a part of whose work is serial."""
    return replace(sharing(random, qps * 1.5), locked=random.uniform(0.03, 0.4), workers=_whole(random, 2, 16))


def prefill_streams(random: Random, qps: float) -> Server:
    """Unseen: streams with few tokens and prompts of very different lengths: prefill is most of the work."""
    server = streams(random, qps)
    return replace(
        server, prefill=random.uniform(0.6, 0.9) / qps, prefill_spread=random.uniform(0.7, 1.2),
        step=server.step * 0.4, step_item=server.step_item * 0.4, tokens=_between(random, 3, 10),
    )  # fmt: skip


def fronted(random: Random, qps: float) -> Server:
    """Unseen: one process reads every request before workers, batches or streams see it."""
    server = [workers, _batches, sharing, streams][int(random.integers(4))](random, qps * _between(random, 1.0, 2.0))
    return replace(server, front=random.uniform(0.5, 1.0) / qps)


def polled_batches(random: Random, qps: float) -> Server:
    """Unseen: batches that begin when a loop looks for work, not when there is some."""
    server = _batches(random, qps)
    return replace(server, delay=0.0, tick=(server.fixed + server.item) * _between(random, 0.1, 2.0))


def strained(random: Random, qps: float) -> Server:
    """Unseen: the more requests are inside, the longer each takes, as where memory or a cache runs short."""
    return replace(workers(random, 1.2 * qps), strain=_between(random, 0.01, 0.15))


def waking(random: Random, qps: float) -> Server:
    """Unseen: workers that fall asleep, and take a while to wake."""
    server = workers(random, qps)
    return replace(server, wake=server.mean * _between(random, 0.1, 2.0), wake_after=server.mean * random.uniform(0, 4))


TRAINED: dict[str, tuple[Draw, float]] = {
    "workers": (workers, 0.21), "batches": (batches, 0.19), "sharing": (sharing, 0.12), "streams": (streams, 0.10),
    "pauses": (pauses, 0.10), "drift": (drift, 0.05), "locks": (locks, 0.05), "limiter": (limiter, 0.04),
    "admission": (admission, 0.04), "mixed": (mixed, 0.10),
}  # fmt: skip
VALIDATION: dict[str, tuple[Draw, float]] = {
    "drifting_batches": (drifting_batches, 1.0), "limited_sharing": (limited_sharing, 1.0),
    "refusing_streams": (refusing_streams, 1.0), "paused_streams": (paused_streams, 1.0),
}  # fmt: skip
UNSEEN: dict[str, tuple[Draw, float]] = {
    "balancers": (balancers, 1.0), "caches": (caches, 1.0), "bimodal_pauses": (bimodal_pauses, 1.0),
    "padded_batch_pauses": (padded_batch_pauses, 1.0), "locked_threads": (locked_threads, 1.0),
    "prefill_streams": (prefill_streams, 1.0), "fronted": (fronted, 1.0), "polled_batches": (polled_batches, 1.0),
    "strained": (strained, 1.0), "waking": (waking, 1.0),
}  # fmt: skip


def draw(random: Random, families: dict[str, tuple[Draw, float]], qps: float | None = None) -> tuple[str, Server]:
    """A server and its family's name; without a speed, one of 1.5 to 1,500 requests a second."""
    names = list(families)
    weights = np.array([families[name][1] for name in names])
    name = names[int(random.choice(len(names), p=weights / weights.sum()))]
    qps = _between(random, 1.5, 1500) if qps is None else qps
    return name, _around(random, families[name][0](random, qps), qps)
