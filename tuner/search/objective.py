"""What is optimised: from a trial's measurement to numbers that a search compares.

Losses are logarithms and lower is better, since capacities and costs are ratios: twice as cheap is the same step
everywhere. `break_even_qps` turns the best so far into the rate at which a configuration of a known price would equal
it: the first rate worth probing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest import TOO_SHORT
from results import TrialRecord
from tuner.spec.model import Metric, ObjectiveSpec

Floats = NDArray[np.float64]

UNREADY = f"{TOO_SHORT}: not ready"  # how the reason begins where a run's limits left no time for a longer start
_SECONDS_PER_HOUR = 3600.0
_MAXIMISED: tuple[Metric, ...] = ("capacity_qps", "tokens_per_second", "best_effort_qps")
# A search compares configurations under the same requests, so it takes the tokens of a request to be the same for all:
# what is best per token is best per request. What was measured is ranked, and decided on, by its own tokens.
_PER_REQUEST: dict[Metric, Metric] = {
    "cost_per_million_output_tokens": "cost_per_million_requests",
    "cost_per_million_tokens": "cost_per_million_requests",
    "tokens_per_second": "capacity_qps",
    "best_effort_qps": "capacity_qps",  # of the record that `modelled` returns
}
# Watts stand for money there: what is best per request is best per token.
_ENERGY: tuple[Metric, ...] = ("energy_per_million_output_tokens", "energy_per_million_tokens")


def cost_per_million_requests(price_per_hour: float, capacity_qps: float) -> float:
    """Money for a million requests at full load: price / (capacity x 3600 s/h) x 10^6."""
    return price_per_hour / (capacity_qps * _SECONDS_PER_HOUR) * 1e6


def capacity_at_cost(price_per_hour: float, cost: float) -> float:
    """The capacity in requests/s at which a million requests cost so much: the inverse of the above."""
    return price_per_hour / (cost * _SECONDS_PER_HOUR) * 1e6


@dataclass(frozen=True)
class Objective:
    """One metric, or several for a Pareto front; the first one ranks. `target_qps` goes with cost_per_hour, and
    with best_effort_qps.
    """

    metrics: tuple[Metric, ...]
    target_qps: float | None = None

    @classmethod
    def of(cls, spec: ObjectiveSpec) -> Objective:
        """Made from the spec's `objective:`."""
        return cls(spec.metrics, spec.target_qps)

    @property
    def maximised(self) -> tuple[bool, ...]:
        """Per metric, whether more is better."""
        return tuple(metric in _MAXIMISED for metric in self.metrics)

    @property
    def by_energy(self) -> bool:
        """Whether the first metric is energy, which takes the place of money; it is not known before a launch."""
        return self.metrics[0] in _ENERGY

    @property
    def predicted(self) -> str:
        """What a search predicts of the first metric: of tokens and energy, that of their requests."""
        if self.by_energy:
            return "energy_per_million_requests"
        return self.metrics[0] if self.metrics == ("best_effort_qps",) else self._per_request.metrics[0]

    def hourly(self, record: TrialRecord) -> float | None:
        """What an hour of a configuration takes: its price, or where energy is the objective its GPUs' watts at the
        capacity, at as much energy for a request as was measured. None where that is not known.
        """
        language, capacity = record.language, record.capacity_qps
        if not self.by_energy:
            return record.cost_per_hour
        if language is None or language.energy_per_million_output_tokens is None or capacity is None:
            return None
        per_request_wh = language.energy_per_million_output_tokens * language.output_tokens / 1e6
        return per_request_wh * _SECONDS_PER_HOUR * capacity.value

    def tokens(self, record: TrialRecord) -> float | None:
        """How many of the tokens that the first metric counts a request has; None where it counts none, or the trial
        does not know.
        """
        language, metric = record.language, self.metrics[0]
        if language is None or "token" not in metric:
            return None
        prompt = 0.0 if metric.endswith("output_tokens") else language.input_tokens or 0.0
        return language.output_tokens + prompt or None

    def __str__(self) -> str:
        words = [
            f"{'maximize' if up else 'minimize'} {metric}"
            for metric, up in zip(self.metrics, self.maximised, strict=True)
        ]
        return " and ".join(words) + (f" for {self.target_qps:g} requests/s" if self.target_qps else "")

    def values(self, record: TrialRecord) -> tuple[float, ...] | None:
        """The metrics of a complete trial; None for any other, and where a metric was not measured."""
        if record.state != "complete" or record.capacity_qps is None:
            return None
        found = [_measured(metric, record, record.capacity_qps.value, self.target_qps) for metric in self.metrics]
        return None if None in found else tuple(value for value in found if value is not None)

    def losses(self, record: TrialRecord) -> tuple[float, ...] | None:
        """The metrics as logarithms of which lower is better; those of tokens as those of their requests."""
        if self.values(record) is None:
            return None
        values = self._per_request.values(self.modelled(record))
        if values is None:
            return None
        hourly = self.hourly(record)
        if self.by_energy and hourly is not None and record.capacity_qps is not None:
            values = (cost_per_million_requests(hourly, record.capacity_qps.value), *values[1:])
        return tuple(-_log(value) if up else _log(value) for value, up in zip(values, self.maximised, strict=True))

    def losses_at(self, log_capacity: Floats, p99_ms: Floats, log_price: Floats) -> list[Floats]:
        """The losses where configurations had these log capacities, p99 and logs of `hourly`: arrays that broadcast.

        A price that is nan is taken to be the mean of the others: then only the capacity counts.
        """
        known = log_price[~np.isnan(log_price)]
        price = np.nan_to_num(log_price, nan=float(known.mean()) if known.size else 0.0)
        found: list[Floats] = []
        for metric in self._per_request.metrics:
            if metric == "capacity_qps":
                found.append(-log_capacity)
            elif metric == "p99_ms":
                found.append(np.log(p99_ms))
            elif metric == "cost_per_million_requests" or metric in _ENERGY:
                found.append(price - log_capacity + math.log(1e6 / _SECONDS_PER_HOUR))
            else:
                fleet = np.ceil((self.target_qps or 1.0) / np.exp(log_capacity) - 1e-9)
                found.append(price + np.log(np.maximum(1.0, fleet)))
        return found

    def modelled(self, record: TrialRecord) -> TrialRecord:
        """The record as a search sees it, which models capacities: what best-effort services answer is a throughput as
        well, and takes the place of the capacity where that is what is optimised.
        """
        if self.metrics != ("best_effort_qps",):
            return record
        rates = {"capacity_qps": record.best_effort_qps, "capacity_bound_qps": None, "saturated_qps": None}
        return record.model_copy(update=rates)

    def ranked(self, records: Iterable[TrialRecord]) -> list[TrialRecord]:
        """The complete trials that have all metrics, best first; ties go to the earlier trial."""
        up = self.maximised[0]
        scored = [
            (-values[0] if up else values[0], record.number, record)
            for record in records
            if (values := self.values(record))
        ]
        return [record for _, _, record in sorted(scored, key=lambda item: item[:2])]

    def break_even_qps(self, price_per_hour: float | None, best: TrialRecord | None) -> float | None:
        """The capacity at which a configuration of this price equals the best; infinite where none can.

        None where there is nothing to compare with: no best yet, several metrics, or no price.
        """
        if best is None or best.capacity_qps is None or len(self.metrics) > 1 or self.by_energy:
            return None
        if self.metrics == ("best_effort_qps",):  # it is not the capacity that has to be better
            return None
        if self._per_request != self:
            return self._per_request.break_even_qps(price_per_hour, best)
        (best_value,) = self.values(best) or (None,)
        if self.metrics == ("capacity_qps",):
            return best.capacity_qps.value
        if best_value is None or not best_value or price_per_hour is None:
            return None
        if self.metrics == ("cost_per_million_requests",):
            return capacity_at_cost(price_per_hour, best_value) or None
        return self._break_even_fleet(price_per_hour, best_value)

    def _break_even_fleet(self, price_per_hour: float, best_cost: float) -> float | None:
        """A fleet is whole containers: as many as are still cheaper than the best must carry the target."""
        if price_per_hour == 0 or self.target_qps is None:
            return None
        containers = math.ceil(best_cost / price_per_hour - 1e-9) - 1
        return self.target_qps / containers if containers else math.inf

    @property
    def _per_request(self) -> Objective:
        """The same objective, of requests in place of their tokens."""
        return Objective(tuple(_PER_REQUEST.get(metric, metric) for metric in self.metrics), self.target_qps)


