"""A capacity plan as text, JSON, CSV and a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from results.files import write_text
from results.planning.mixed import Mixed
from results.planning.plan import Option, Plan, Strategy
from results.report.chart import Axis, Chart, Frame, Mark, Note, area, line, steps
from results.report.report import template_environment
from results.text import duration, energy, figure, given, goodput, money_alike, money_between, share, visible

_MAX_DRAWN = 600
_Money = Callable[[float | None], str]


def write_plan(folder: Path, plan: Plan) -> None:
    """`plan.json`, `plan.csv` (replicas over time) and `plan.svg`. Raises OSError when they cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "plan.json", json.dumps(plan_document(plan), indent=2) + "\n")
    write_text(folder / "plan.csv", plan_csv(plan))
    template = template_environment(html=True).get_template("plan.svg.j2")
    write_text(folder / "plan.svg", template.render(chart=plan_chart(plan)))


def plan_text(plan: Plan) -> str:
    """For a terminal: what to run, what it costs, what it would cost otherwise."""
    return "\n".join(visible(text) for text in _lines(plan))


def plan_money(plan: Plan) -> _Money:
    """How the amounts of a plan are shown: they are compared with each other, so all alike."""
    strategies = [strategy for option in plan.options for strategy in option.strategies]
    offers = [offer for strategy in strategies for offer in strategy.offers]
    monthly = [
        end for one in strategies if one.monthly for end in (one.monthly.value, one.monthly.low, one.monthly.high)
    ]
    if plan.mixed is not None:
        offers += plan.mixed.offers
        monthly.append(plan.mixed.monthly)
    return money_alike([*monthly, *(one.monthly for one in offers), *(one.upfront for one in offers)], plan.currency)


def _lines(plan: Plan) -> Iterator[str]:
    option, traffic, money = plan.option, plan.traffic, plan_money(plan)
    strategy = option.strategy
    rates = f"{figure(traffic.mean_qps)} requests/s on average, {figure(traffic.peak_qps)} at the peak"
    yield f"{plan.service} for {traffic.name}: {rates}"
    if traffic.span is not None:
        yield f"  recorded        {traffic.span}"
    yield ""
    yield f"Run {option.words}: {strategy.words}."
    yield f"  replicas        {_replicas(strategy)}"
    if strategy.monthly is not None:
        ends = money_between(strategy.monthly.low, strategy.monthly.high, plan.currency, money)
        cost = money(strategy.monthly.value)
        yield f"  cost            {cost} a month on demand" + (f" ({ends})" if ends else "")
    yield f"  late requests   {share(strategy.miss_share)} predicted, {share(plan.wishes.misses)} allowed"
    cold_s, each = option.replica.cold_start_s, figure(option.replica.capacity_qps)
    yield f"  cold start      {duration(cold_s) if cold_s else 'not measured'}"
    whole = figure(option.capacity_qps.value)
    yield f"  planned with    {each} requests/s each" + (f", the lower bound of {whole}" if each != whole else "")
    if plan.slo:
        held = goodput(option.good, option.good_of)
        yield f"  within          {' and '.join(plan.slo)}" + (f"; {held} at that rate" if held else "")
    if option.energy_wh is not None:
        yield f"  energy          {energy(option.energy_wh)}, of the GPUs alone"
    if plan.wishes.spare or plan.wishes.zones > 1:
        yield f"  kept besides    {_kept(plan)}"
    yield from _mixture(plan, money)
    yield from _otherwise(plan, money)
    yield from (f"\nNote: {note}" for note in plan.notes)


