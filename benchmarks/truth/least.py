"""The least error that is possible, where it is known: exponential service times, one worker (M/M/1).

A p99 limit t allows the rate c = m - ln(100) / t, where m is the service rate. Whoever knows that the server is such a
queue, and sees the service time of each request while it is never idle, for T seconds, knows m to m / sqrt(m T) at best
(Cramér and Rao), and c no better. A load test knows neither, sees waits and not service times, and its server
must be idle now and then.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics

import numpy as np

from benchmarks.truth import searches
from loadtest.judge.features import Query
from training.servers.server import ENGINES, SERVICES, Server

_LIMIT = 15.0  # times the mean time between requests at the capacity
_ALLOWED = 0.01


def _case(capacity_qps: float) -> searches.Case:
    limit_s = _LIMIT / capacity_qps
    rate = capacity_qps - math.log(_ALLOWED) / limit_s
    server = Server(ENGINES["queue"], 1, SERVICES["exponential"], 1 / rate)
    return searches.Case("M/M/1", server, Query(limit_s, _ALLOWED), capacity_qps)


def _search(job: tuple[float, float, int]) -> searches.Result:
    capacity_qps, seconds, seed = job
    one = _case(capacity_qps)
    return searches.result(one, *searches.search(one, seconds, seed))


def least(runs: int) -> list[list[str]]:
    """Whole searches on simulated M/M/1 servers with a p99 limit of 15 requests' time at the capacity, beside the least
    standard deviation that an estimate without bias can have, from as many seconds.
    """
    table = [["capacity", "seconds", "least sd possible", "sd", "bias", "median error", "interval if it were the least",
              "high/low, median", "covered"]]  # fmt: skip
    jobs = [(qps, seconds, seed) for qps, seconds in searches.SPEEDS for seed in range(runs)]
    with multiprocessing.Pool(os.cpu_count()) as pool:
        results = pool.map(_search, jobs, chunksize=4)
    for qps, seconds in searches.SPEEDS:
        found = [one for one, job in zip(results, jobs, strict=True) if job[0] == qps and one.error is not None]
        errors = [one.error for one in found if one.error is not None]
        rate = 1 / _case(qps).server.mean
        covered = sum(one.covered for one in found) / len(found)
        sd = rate / math.sqrt(rate * seconds) / qps
        table.append([
            f"{qps:g}/s", f"{seconds:g}", f"{sd:.1%}", f"{statistics.pstdev(errors):.1%}",
            f"{statistics.fmean(errors):+.1%}", f"{np.median(np.abs(errors)):.1%}", f"{math.exp(2 * 1.96 * sd):.2f}",
            f"{statistics.median(one.ratio for one in found):.2f}", f"{covered:.0%}",
        ])  # fmt: skip
    return table
