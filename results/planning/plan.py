"""The capacity plan: which configuration, how many replicas when, for how much money, and what is late.

A fleet is planned with the lower bound of what was measured, so that it suffices if the truth is at the interval's
worse end. What it costs if the truth is better is the other end of the money's interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from results.files import ResultsError
from results.planning.fleet import FleetSimulation, Replica, Scaling, highest_target, max_scheduled, schedule, simulate
from results.planning.mixed import Demand, Mixed, ReplicaKind, best_mixture
from results.planning.mixture import UNHURRIED, Need, SolverTime
from results.planning.money import MONTH_H, Offer, Terms, offers
from results.planning.traffic import Traffic
from results.records import TrialRecord
from results.summary import StudySummary
from results.text import assigned, figure, given
from results.trial_parts import Estimate

_CUT = "Fleets of several configurations were not all looked at, which takes longer than a page may; `tune plan` does."


@dataclass(frozen=True)
class Wishes:
    """What a plan must keep to. `misses` is the share of requests that may be late (those of an outage left out)."""

    misses: float = 0.01
    spare: int = 1
    zones: int = 1
    min_replicas: int = 1
    cold_start_s: float | None = None
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True)
class Strategy:
    """One way to run one configuration. `monthly` is on demand; its `low` and `high` are those of the capacity."""

    name: str
    words: str
    target: float | None
    min_replicas: int
    mean: float
    max_replicas: int
    monthly: Estimate | None
    miss_share: float
    simulated: FleetSimulation
    offers: tuple[Offer, ...]


@dataclass(frozen=True)
class Option:
    """One configuration under the traffic, with the strategies that were tried, the chosen one first. `good` is the
    share of `good_of` requests that held the SLO's goodput at its capacity, `energy_wh` what a million output tokens
    take of the GPUs.
    """

    trial: int
    group: str
    configuration: Mapping[str, Any]
    replica: Replica
    capacity_qps: Estimate
    cost_per_hour: float | None
    strategies: tuple[Strategy, ...]
    keeps: bool
    good: float | None = None
    good_of: int | None = None
    energy_wh: float | None = None

    @property
    def strategy(self) -> Strategy:
        """How to run it."""
        return self.strategies[0]

    @property
    def words(self) -> str:
        """The configuration in a line."""
        return assigned(self.configuration)


@dataclass(frozen=True)
class Plan:
    """`options` are the best configuration of each kind of hardware, the one to use first. `mixed` is a fleet of
    several configurations that costs less than any of them alone; None where there is none. `slo` is what holds, in
    words.
    """

    service: str
    traffic: Traffic
    wishes: Wishes
    options: tuple[Option, ...]
    notes: tuple[str, ...]
    currency: str
    mixed: Mixed | None = None
    slo: tuple[str, ...] = ()

    @property
    def option(self) -> Option:
        """Which configuration to run."""
        return self.options[0]


@dataclass(frozen=True)
class _Task:
    """What is planned for: the traffic that a study's service has to carry, and on what terms."""

    study: StudySummary
    traffic: Traffic
    wishes: Wishes

    @property
    def fixed(self) -> Scaling:
        """The scaling of a fleet that no autoscaler changes."""
        return Scaling(None, max(1, self.wishes.min_replicas), spare=self.wishes.spare, zones=self.wishes.zones)

    def turn(self, trial: int) -> tuple[bool, int]:
        """The recommendation comes first among configurations that cost the same."""
        return trial != self.study.recommendation.trial, trial

    def rank(self, option: Option) -> tuple[bool, bool, float, bool, int]:
        """The smaller the better. What has no price is compared with nothing that has one, and comes after it."""
        return not option.keeps, option.cost_per_hour is None, _money(option.strategy), *self.turn(option.trial)

    def replica(self, record: TrialRecord, end: str = "low") -> Replica:
        """A replica of that trial's configuration, with that `end` of its capacity's interval."""
        assert record.capacity_qps is not None  # noqa: S101 (chosen so)
        question, wished_s = self.study.question, self.wishes.cold_start_s
        cold_s = record.timing.cold_start_s if wished_s is None else wished_s
        capacity = float(getattr(record.capacity_qps, end))
        limit_ms, base_ms = question.slo.late_ms or question.slo.tail_ms, record.latency.base_latency_ms
        if limit_ms is None and record.language is not None and record.language.ttft is not None:
            # A request may wait for its first token until that is late; under load it takes no less than at rest.
            limit_ms, base_ms = question.slo.ttft_ms, record.language.ttft.p50_ms
        return Replica.measured(capacity, record.saturated_qps, limit_ms, base_ms, cold_s, question.slo.late)