def _mixture(plan: Plan, money: _Money) -> Iterator[str]:
    mixed = plan.mixed
    if mixed is None:
        return
    yield f"\nOr several kinds together, {share(mixed.saved)} cheaper: {mixed.words}."
    for part in mixed.parts:
        mean = "" if part.min_replicas == part.max_replicas else f", {figure(part.mean)} on average"
        each = figure(part.choice.replica.capacity_qps)
        yield f"  trial {part.choice.trial:<10}{part.words}{mean}; weight {each}"
    yield f"  cost            {money(mixed.monthly)} a month on demand"
    if len(mixed.offers) > 1:
        yield "  paid otherwise  " + ", ".join(f"{money(one.monthly)} {one.name}" for one in mixed.offers)
    yield f"  late requests   {share(mixed.miss_share)} predicted, where each replica gets requests by its weight"


def _otherwise(plan: Plan, money: _Money) -> Iterator[str]:
    option = plan.option
    if len(option.strategies) > 1:
        yield "\nOther ways to run it:"
        for one in option.strategies[1:]:
            cost = "" if one.monthly is None else f"{money(one.monthly.value)} a month, "
            yield f"  {one.name:<12}{cost}{_replicas(one)} replicas, {share(one.miss_share)} late: {one.words}"
    offers = option.strategy.offers
    if len(offers) > 1:
        yield "\nWays to pay:"
        for offer in offers:
            upfront = f" after {money(offer.upfront)} at once" if offer.upfront else ""
            yield f"  {offer.name:<14}{money(offer.monthly)} a month{upfront}" + (
                f"; {offer.words}" if offer.words else ""
            )
    if len(plan.options) > 1:
        yield "\nOther hardware:"
        for other in plan.options[1:]:
            paid = money(other.strategy.monthly.value if other.strategy.monthly else None)
            yield f"  {paid} a month: {other.words}, {other.strategy.words}"


def _replicas(strategy: Strategy) -> str:
    if strategy.min_replicas == strategy.max_replicas:
        return str(strategy.max_replicas)
    return f"{strategy.min_replicas} to {strategy.max_replicas} ({figure(strategy.mean)} on average)"


def _kept(plan: Plan) -> str:
    spare = f"{plan.wishes.spare} spare" if plan.wishes.spare else ""
    zones = f"enough in {plan.wishes.zones - 1} of {plan.wishes.zones} zones" if plan.wishes.zones > 1 else ""
    return ", ".join(text for text in (spare, zones) if text)


def plan_document(plan: Plan) -> dict[str, Any]:
    """The plan as JSON: the chosen option first, with replicas over time; money per month."""
    return {
        "schema": 1,
        "service": plan.service,
        "traffic": {
            "name": plan.traffic.name,
            "seconds": plan.traffic.seconds,
            "recorded": plan.traffic.span,
            "mean_qps": plan.traffic.mean_qps,
            "peak_qps": plan.traffic.peak_qps,
        },
        "allowed_miss_share": plan.wishes.misses,
        "slo": list(plan.slo),
        "spare": plan.wishes.spare,
        "zones": plan.wishes.zones,
        **_option(plan.option),
        "replicas_over_time": [
            {"at_s": at * plan.traffic.step_s, "qps": float(rate), "replicas": round(float(count))}
            for at, rate, count in _changes(plan)
        ],
        "mixed": None if plan.mixed is None else _mixed(plan.mixed),
        "other_hardware": [_option(other) for other in plan.options[1:]],
        "notes": list(plan.notes),
    }


def _mixed(mixed: Mixed) -> dict[str, Any]:
    return {
        "strategy": mixed.name,
        "words": mixed.words,
        "monthly_cost": mixed.monthly,
        "saved_share": mixed.saved,
        "miss_share": mixed.miss_share,
        "parts": [
            {
                "trial": part.choice.trial,
                "configuration": dict(part.choice.configuration),
                "weight_qps": part.choice.replica.capacity_qps,
                "cost_per_hour": part.choice.price_per_hour,
                "autoscaled": part.scaled,
                "replicas": {"min": part.min_replicas, "mean": part.mean, "max": part.max_replicas},
            }
            for part in mixed.parts
        ],
        "offers": [{"name": one.name, "monthly": one.monthly, "upfront": one.upfront} for one in mixed.offers],
    }


