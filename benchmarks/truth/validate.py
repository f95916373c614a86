"""Searches on the families that constants are set on: `python -m benchmarks.truth.validate --runs 20 [--widen 1.2]`.

Nothing of it is reported as a result: that is done on families that nothing was set on (`benchmarks.load_truth`).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from functools import partial

from benchmarks.truth import searches
from loadtest.judge import inference
from loadtest.judge import search as judged
from training.servers import families


def _run(job: tuple[str, float, float, int], constants: dict[str, float]) -> searches.Result:
    for name, value in constants.items():
        setattr(inference if hasattr(inference, name) else judged, name, value)
    family, about_qps, seconds, seed = job
    one = searches.case(family, about_qps, seconds, seed)
    return searches.result(one, *searches.search(one, seconds, seed))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--families", default=",".join(families.VALIDATION))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a constant of the judge")
    asked = parser.parse_args()
    constants = {name: float(value) for name, value in (one.split("=") for one in asked.set)}
    jobs = [
        (family, qps, seconds, seed)
        for qps, seconds in searches.SPEEDS
        for family in asked.families.split(",")
        for seed in range(asked.runs)
    ]
    with multiprocessing.Pool(os.cpu_count()) as pool:
        results = pool.map(partial(_run, constants=constants), jobs, chunksize=4)
    for qps, _ in searches.SPEEDS:
        print(f"{qps:g}/s", *searches.summary([r for r, job in zip(results, jobs, strict=True) if job[1] == qps]))
    for family in asked.families.split(","):
        print(family, *searches.summary([r for r in results if r.family == family]))
    print("unlike any known:", f"{sum(r.unlike for r in results) / len(results):.0%}")


if __name__ == "__main__":
    main()
