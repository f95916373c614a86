"""What the load test's own search sees of a simulated server, with earlier weights: examples of the trials that the
network is asked about.

Trials of random policies (`training.servers.trials`) are cheap and show much; but the search's probes stand where the
network itself was in doubt, and there it is least right. So it is run as it is, and after each of its probes, and in
the middle of some, what was seen until then is an example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.judge.burst import BurstResult
from loadtest.judge.capacity import Opinion, Probed
from loadtest.judge.features import Query, Requests, scale_qps
from loadtest.judge.inference import ServerPosterior
from loadtest.judge.network import ServerNetwork
from loadtest.judge.search import ServerSearch
from loadtest.judge.verdict import Evidence, Failures, judge
from loadtest.plan import Verdict
from training.servers.arrivals import Pattern
from training.servers.prober import ServerProber
from training.servers.server import Server
from training.servers.trials import Floats, Random, Simulated

_SHORTEST_S, _LONGEST_S = 6.0, 90.0  # of a search
_CYCLES, _MAX_REQUESTS = 25.0, 12_000  # limits in a search, at least; requests in it, about, at most
_PRECISIONS = (0.03, 0.05)
_FIRST_SHARE = 0.2  # of the searches: begun at a rate that is asked for, as the break-even rate is


@dataclass(frozen=True)
class Searched:
    """What a search saw, after each probe, and in the middle of some: `moments` are the probes until then."""

    lone_s: Floats
    bursts: list[BurstResult]
    moments: list[list[Requests]]


class _Watched(ServerProber):
    """Keeps the requests of each probe, and of one look before its end."""

    def __init__(self, simulated: Simulated, seconds: float) -> None:
        super().__init__(simulated, seconds)
        self.ended: list[Requests] = []
        self.moments: list[list[Requests]] = [[]]

    def probe(
        self, rate_qps: float, at_most_s: float, edge_utilisation: float, *, opinion: Opinion | None = None,
    ) -> Probed:  # fmt: skip
        """See `ServerProber`."""
        looks: list[Requests] = []

        def watched(requests: tuple[Requests, ...], evidence: Sequence[Evidence], failures: Failures | None) -> Verdict:
            looks.append(requests[0])
            return judge(evidence, failures) if opinion is None else opinion(requests, evidence, failures)

        found = super().probe(rate_qps, at_most_s, edge_utilisation, opinion=watched)
        if len(looks) > 1:
            self.moments.append([*self.ended, looks[int(self.simulated.random.integers(len(looks) - 1))]])
        self.ended.append(found.requests[0])
        self.moments.append(list(self.ended))
        return found


def search(network: ServerNetwork, server: Server, pattern: Pattern, query: Query, random: Random) -> Searched:
    """One whole search, bursts included, of a length that the server and the limit allow."""
    simulated = Simulated(server, pattern, query, random)
    lone_s = simulated.lone(int(random.integers(3, 9)))
    base_s = float(np.median(lone_s)) if len(lone_s) else query.limit_s
    seconds = float(np.exp(random.uniform(math.log(_SHORTEST_S), math.log(_LONGEST_S))))
    seconds = max(seconds, _CYCLES * max(base_s, query.limit_s))
    bursts = simulated.bursts(seconds, base_s)
    scale = scale_qps(bursts, base_s)
    seconds = max(min(seconds, _MAX_REQUESTS / scale), _SHORTEST_S / 2)
    prober = _Watched(simulated, seconds - sum(burst.duration_s for burst in bursts))
    first = scale * float(np.exp(random.normal(-0.35, 0.3))) if random.random() < _FIRST_SHARE else None
    posterior = ServerPosterior(network, [query], lone_s, bursts)
    ServerSearch(prober, posterior, float(random.choice(_PRECISIONS)), first).run()
    return Searched(lone_s, bursts, prober.moments)