def _option(option: Option) -> dict[str, Any]:
    return {
        "hardware": option.group,
        "trial": option.trial,
        "configuration": dict(option.configuration),
        "capacity_qps": option.capacity_qps.model_dump(),
        "planned_capacity_qps": option.replica.capacity_qps,
        "cold_start_s": option.replica.cold_start_s,
        "good_share": option.good,
        "good_of": option.good_of,
        "energy_per_million_output_tokens": option.energy_wh,
        "cost_per_hour": option.cost_per_hour,
        "keeps_slo": option.keeps,
        **_strategy(option.strategy),
        "other_strategies": [_strategy(one) for one in option.strategies[1:]],
    }


def _strategy(one: Strategy) -> dict[str, Any]:
    return {
        "strategy": one.name,
        "replicas": {"min": one.min_replicas, "mean": one.mean, "max": one.max_replicas},
        "target_utilization": one.target,
        "monthly_cost": None if one.monthly is None else one.monthly.model_dump(),
        "miss_share": one.miss_share,
        "offers": [
            {
                "name": offer.name,
                "monthly_cost": offer.monthly,
                "upfront_cost": offer.upfront,
                "break_even_months": offer.break_even_months,
            }
            for offer in one.offers
        ],
    }


def plan_csv(plan: Plan) -> str:
    """A line per step of the traffic: `at_s`, `qps`, `replicas` (existing), `ready`, `miss_share`."""
    fleet, text = plan.option.strategy.simulated, io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("at_s", "qps", "replicas", "ready", "miss_share"))
    for number, row in enumerate(zip(plan.traffic.rates, fleet.replicas, fleet.ready, fleet.missed, strict=True)):
        writer.writerow((f"{number * plan.traffic.step_s:g}", *(f"{float(value):.6g}" for value in row)))
    return text.getvalue()


def _changes(plan: Plan) -> Iterator[tuple[int, float, float]]:
    """The steps at which the number of replicas changes."""
    before = None
    fleet = plan.option.strategy.simulated
    for at, (rate, count) in enumerate(zip(plan.traffic.rates, fleet.replicas, strict=True)):
        if round(float(count)) != before:
            before = round(float(count))
            yield at, rate, count


def plan_chart(plan: Plan) -> Chart:
    """What the fleet can carry over time, above what comes."""
    fleet, each = plan.option.strategy.simulated, plan.option.replica.capacity_qps
    every = max(1, len(plan.traffic.rates) // _MAX_DRAWN)
    at = [number * plan.traffic.step_s / 3600 for number in range(0, len(plan.traffic.rates), every)]
    rates = [float(rate) for rate in plan.traffic.rates[::every]]
    carried = [float(count) * each for count in fleet.ready[::every]]
    x = Axis.over([0.0, plan.traffic.seconds / 3600], Frame.left, Frame.right, zero=True)
    y = Axis.over([0.0, *rates, *carried], Frame.bottom, Frame.top, zero=True)
    come = [(x(hour), y(rate)) for hour, rate in zip(at, rates, strict=True)]
    floor = [(come[0][0], y(0)), (come[-1][0], y(0))]
    can = [(x(hour), y(rate)) for hour, rate in zip(at, carried, strict=True)]
    return Chart(
        label=f"Requests/s, and what {_replicas(plan.option.strategy)} replicas carry",
        x_name="hours",
        y_name="requests/s",
        x_ticks=x.ticks(figure),
        y_ticks=y.ticks(figure),
        marks=(
            Mark(area(come, floor), "tint", "what comes"),
            Mark(line(come), "curve", "what comes"),
            Mark(steps(can), "limit", f"what {given(plan.option.words)} carries within the SLO"),
        ),
        notes=(Note(Frame.right, 18, "blue: what comes, orange: what the replicas carry within the SLO", "end"),),
    )
