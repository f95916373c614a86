"""Measures the recommended configuration again, on fresh launches, until the gate can decide."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from results import TrialRecord
from results.gate import GateDecision, GateMeasurement, Setting, decide_gate
from search_spaces import Configuration
from tuner.display import Display
from tuner.errors import UnfitEnvironmentError
from tuner.search.objective import undecided
from tuner.trial.setup import TrialRequest, TrialSetup
from tuner.trial.trial import run_trial

_FEWEST = 2  # an A/A comparison takes two
_INVALID = 2  # in a row: then this machine cannot say


@dataclass(frozen=True)
class GateRun:
    """What the gate works with. `pairs` are earlier double measurements of one configuration."""

    setup: TrialSetup
    configuration: Configuration
    baseline: GateMeasurement
    setting: Setting
    display: Display
    pairs: tuple[tuple[float, float], ...] = ()

    def measure_and_decide(self) -> GateDecision:
        """Blocks for two launches at least, and `looks` + 1 at most; what the load generator spoiled is made again.

        Raises RunnerUnavailable, UnfitEnvironmentError where the generator is too slow time and again.
        """
        measured: list[GateMeasurement] = []
        max_launches = self.setting.looks + _FEWEST - 1
        for number in range(max_launches):
            record = self._measure_well(number, max_launches)
            one = GateMeasurement.of(record, self.setting.percentile)
            if one is None:
                if undecided(record):  # the server's fault as little as its merit
                    return GateDecision("inconclusive", (), number + 1, f"{record.reason}; lengthen load.max_trial")
                return GateDecision("regressed", (), number + 1, _why(record))
            measured.append(one)
            if len(measured) < _FEWEST:
                continue
            decision = decide_gate(
                self.baseline, measured, self.setting, last=number + 1 == max_launches, pairs=self.pairs
            )
            if decision.outcome != "undecided":
                break
        return decision

    def _measure_well(self, number: int, max_launches: int) -> TrialRecord:
        """A slow generator makes a server look worse than it is: that is no regression."""
        for _ in range(_INVALID):
            record = self._measure(number, max_launches)
            if record.bottleneck != "client" or not self._looks_worse(record):
                return record
            self.display.notice("the load generator was the limit of this measurement, not the server: once more")
        raise UnfitEnvironmentError(
            f"the load generator did not get as far as the baseline: {record.reason or 'it was the limit'}\n"
            "Run the gate where nothing else runs, or give the generator more processes (load.workers)."
        )

    def _looks_worse(self, record: TrialRecord) -> bool:
        """At the baseline's speed of the machine, as the gate compares them: a slower machine is no slower server."""
        one = GateMeasurement.of(record)
        if one is None:
            return True
        capacity, *_ = decide_gate(self.baseline, [one], self.setting, last=True).findings
        return capacity.after < capacity.before

    def _measure(self, number: int, max_launches: int) -> TrialRecord:
        self.display.trial_started(number, self.configuration, number + 1, max_launches)
        request = TrialRequest(number, self.configuration)
        record = run_trial(self.setup, request, partial(self.display.phase, number))
        self.display.trial_finished(record, None)
        return record


def _why(record: TrialRecord) -> str:
    return f"the configuration does not hold its SLO any more: {record.reason or record.state}"
