"""Whether a server changed while it was measured: a cache that filled, a leak, a clock that was throttled.

The search takes a server for one that answers a rate today as it did a minute ago. Where a rate was held without a late
request and later nearly nothing of it is in time, that is not so, and no figure of the trial is one of such a server.
"""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.judge.capacity import digits
from loadtest.plan import Probe

_MIN_REQUESTS = 50  # of both; so many have a 60% chance of a late one in a hundred, and none to have 90
_LATE = 0.9
_ALIKE = (0.8, 1.02)  # a server that waits for batches may be late at far lower rates


def changed(probes: Sequence[Probe]) -> str | None:
    """The first two probes that no steady server has, in a sentence; None where there are none."""
    told = [probe for probe in probes if probe.verdict != "invalid" and probe.requests >= _MIN_REQUESTS]
    told = [probe for probe in told if not (probe.neighbours and probe.neighbours.reason)]
    for number, later in enumerate(told):
        for earlier in told[:number]:
            alike = _ALIKE[0] <= later.rate_qps / earlier.rate_qps <= _ALIKE[1]
            if alike and earlier.misses == 0 and later.misses >= _LATE * later.requests:
                return (
                    f"The server became slower while it was measured: at {digits(earlier.rate_qps)} requests/s none of "
                    f"{earlier.requests} was late, and {later.started_s - earlier.started_s:.0f} s later, at "
                    f"{digits(later.rate_qps)} requests/s, {later.misses} of {later.requests}."
                )
    return None
