"""Why a configuration is recommended, in sentences: what it serves, how sure that is, and how it compares.

Every figure that has an interval is shown with it. Differences are put in words: cheaper or dearer, more or less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loadtest import ONE_LAUNCH
from results import ChainRecord, LanguageRecord, TrialCounts, TrialRecord
from results.text import (
    assigned,
    better_by,
    between,
    energy,
    estimated,
    figure,
    goodput,
    metric_name,
    money,
    money_between,
    probability,
)
from runners.replay import NOT_IN_TABLE
from search_spaces.parameter import text_of
from search_spaces.reading import foreign
from tuner.launch.checks.runnable import NOT_HERE
from tuner.outcome.doubts import ONCE, does_not_serve
from tuner.outcome.surer import how_to_be_surer
from tuner.search.beliefs import FEW_LAUNCHES, Beliefs
from tuner.search.contenders import find_current
from tuner.search.decision import Decision
from tuner.search.final import ALIKE
from tuner.search.objective import Objective, replicas_for, undecided
from tuner.spec.reading import LoadedSpec
from tuner.study.outlook import Outlook

_HARDLY = 0.2  # probability that today's is the best, or as good: from there on it is kept for want of knowledge
_NOTABLE = 0.05  # interference that is more than noise
_UNSTEADY = 0.15  # spread between launches of one configuration that is worth a warning on a shared machine
_BOTTLENECKS = {  # as docs/outputs.md explains them
    "cpu": "its CPU cores",
    "gpu": "its GPU",
    "throttling": "throttling, which stops it when its share of CPU time is used up",
    "client": "the load generator, so the server may hold more",
    "wait": "waiting (for a batch, a lock or another service, or in the queue of a burst)",
}
_WORTH_A_WORD = 0.005  # of improvement that an untried configuration may bring


@dataclass(frozen=True)
class Grounds:
    """What a recommendation rests on. `best` is the record of all its launches together; `launches` are they, those
    that served, the trial's own first, and `lost` those that did not. `records` are such records of all trials;
    `further_launches` counts those of the final, of whatever configuration.
    """

    loaded: LoadedSpec
    objective: Objective
    decision: Decision
    beliefs: Beliefs
    best: TrialRecord
    launches: Sequence[TrialRecord]
    records: Mapping[int, TrialRecord]
    outlook: Outlook
    further_launches: int
    lost: Sequence[TrialRecord] = ()


def reasons(of: Grounds) -> list[str]:
    """The reasons as sentences: the decision first, then what it rests on."""
    said = [
        _decided(of),
        _what_it_serves(of.loaded, of.best),
        *_in_tokens(of.best.language, of.loaded.spec.prices.currency),
        *_side_by_side(of.best),
        *_along_the_chain(of.best.chain),
    ]
    best, target = of.best, of.objective.target_qps
    if target is not None and best.capacity_qps and best.cost_per_hour is not None:
        fleet = replicas_for(target, best.capacity_qps.value)
        cost = money(fleet * best.cost_per_hour, of.loaded.spec.prices.currency)
        said.append(f"{fleet} of them carry {figure(target)} requests/s for {cost} an hour.")
    said += [_how_sure(of), *_surer(of), *_current_missing(of), *_against_next(of), *_untried(of)]
    if best.bottleneck:
        used = best.use.cpu_cores_used if best.bottleneck == "wait" else None
        with_ = "" if used is None else f", with {figure(used)} CPU cores in use"
        said.append(f"Its bottleneck at its highest rate: {_BOTTLENECKS.get(best.bottleneck, best.bottleneck)}{with_}.")
    pooled = len(of.launches) > 1  # then the interval of all launches together is what counts
    return [*said, *(one for one in best.notes if one not in said and not (pooled and one.startswith(ONE_LAUNCH)))]


def counts_of(records: Iterable[TrialRecord]) -> TrialCounts:
    """How many ended in which state."""
    found = list(records)
    states = Counter[str](one.state for one in found)
    return TrialCounts(**states, undecided=sum(map(undecided, found)))


def _decided(of: Grounds) -> str:
    decision, metric = of.decision, of.objective.metrics[0]
    asked = of.loaded.spec.objective.confidence
    alone = counts_of(of.records.values()).only_one
    of_measured = f"the best of {len(of.beliefs.numbers)} measured"
    best = alone or f"{of_measured} with a probability of {probability(decision.probability_best)}"
    if decision.action == "keep" and decision.doubt is not None:
        return f"Keep what you have for now: {decision.doubt.reason}, and nothing measured is surely better."
    if _hardly(decision):
        return (
            "Keep what you have: nothing measured is surely better than the current configuration, though that "
            f"is {best} only."
        )
    if decision.action == "keep":
        return f"Keep what you have: nothing measured is surely better than the current configuration, which is {best}."
    if decision.saving is None:
        alike = "" if alone else f", and within {ALIKE:.0%} of it with {probability(decision.probability_alike)}"
        if decision.action == "deploy":
            return f"Deploy it: it is {best}{alike}."
        if decision.doubt is not None:
            return f"Uncertain, since {decision.doubt.reason}: it is {best}{alike}."
        return f"Uncertain which is best: it is {best}{alike}; {probability(asked)} was asked for."
    today = find_current(of.loaded, list(of.records.values()))
    shown = f"the current configuration ({assigned(today.configuration)})" if today else "the current configuration"
    saving = f"{better_by(metric, decision.saving.value)} than {shown} in {_in_words(metric)}"
    if decision.saving.low < decision.saving.high:
        saving += f" (95% interval: {between(metric, decision.saving)})"
    sure = probability(decision.probability_better or 0.0)
    if decision.action == "deploy":
        return f"Deploy it: {saving}, and better with a probability of {sure}; it is {best}."
    doubt = decision.doubt or (ONCE if len(of.launches) < 2 else None)
    if doubt is not None:
        return f"Uncertain, since {doubt.reason}: {saving}, and better with a probability of {sure}."
    later = 1 - (1 - asked) / 2
    needed = of.beliefs.probability_needed(decision.number, today.number, asked) if today else later
    once = f" ({later:.1%} once both were launched {FEW_LAUNCHES} times)" if needed > later else ""
    return f"Uncertain: {saving}, and better with a probability of {sure}; from {needed:.1%}{once} on it would be sure."


def _what_it_serves(loaded: LoadedSpec, best: TrialRecord) -> str:
    assert best.capacity_qps is not None  # noqa: S101
    capacity = best.capacity_qps
    within = " and ".join(loaded.slo_texts) or "the SLO"
    text = f"{assigned(best.configuration)} holds {figure(capacity.value)} requests/s within {within}"
    if capacity.low < capacity.high:
        text += f" (95% interval {figure(capacity.low)} to {figure(capacity.high)})"
    if best.cost_per_hour is not None and best.cost_per_million_requests is not None:
        million, currency = best.cost_per_million_requests, loaded.spec.prices.currency
        text += f", for {money(best.cost_per_hour, currency)} an hour: {money(million, currency)} per million requests"
        if capacity.low < capacity.high:
            ends = (million * capacity.value / capacity.high, million * capacity.value / capacity.low)
            text += f" ({between_})" if (between_ := money_between(*ends, currency)) else ""
    return f"{text}."


def _in_tokens(language: LanguageRecord | None, currency: str) -> list[str]:
    """The capacity and cost in tokens, for a language model that streams its answers."""
    if language is None or language.output_tokens_per_second is None:
        return []
    text = f"That is {figure(language.output_tokens_per_second, 4)} output tokens/s"
    if language.tokens_per_second_per_user is not None:
        text += f", {figure(language.tokens_per_second_per_user, 4)} for each user"
    if language.cost_per_million_output_tokens is not None:
        text += f", at {money(language.cost_per_million_output_tokens, currency)} per million output tokens"
    if spent := energy(language.energy_per_million_output_tokens):
        text += f", with {spent} of its GPUs"
    if good := goodput(language.good, language.good_of):
        text += f"; {good}"
    return [f"{text}."]


def _side_by_side(best: TrialRecord) -> list[str]:
    """Each of several services' share of the capacity, and what they cost each other."""
    if not best.services:
        return []
    each = [
        f"{one.name} {figure(one.capacity_qps)} requests/s"
        + (f" (alone {figure(one.alone_qps.value)})" if one.alone_qps is not None else "")
        for one in best.services
        if one.capacity_qps is not None
    ]
    said = [f"Together: {', '.join(each)}."]
    for one in best.services:
        if one.best_effort and one.throughput_qps is not None:
            alone = f" of the {figure(one.alone_qps.value)} that it answers alone" if one.alone_qps else ""
            answered = figure(one.throughput_qps.value)
            said.append(f"Meanwhile {one.name}, on what they leave, answers {answered} requests/s{alone}.")
    if best.interference is not None:
        said.append(
            f"Beside each other they hold {best.interference:.0%} less than if each did as well as alone."
            if best.interference >= _NOTABLE
            else "They do not hold each other up: together they do as well as alone."
        )
    return said


