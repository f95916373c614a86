"""What would make an uncertain decision surer: more launches, longer trials, or a quieter machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from results import TrialRecord
from tuner.spec.model import Spec, final_launches

_WIDTH = 2 * 1.96  # of a 95% interval, in standard deviations


def how_to_be_surer(
    spec: Spec, launches: Sequence[TrialRecord], launch_spread: float, *, trials: int, untried: int,
    further_launches: int,
) -> str:  # fmt: skip
    """One to three sentences. `launches` are those of the recommended configuration, and `launch_spread` is how far
    launches of one configuration are apart, in logs. After so many `trials`, which left so many configurations
    `untried`, the final made so many `further_launches`.
    """
    said = [f"To be surer, {_more_launches(spec.objective.final, trials, untried, further_launches)}."]
    if (error := _error(launches)) > launch_spread and spec.runner.launches:
        within = math.expm1(error * _WIDTH / 2)
        said.append(
            f"Or make a new run of longer trials: those of load.max_trial, {spec.load.max_trial:g} s, show its "
            f"capacity to within {within:.0%} only."
        )
    if disturbed := sum(one.machine is not None and bool(one.machine.disturbed) for one in launches):
        said.append(f"Other programs disturbed {disturbed} of its {len(launches)} launches: a quieter machine helps.")
    return " ".join(said)


def _more_launches(share: float, trials: int, untried: int, made: int) -> str:
    """Every launch counts, and a run that is resumed goes on with its final: of as many launches as trials at most."""
    allowed = final_launches(share, trials)
    if made < allowed:
        so_far = f"the final made {made} of {allowed} launches"
        return f"go on with `resume` ({so_far}), and with a larger budget of time or money if that ran out"
    if (needed := max(made, allowed) / trials) < 1:
        return f"go on with `resume` and an objective.final above {needed:.0%}: the best are then launched more often"
    if untried > 0:
        return "go on with `resume` and a budget of more trials: the best are then launched more often"
    return "make another run, and see whether it says the same"


def _error(launches: Sequence[TrialRecord]) -> float:
    """The standard deviation of one launch's measurement, in logs: the median over the launches; 0 if all are exact."""
    ends = [one.capacity_qps for one in launches if one.capacity_qps is not None]
    errors = [math.log(one.high / one.low) / _WIDTH if 0 < one.low < one.high else 0.0 for one in ends]
    return statistics.median(errors) if errors else 0.0
