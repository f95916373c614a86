"""How much of what differs from launch to launch is the machine's own speed? `python -m benchmarks.machine_speed`

Launches two configurations of examples/minilm in turns, `--launches` of each, as trials are. Prints what each showed,
and how far the launches of one configuration are apart: as measured, and as they would have been at the machine's mean
speed. How much the server feels of it is learned from the other configuration's launches, so that no launch is
corrected by what it showed itself. Half a minute a launch, where nothing else runs; a virtual machine is the place for
it. `--keep FOLDER` goes on with what the folder holds.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.demo_truth import Knobs, measure
from results.machine import TimedWork
from tuner import load_study
from tuner.search.machine_speed import at_mean_speed

CONFIGURATIONS: tuple[Knobs, ...] = ((2, 2, 1, 1, 0), (1, 1, 1, 4, 5))  # see `KNOBS`
SECONDS = 20.0  # of load, as a trial of the example


def launched(folder: Path, launches: int) -> list[tuple[int, float, float, float, float]]:
    """Of every launch: which configuration, the logarithm of its capacity and the standard deviation of that
    measurement, and the same of fixed work. One that found no capacity is left out.
    """
    found = []
    for launch in range(launches):
        for group, chosen in enumerate(CONFIGURATIONS):
            output = folder / "measured" / f"{'-'.join(map(str, chosen))}-{launch}"
            if not (output / "study.db").exists():
                measure(folder, chosen, launch, SECONDS)
            (record,) = load_study(output).summary.records
            capacity, work = record.capacity_qps, TimedWork.of(record)
            print(
                f"{chosen} launch {launch}: {capacity}, fixed work {math.exp(work.log):.3g} ms +- {work.error:.1%}",
                flush=True,
            )
            if capacity is not None and capacity.low > 0:
                error = math.log(capacity.high / capacity.low) / (2 * 1.96)
                found.append((group, math.log(capacity.value), error, *work))
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=10)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tune-machine-speed-") as temporary:
        found = launched(asked.keep or Path(temporary), asked.launches)
    groups, figures, errors, work, work_errors = (np.array(one) for one in zip(*found, strict=True))
    corrected = figures.copy()
    print("| configuration | launches | apart | at the mean speed | sensitivity, of the other's launches |")
    print("| --- | --- | --- | --- | --- |")
    for group, chosen in enumerate(CONFIGURATIONS):
        mine = groups == group
        correction = at_mean_speed(groups, work, work_errors, np.where(mine, np.nan, figures), errors)
        corrected[mine] += correction.shift[mine]
        apart = [float(one[mine].std(ddof=1)) for one in (figures, corrected)]
        felt = math.nan if correction.effect is None else correction.effect.sensitivity
        print(f"| {chosen} | {mine.sum()} | {apart[0]:.1%} | {apart[1]:.1%} | {felt:.2f} |")
    print(
        f"Fixed work differed by {np.nanstd(work):.1%} from launch to launch (standard deviation), of which its error "
        f"explains {math.sqrt(np.nanmean(work_errors**2)):.1%}."
    )


if __name__ == "__main__":
    main()