def _along_the_chain(chain: ChainRecord | None) -> list[str]:
    """Where the time goes, and which stage held the chain back."""
    if chain is None or chain.whole_ms is None or chain.bottleneck is None or chain.rate_qps is None:
        return []
    each = [
        f"{one.name} {figure(one.service_ms + one.queue_ms)} ms ({figure(one.queue_ms)} of it waiting)"
        for one in chain.stages
        if one.service_ms is not None and one.queue_ms is not None
    ]
    return [
        f"The chain's bottleneck is {chain.bottleneck}. At {figure(chain.rate_qps)} requests/s a request takes "
        f"{figure(chain.whole_ms)} ms on average: {', '.join(each)}."
    ]


def _how_sure(of: Grounds) -> str:
    """How many launches it rests on, and what each showed."""
    if len(of.launches) < 2:
        why = "the run ended before it could be measured again"
        if of.loaded.spec.objective.final == 0:
            why = "objective.final, 0%, asks for no other launch"
        return f"It was measured once only: {why}."
    each = [estimated(one.capacity_qps) for one in of.launches if one.capacity_qps is not None]
    text = f"Measured on {len(each)} launches: {', '.join(each[:-1])} and {each[-1]} requests/s"
    spread = of.beliefs.launch_spread
    text += f"; launches of one configuration differ by {spread:.1%} here." if spread else "."
    text += _lost(of.lost)
    if spread > _UNSTEADY:
        text += " That is much: the machine or the server is unsteady, so leave headroom."
    return text + _same_server(of)