def _measured(metric: Metric, record: TrialRecord, capacity_qps: float, target_qps: float | None) -> float | None:
    if metric == "capacity_qps":
        return capacity_qps
    if metric == "p99_ms":
        return record.latency.p99_ms.value if record.latency.p99_ms else None
    if metric == "cost_per_million_requests":
        return record.cost_per_million_requests
    if metric == "best_effort_qps":
        return record.best_effort_qps.value if record.best_effort_qps else None
    if metric in _PER_REQUEST or metric in _ENERGY:
        return None if record.language is None else getattr(record.language, metric)
    if record.cost_per_hour is None or target_qps is None:
        return None
    return record.cost_per_hour * replicas_for(target_qps, capacity_qps)


def undecided(record: TrialRecord) -> bool:
    """Whether a trial ended before its server had shown a rate that holds or one that does not. That is no fault of the
    server's: it launched, and answered, or the run's limits left it no time to start.
    """
    return record.state == "failed" and (record.reason or "").startswith(TOO_SHORT)


def unready(record: TrialRecord) -> bool:
    """Whether a trial ended because the run's limits left its server no time to start."""
    return record.state == "failed" and (record.reason or "").startswith(UNREADY)


def replicas_for(target_qps: float, capacity_qps: float) -> int:
    """Whole containers that carry the target."""
    return max(1, math.ceil(target_qps / capacity_qps - 1e-9))


def pareto_front(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The complete trials that no other beats in cost per million, capacity and p99 at once, cheapest first.

    A trial without a price or a p99 counts as equal in that respect.
    """
    front: list[tuple[tuple[float, float, float], TrialRecord]] = []
    complete = [(_coordinates(record), record) for record in records if record.state == "complete"]
    for point, record in sorted(complete, key=lambda pair: (pair[0], pair[1].number)):
        # Who dominates another comes before it in this order, and is on the front itself, or one is that beats both.
        if not any(_dominates(other, point) for other, _ in front):
            front.append((point, record))
    return [record for _, record in front]


def _coordinates(record: TrialRecord) -> tuple[float, float, float]:
    capacity = record.capacity_qps.value if record.capacity_qps else 0.0
    p99 = record.latency.p99_ms.value if record.latency.p99_ms else 0.0
    return record.cost_per_million_requests or 0.0, -capacity, p99


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def _log(value: float) -> float:
    return math.log(max(value, 1e-12))  # a free configuration has cost 0: far better than any, but finite