@dataclass(frozen=True)
class _Fleet:
    """One configuration under the traffic, before it is known how to run it."""

    task: _Task
    record: TrialRecord

    @property
    def traffic(self) -> Traffic:
        """The traffic that it has to carry."""
        return self.task.traffic

    @property
    def wishes(self) -> Wishes:
        """The terms on which it has to carry the traffic."""
        return self.task.wishes

    def replica(self, end: str = "low") -> Replica:
        """One of its replicas, with that `end` of the capacity's interval."""
        return self.task.replica(self.record, end)

    def means(self, count: Callable[[Replica], float]) -> list[float]:
        """How many replicas there are on average, by the capacity as it was measured, and by both of its ends."""
        return [float(count(self.replica(end))) for end in ("value", "low", "high")]


def make_plan(
    study: StudySummary, traffic: Traffic, wishes: Wishes, *, every: bool = True, few: int = 3,
    mixing_s: float | None = None,
) -> Plan:  # fmt: skip
    """The cheapest way to carry the traffic; `every`: among all measured configurations, not the recommended alone.
    So many as `few` of each kind of hardware, the cheapest by a rough look, are simulated. The search for a fleet of
    several configurations ends after `mixing_s` seconds of CPU where it is given, and a note says so.

    Raises ResultsError where nothing was measured that could carry any.
    """
    records = [study.latest(record) for record in study.records]
    usable = [one for one in records if one.state == "complete" and one.capacity_qps and one.capacity_qps.low > 0]
    chosen = [one for one in usable if one.number == study.recommendation.trial]
    if not usable or not chosen:
        raise ResultsError(study.recommendation.trials.nothing_to("plan with", study.service))
    groups: dict[str, list[TrialRecord]] = {}
    for record in usable if every else chosen:
        groups.setdefault(_group(study, record), []).append(record)
    task = _Task(study, traffic, wishes)
    options = [_best(task, name, found, few) for name, found in groups.items()]
    options.sort(key=task.rank)
    solver_time = UNHURRIED if mixing_s is None else SolverTime.together(mixing_s)
    mixed = _mixed(task, usable, options[0], solver_time) if every else None
    notes = (*_notes(study, options[0], wishes), *((_CUT,) if solver_time.is_over else ()))
    asked = study.question
    return Plan(study.service, traffic, wishes, tuple(options), notes, asked.currency, mixed, asked.slo.texts)


def _mixed(task: _Task, records: Sequence[TrialRecord], single: Option, solver_time: SolverTime) -> Mixed | None:
    """The fleet of several configurations that is cheaper than one of them alone. It is looked for where the best
    single one keeps the objective and has a price.
    """
    choices = [
        ReplicaKind(one.number, one.configuration, task.replica(one), one.cost_per_hour)
        for one in records if one.cost_per_hour
    ]  # fmt: skip
    if len(choices) < 2 or not single.keeps or single.strategy.monthly is None:
        return None
    wishes = task.wishes
    need = Need(wishes.spare, wishes.zones, wishes.min_replicas)
    demand = Demand(task.traffic, wishes.misses, need, wishes.terms, solver_time)
    return best_mixture(choices, demand, single.strategy.monthly.value)


def _group(study: StudySummary, record: TrialRecord) -> str:
    """The kind of hardware that a trial ran on: its GPU, as the parameters say it, or `CPU`."""
    kinds = [
        given(record.configuration[name]) for name in study.question.gpu_parameters if name in record.configuration
    ]
    return " ".join(kinds) or "CPU"


def _best(task: _Task, group: str, records: Sequence[TrialRecord], few: int) -> Option:
    """The configuration whose fleet is cheapest. Whole replicas make a big one dear where there is little traffic."""

    def rough(record: TrialRecord) -> tuple[bool, float]:
        count, price = max_scheduled(task.traffic, task.replica(record), task.fixed), record.cost_per_hour
        return price is None, count * (1.0 if price is None else price)

    likely = sorted(records, key=lambda record: (*rough(record), *task.turn(record.number)))[:few]
    return min((_option(_Fleet(task, record), group) for record in likely), key=task.rank)


def _option(fleet: _Fleet, group: str) -> Option:
    """A fleet with all ways to run it: the cheapest that keeps the objective comes first."""
    record, traffic, wishes = fleet.record, fleet.traffic, fleet.wishes
    assert record.capacity_qps is not None  # noqa: S101 (chosen so)
    makers = [_always_on, _autoscaled, _scheduled, *([_to_zero] if not traffic.rates.all() else [])]
    tried = [make(fleet) for make in makers]
    keeping = [one for one in tried if one.miss_share <= wishes.misses]
    if not traffic.known:  # what was recorded once does not come again by the clock
        keeping = [one for one in keeping if one.name != "scheduled"] or keeping
    best = min(keeping, key=_money) if keeping else min(tried, key=lambda one: one.miss_share)
    tokens = record.language
    return Option(
        record.number, group, record.configuration, fleet.replica(), record.capacity_qps, record.cost_per_hour,
        (best, *(one for one in tried if one is not best)), bool(keeping),
        *((tokens.good, tokens.good_of, tokens.energy_per_million_output_tokens) if tokens else ()),
    )  # fmt: skip


