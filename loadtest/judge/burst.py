"""What a burst by users in a closed loop says: the throughput, counted between completions.

To count what ended within the burst and divide by its length understates servers that answer in batches: the last
batch has not ended, and the first one only began. The line of least squares through the completions has no such ends:
steps of a batch lie above and below it alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FIRST_USERS, MIN_USERS, MAX_USERS, MAX_BURSTS = 8, 12, 512, 3
_GROWS, _CROWDED = 1.2, 1.5
_STEEPEST = 3.0  # of what ended over the whole time: two batches alone make a line of any slope
_ROUNDS, _MIN_AFTER = 2.5, 16  # how often each user is answered, and how many answers follow the first round
_MIN_S, _USUAL_SHARE, _MAX_SHARE = 0.5, 0.07, 0.12  # of the time of the whole search
_CYCLES = 10  # lone requests, that a burst may take where the server is slow
# While more users are answered nearly as often each, so many times as many follow, in so many bursts at most.
_CROWD, _MAX_CROWDS, _ALIKE = 4, 3, 0.75
_CROWDS_SHARE = 0.25  # of the time of the whole search, after which no such burst begins


@dataclass(frozen=True)
class BurstResult:
    """Times in seconds. `latencies_s` are those of the good answers that came within `duration_s`, in the order in
    which they came; `throughput_qps` is None where too few came to say.
    """

    users: int
    duration_s: float
    latencies_s: Floats
    failed: int
    throughput_qps: float | None

    @classmethod
    def of(cls, users: int, duration_s: float, sent_s: Floats, latencies_s: Floats, failed: Flags) -> BurstResult:
        """From when each request was sent, after the burst began, and its latency: not finite where none came."""
        answered = np.isfinite(latencies_s)
        ended = np.where(answered, sent_s + np.where(answered, latencies_s, 0.0), np.inf)
        good = (ended <= duration_s) & ~failed
        order = np.argsort(ended[good], kind="stable")
        done, latencies = ended[good][order], latencies_s[good][order]
        return cls(
            users, duration_s, latencies, int((failed & (ended <= duration_s)).sum()), _slope(done, users, duration_s)
        )


def burst_is_over(users: int, done: int, passed_s: float, max_s: float) -> bool:
    """Whether a burst may end: every user was answered a few times, or the burst's time is over."""
    return passed_s >= max_s or (passed_s >= _MIN_S and done >= max(_ROUNDS * users, users + _MIN_AFTER))


def longest_s(max_s: float, base_s: float) -> float:
    """How long a burst may take in a search of that length: longer where a lone request takes long."""
    return max(_MIN_S, _USUAL_SHARE * max_s, min(_CYCLES * base_s, _MAX_SHARE * max_s))


def next_users(bursts: list[BurstResult], limit_s: float) -> int | None:
    """With how many users the next burst is worth its time, or None.

    The second one has half as many again as the limit would allow: by Little's law, at throughput X and latency L
    there are X * L in flight. A third follows where the second was much faster than the first: larger batches are
    faster still.
    """
    found = [burst.throughput_qps or 0.0 for burst in bursts]
    if not bursts:
        return FIRST_USERS
    if len(bursts) == 1:
        return int(min(MAX_USERS, max(MIN_USERS, round(_CROWDED * found[0] * limit_s))))
    grows = len(bursts) < MAX_BURSTS and found[-1] > _GROWS * found[-2]
    return min(MAX_USERS, 2 * bursts[-1].users) if grows and bursts[-1].users < MAX_USERS else None


def crowd_after(bursts: Sequence[BurstResult], max_s: float) -> int | None:
    """With how many users one burst more follows those of `next_users` in a search of that length, or None.

    A server that answered twice as many users nearly twice as often has not shown yet what it can do: it works on
    hundreds of requests at once, as an engine of a language model does, or a service that waits for another one.
    """
    spent_s = sum(burst.duration_s for burst in bursts)
    if not MAX_BURSTS <= len(bursts) < MAX_BURSTS + _MAX_CROWDS or spent_s > _CROWDS_SHARE * max_s:
        return None
    before, last = ((burst.throughput_qps or 0.0) / burst.users for burst in bursts[-2:])
    goes_on = last >= _ALIKE * before and bursts[-1].users < MAX_USERS
    return min(MAX_USERS, _CROWD * bursts[-1].users) if goes_on else None


def telling(bursts: Sequence[BurstResult]) -> list[BurstResult]:
    """The first one and the last ones, as many as the network was trained with."""
    return [*bursts[:1], *bursts[1:][1 - MAX_BURSTS :]]


def _slope(done_s: Floats, users: int, duration_s: float) -> float | None:
    """Completions a second: of the first round only where there is no other."""
    if not len(done_s):
        return None
    simple = len(done_s) / duration_s
    kept = done_s[users:] if len(done_s) >= 2 * users else done_s
    if len(kept) < 3:
        return simple
    times = kept - kept.mean()
    spread = float((times**2).sum())
    if spread <= 0:
        return simple
    return min(float((times * np.arange(len(kept))).sum()) / spread, _STEEPEST * simple)