def _lost(launches: Sequence[TrialRecord]) -> str:
    """Launches of it that did not serve, and why the last one did not."""
    if not launches:
        return ""
    number = "Another launch" if len(launches) == 1 else f"{len(launches)} other launches"
    return f" {number} did not serve: {foreign(launches[-1].reason or launches[-1].state).rstrip('.')}."


def _same_server(of: Grounds) -> str:
    """What else counts: launches that had more or less memory than this one, and enough."""
    same = [of.records[number].configuration for number in of.beliefs.same_server(of.best.number)]
    if not same:
        return ""
    name = next(name for name, value in of.best.configuration.items() if value != same[0][name])
    shown = " and ".join(sorted(f"{name}={text_of(one[name])}" for one in same))
    return f" Launches with {shown} count too: none came near its limit of memory, so it is the same server."


def _hardly(decision: Decision) -> bool:
    """Whether to keep what is there is only the answer because nobody knows which of the others is better."""
    return decision.action == "keep" and decision.probability_alike < _HARDLY


def _surer(of: Grounds) -> list[str]:
    """What to do about an uncertain decision, or one to keep what is hardly the best."""
    doubt = of.decision.doubt
    if of.decision.action != "uncertain" and not _hardly(of.decision) and doubt is None:
        return []
    if doubt is not None and doubt.advice is not None:
        return [doubt.advice]
    spread, trials = of.beliefs.launch_spread, len(of.records)
    counts = {"trials": trials, "untried": of.loaded.space.size.count - trials, "further_launches": of.further_launches}
    return [how_to_be_surer(of.loaded.spec, of.launches, spread, **counts)]


def _current_missing(of: Grounds) -> list[str]:
    """Why the decision does not compare with today's configuration, where one is named."""
    if of.loaded.spec.current is None or of.decision.action == "keep" or of.decision.saving is not None:
        return []
    shown = assigned(of.loaded.spec.current)
    today = find_current(of.loaded, list(of.records.values()))
    if today is None:
        return [f"The current configuration ({shown}) was not measured."]
    if today.number == of.best.number:
        return []
    why = foreign(today.reason or today.state)
    if does_not_serve(today):
        return [f"The current configuration ({shown}) does not serve within the SLO: {why}."]
    if why.startswith(NOT_HERE):
        return [f"The current configuration ({shown}) {why}."]
    if why.startswith(NOT_IN_TABLE):
        return [f"Nothing is known of the current configuration ({shown}): {why}."]
    if undecided(today):
        return [f"Whether the current configuration ({shown}) serves within the SLO is not known: {why}."]
    if today.state == "complete":
        return [f"The current configuration ({shown}) was measured, but not its {_in_words(of.objective.metrics[0])}."]
    return [f"The trial of the current configuration ({shown}) ended early: {why}."]


def _against_next(of: Grounds) -> list[str]:
    """The next best, and how it compares."""
    metric = of.objective.metrics[0]
    others = [one for one in of.objective.ranked(of.records.values()) if one.number in of.beliefs]
    others = [one for one in others if one.number not in (of.best.number, *of.beliefs.same_server(of.best.number))]
    if not others or len(of.objective.metrics) > 1:
        return []
    following = min(others, key=lambda one: of.beliefs.loss(one.number))
    apart = of.beliefs.saving(following.number, of.best.number, maximised=of.objective.maximised[0])
    shown = assigned(following.configuration)
    text = f"The next best, {shown}, is {better_by(metric, apart.value)} in {_in_words(metric)}"
    if apart.value > 0:  # and it was not launched again, or not surely better than today's
        text = f"{shown} may be {better_by(metric, apart.value)} in {_in_words(metric)}, which is not sure enough"
    return [f"{text} (95% interval: {between(metric, apart)})." if apart.low < apart.high else f"{text}."]


def _in_words(metric: str) -> str:
    """What is cheaper or more, without its unit."""
    return metric_name(metric).partition(",")[0]


def _untried(of: Grounds) -> list[str]:
    expected = of.outlook.untried_improvement
    if expected is None or expected < _WORTH_A_WORD:
        return []
    tried = "1 was" if len(of.records) == 1 else f"{len(of.records)} were"
    return [
        f"Of {of.loaded.space.size} configurations {tried} tried; the best of the others is expected to "
        f"be better by {expected:.1%}: a longer run may find it."
    ]