def _always_on(fleet: _Fleet) -> Strategy:
    def count(one: Replica) -> int:
        return max_scheduled(fleet.traffic, one, fleet.task.fixed)

    replicas = count(fleet.replica())
    run = simulate(fleet.traffic, fleet.replica(), Scaling(None, replicas))
    return _strategy(fleet, "fixed", f"{replicas} replicas all the time", run, fleet.means(count))


def _scheduled(fleet: _Fleet) -> Strategy:
    """Replicas by the clock, for traffic that is known in advance: as many as each time needs, started early enough."""
    traffic, replica = fleet.traffic, fleet.replica()
    counts = schedule(traffic, replica, fleet.task.fixed).astype(float)
    shares = replica.miss_share(traffic.rates / np.maximum(counts, 1.0))
    total = float(traffic.rates.sum())
    run = FleetSimulation(traffic.step_s, counts, counts, shares, float((shares * traffic.rates).sum()) / total)
    means = fleet.means(lambda one: float(schedule(traffic, one, fleet.task.fixed).mean()))
    return _strategy(fleet, "scheduled", "replicas by the clock, as this traffic is known to come", run, means)


def _autoscaled(fleet: _Fleet, min_replicas: int | None = None) -> Strategy:
    """An autoscaler with the highest target that leaves room for the requests that come while a replica starts."""
    wishes, replica = fleet.wishes, fleet.replica()
    min_replicas = max(1, wishes.min_replicas) if min_replicas is None else min_replicas

    def run(target: float, one: Replica) -> FleetSimulation:
        scaling = Scaling(target, min_replicas, spare=wishes.spare, zones=wishes.zones)
        return simulate(fleet.traffic, one, scaling)

    target = highest_target(lambda target: run(target, replica).miss_share, wishes.misses)
    means = fleet.means(lambda one: float(run(target, one).replicas.mean()))
    each = figure(target * replica.capacity_qps)
    words = f"an autoscaler that keeps each at {target:.0%} of its capacity ({each} requests/s)"
    name = "autoscaled" if min_replicas else "to zero"
    words = words if min_replicas else f"{words}, and none without traffic"
    return _strategy(fleet, name, words, run(target, replica), means, target)


def _to_zero(fleet: _Fleet) -> Strategy:
    return _autoscaled(fleet, min_replicas=0)


def _strategy(
    fleet: _Fleet, name: str, words: str, run: FleetSimulation, means: Sequence[float], target: float | None = None
) -> Strategy:
    price, replicas = fleet.record.cost_per_hour, run.replicas
    monthly = None
    if price is not None:
        value, low, high = (price * MONTH_H * mean for mean in means)
        paid = price * MONTH_H * float(replicas.mean())
        monthly = Estimate(value=paid, low=min(value, low, high, paid), high=max(paid, low))
    ways = () if price is None else tuple(offers(replicas, price, fleet.wishes.terms))
    return Strategy(
        name, words, target, int(replicas.min()), float(replicas.mean()), round(float(replicas.max())), monthly,
        run.miss_share, run, ways,
    )  # fmt: skip


def _money(strategy: Strategy) -> float:
    """What a strategy costs a month; its replicas if there is no price, since these are then what can be saved."""
    return strategy.mean if strategy.monthly is None else strategy.monthly.value


def _preference(study: StudySummary, option: Option) -> list[str]:
    """Why the plan takes another configuration than the recommendation, and how to have its manifests."""
    if option.trial == study.recommendation.trial:
        return []
    most = "the cheapest" if option.cost_per_hour is not None else "the one of the fewest replicas"
    return [
        f"For this traffic trial {option.trial} is {most}, and not the recommendation (trial "
        f"{study.recommendation.trial}), which is best per request at full load: a fleet is whole replicas, keeps "
        f"spare ones, and may be late for a few requests only. `tune export`, with `trial` "
        f"{option.trial}, has its manifests."
    ]


def _notes(study: StudySummary, option: Option, wishes: Wishes) -> list[str]:
    notes = _preference(study, option)
    record = next(study.latest(one) for one in study.records if one.number == option.trial)
    if not option.keeps:
        notes.append(
            f"No way to run it keeps late requests within {wishes.misses:.2%}: this one comes nearest. A shorter cold "
            "start, more replicas at least or more spares would help."
        )
    if record.number not in study.launches.confirmations and not (
        study.recommendation.trial == record.number and study.recommendation.confirmed
    ):
        notes.append(f"Trial {record.number} was measured once only: measure it again before so much rests on it.")
    if record.timing.cold_start_s is None and wishes.cold_start_s is None:
        notes.append("No cold start was measured: replicas are taken to serve at once, unless one is given.")
    if record.cost_per_hour is None:
        notes.append("The configuration has no price: replicas alone are planned.")
    return notes
