"""Is what is recommended right, under noise, and as often as is said? `python -m benchmarks.decision --tables ...`

Services are made up (`benchmarks.search.families`) or measured tables. Each launch's capacity is the true one times a
lognormal error that stays with the launch; one launch in twenty is halved; each measurement adds an error of 2%, which
is what its interval says. The product's own sampler, final and decision run on that, in one process; beside them the
rule that came before (the best of three that are measured once more) after the same search, and Optuna's samplers with
that rule. All have the same launches to spend: those of the search and of the final together.

- regret: what the recommended configuration truly costs over the best of the whole space. It has two parts: that of the
  search (the best of those tried, over the best of all) and that of the decision (the recommended one, over the best of
  those tried).
- untried: how much better the best that was not tried is said to be than what is recommended, and how much it is.
- said: the mean probability to be the best of those tried that was stated, and how often it was true.
- current is best: the spec names the truly best configuration as today's; the answer should be to keep it.
- A/A: two names for one configuration, one of them today's: neither may be called cheaper.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from benchmarks.search.families import FAMILIES, Floats, Surface, draw
from benchmarks.search.searchers import OURS, SEARCHERS, OurSearch
from benchmarks.search.tables import read_table, sources
from results import (
    Estimate,
    Latencies,
    Timing,
    TrialRecord,
)
from runners import Recorded
from search_spaces import Parameter, SearchSpace
from tuner.search.beliefs import Beliefs
from tuner.search.contenders import believed, to_beat
from tuner.search.decision import Decision, decide_deployment
from tuner.search.final import FinalRules, next_round
from tuner.search.launches import Expectation
from tuner.search.objective import Objective, capacity_at_cost, cost_per_million_requests
from tuner.trial.setup import BREAK_EVEN_MARGIN
from tuner.trial.table import disturbed

_CONFIRMED = 3  # of the rule that came before
_OBJECTIVE = Objective(("cost_per_million_requests",))
_RULES = FinalRules()


@dataclass(frozen=True)
class Case:
    """One run. `service` is a family and a seed, or a table; `kind` the family, or the table's source. `current`:
    today's is the truly best one, or none. `weights` are the search's, None: those that ship.
    """

    service: tuple[str, int] | Path
    kind: str
    method: str
    noise: float
    seed: int
    budget: int
    current: bool = False
    weights: Path | None = None

    @property
    def own_seed(self) -> int:
        """Of the search and of the noise; hardly any two services have the same. If all shared one, a lucky first trial
        or an unlucky launch would meet them alike, and many runs would say no more than a few.
        """
        name = self.service.stem if isinstance(self.service, Path) else "-".join(map(str, self.service))
        return 1000 * self.seed + crc32(name.encode()) % 1000


@dataclass(frozen=True)
class Outcome:
    """What came of a case: regrets in shares, what was said and whether it was true, and the launches it took."""

    case: Case
    regret: float
    regret_measured: float
    launches: int
    decision: str = ""
    said: float = np.nan
    true: float = np.nan
    said_alike: float = np.nan
    true_alike: float = np.nan
    untried_said: float = np.nan
    untried_true: float = np.nan

    @property
    def regret_search(self) -> float:
        """What the best of those tried costs over the best of all."""
        return (1 + self.regret) / (1 + self.regret_measured) - 1


class Noisy:
    """Launches of one surface's configurations, each with errors of its own."""

    def __init__(self, surface: Surface, noise: float, seed: int) -> None:
        self.surface, self._noise, self._random = surface, noise, np.random.default_rng([seed, 7])
        with np.errstate(divide="ignore", invalid="ignore"):
            costs = surface.price / surface.capacity_qps / 3600 * 1e6
        self.costs: Floats = np.where(surface.capacity_qps > 0, costs, np.inf)
        self.launches = 0

    def launch(self, number: int, trial: int, best: float | None, *, prune: bool) -> TrialRecord:
        """`best` is the cost to beat: whoever is below the capacity that this takes is pruned, as in the product."""
        self.launches += 1
        surface, random = self.surface, self._random
        price, capacity = float(surface.price[number]), float(surface.capacity_qps[number])
        shared: dict[str, Any] = {
            "number": trial, "configuration": surface.configurations[number],
            "cost_per_hour": None if np.isnan(price) else price,
        }  # fmt: skip
        if not capacity:
            oom = surface.status[number] == "oom"
            return TrialRecord(state="infeasible", reason="out of memory" if oom else "too slow", **shared)
        known = None if surface.saturated_qps is None else float(surface.saturated_qps[number])
        exact = Recorded(capacity, max(capacity, known or 0.0), None, price, None)
        recorded, estimate = disturbed(exact, self._noise, int(random.integers(2**31)))
        seen, shared["saturated_qps"] = estimate.value, recorded.saturated_qps
        bound = None if best is None or not prune else capacity_at_cost(price, best) * BREAK_EVEN_MARGIN
        if bound is not None and seen < bound:
            return TrialRecord(state="pruned", reason="dearer", capacity_bound_qps=bound, **shared)
        p99_ms = np.nan if surface.p99_ms is None else float(surface.p99_ms[number])
        return TrialRecord(
            state="complete", capacity_qps=estimate,
            latency=Latencies(p99_ms=None if np.isnan(p99_ms) else Estimate.exactly(p99_ms)),
            cost_per_million_requests=cost_per_million_requests(price, seen), **shared,
        )  # fmt: skip


def run(case: Case) -> Outcome:
    """Search, final, decision."""
    surface = read_table(case.service) if isinstance(case.service, Path) else draw(*case.service)
    seed = case.own_seed
    noisy = Noisy(surface, case.noise, seed)
    ours = case.method in ("ours", "before")
    if ours:
        searcher: Any = OURS["ours"](surface, seed, case.weights)
    else:
        searcher = SEARCHERS[case.method](surface, seed)
    budget = case.budget
    if case.method != "ours":
        budget += _RULES.launches(case.budget) - _CONFIRMED
    first = int(noisy.costs.argmin()) if case.current else None
    numbers, records = _search(noisy, searcher, min(budget, len(surface.configurations)), first, case.method)
    if case.method != "ours":
        return _before(case, noisy, numbers, records)
    assert isinstance(searcher, OurSearch)
    expected = searcher.proposer.expected(records)
    beliefs, decision = final(
        lambda trial: noisy.launch(numbers[trial], trial, None, prune=False), records, expected,
        current=0 if case.current else None,
    )  # fmt: skip
    if beliefs is None or decision is None:
        return Outcome(case, np.inf, 0.0, noisy.launches)
    served = [noisy.costs[numbers[one]] for one in beliefs.numbers]
    cost = noisy.costs[numbers[decision.number]]
    untried = searcher.proposer.untried_improvement(records, beliefs.loss(decision.number))
    best_untried = np.delete(noisy.costs, numbers).min(initial=np.inf)
    return Outcome(
        case, cost / noisy.costs.min() - 1, cost / min(served) - 1, noisy.launches, decision.action,
        decision.probability_best, float(cost <= min(served) + 1e-12),
        decision.probability_alike, float(cost <= min(served) * 1.02),
        untried, max(0.0, 1 - best_untried / cost),
    )  # fmt: skip


def final(
    launch: Callable[[int], TrialRecord], records: Sequence[TrialRecord], expected: Mapping[int, Expectation], *,
    current: int | None,
) -> tuple[Beliefs | None, Decision | None]:  # fmt: skip
    """The product's final and decision over trials that are launched again by `launch`."""
    confirmations: dict[int, list[TrialRecord]] = {}
    left, this_round = _RULES.launches(len(records)), 0
    while (beliefs := believed(_OBJECTIVE, records, confirmations, expected)) is not None:
        counts = {number: len(found) for number, found in confirmations.items()}
        chosen = next_round(beliefs, current if current in beliefs else None, counts, left, _RULES)
        this_round += 1
        for number in chosen:
            again = launch(number).model_copy(update={"timing": Timing(final_round=this_round)})
            confirmations.setdefault(number, []).append(again)
        left -= len(chosen)
        if not chosen:
            among = [one for one in beliefs.numbers if one in confirmations] or None
            return beliefs, decide_deployment(
                beliefs, current if current in beliefs else None, _RULES.confidence, among
            )
    return None, None


def _search(
    noisy: Noisy, searcher: Any, budget: int, first: int | None, method: str
) -> tuple[list[int], list[TrialRecord]]:
    """The configurations tried, in order, and what was seen of them. `first` is today's. The rule that came before has
    the lowest cost that was seen as the one to beat.
    """
    numbers: list[int] = []
    records: list[TrialRecord] = []
    for trial in range(budget):
        if trial == 0 and first is not None and isinstance(searcher, OurSearch):
            number = first
            searcher.pend(number)
        else:
            number = searcher.ask()
        beat = to_beat(_OBJECTIVE, records) if method == "ours" else next(iter(_OBJECTIVE.ranked(records)), None)
        best = None if beat is None else beat.cost_per_million_requests
        record = noisy.launch(number, trial, best, prune=method in ("ours", "before"))
        searcher.tell(record, number)
        numbers.append(number)
        records.append(record)
    return numbers, records


def _before(case: Case, noisy: Noisy, numbers: Sequence[int], records: Sequence[TrialRecord]) -> Outcome:
    """The three best are measured once more, and the best of these is taken; where none serves, the next."""
    ranked = _OBJECTIVE.ranked(records)
    confirmations = [noisy.launch(numbers[one.number], one.number, None, prune=False) for one in ranked[:_CONFIRMED]]
    if not ranked:
        return Outcome(case, np.inf, 0.0, noisy.launches)
    chosen = _OBJECTIVE.ranked(confirmations)[0].number
    cost = noisy.costs[numbers[chosen]]
    served = min(noisy.costs[numbers[one.number]] for one in ranked)
    return Outcome(case, cost / noisy.costs.min() - 1, cost / served - 1, noisy.launches)


def same(noise: float, seed: int) -> Decision | None:
    """A/A: one configuration under two names, the first of which is today's."""
    rows: list[dict[str, Any]] = [{"name": "a"}, {"name": "b"}]
    one = np.ones(2)
    space = SearchSpace((Parameter("name", ("a", "b")),))
    surface = Surface("A/A", space, rows, 100 * one, ["ok", "ok"], one)
    noisy = Noisy(surface, noise, seed)
    records = [noisy.launch(number, number, None, prune=False) for number in range(2)]
    return final(lambda trial: noisy.launch(trial, trial, None, prune=False), records, {}, current=0)[1]


HEAD = [
    "noise", "method", "today's", "runs", "regret, median", "90th percentile", "of the search, median",
    "90th percentile", "of the decision, median", "90th percentile", "launches",
    "deploy, keep, uncertain", "said best", "true", "said within 2%", "true",
]  # fmt: skip


def table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A row per noise and method."""
    rows = []
    for key in dict.fromkeys((one.case.noise, one.case.method, one.case.current) for one in outcomes):
        chosen = [one for one in outcomes if (one.case.noise, one.case.method, one.case.current) == key]
        actions = [one.decision for one in chosen]
        said = [
            _mean(getattr(one, name) for one in chosen) for name in ("said", "true", "said_alike", "true_alike")
        ]  # fmt: skip
        rows.append(
            [
                f"{key[0]:.0%}", key[1], "the best" if key[2] else "none", str(len(chosen)),
                *_usual_and_late([one.regret for one in chosen]),
                *_usual_and_late([one.regret_search for one in chosen]),
                *_usual_and_late([one.regret_measured for one in chosen]),
                f"{np.mean([one.launches for one in chosen]):.1f}",
                ", ".join(f"{actions.count(one) / len(actions):.0%}" for one in ("deploy", "keep", "uncertain")),
                *said,
            ]
        )  # fmt: skip
    return rows


KIND_HEAD = [
    "noise", "services", "runs", "regret, median", "90th percentile", "of the search, median", "90th percentile",
    "of the decision, median", "90th percentile", "untried said to be better by, mean", "is, mean", "most",
]  # fmt: skip


def by_kind(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A row per noise and kind of service, and one for all, of our runs without a current configuration."""
    rows = []
    ours = [one for one in outcomes if one.case.method == "ours" and not one.case.current]
    for noise in dict.fromkeys(one.case.noise for one in ours):
        for kind in [*dict.fromkeys(one.case.kind for one in ours), "all"]:
            chosen = [one for one in ours if one.case.noise == noise and kind in ("all", one.case.kind)]
            rated = [one for one in chosen if not np.isnan(one.untried_said)]
            rows.append(
                [
                    f"{noise:.0%}", kind, str(len(chosen)),
                    *_usual_and_late([one.regret for one in chosen]),
                    *_usual_and_late([one.regret_search for one in chosen]),
                    *_usual_and_late([one.regret_measured for one in chosen]),
                    f"{np.mean([one.untried_said for one in rated]):.1%}" if rated else "",
                    f"{np.mean([one.untried_true for one in rated]):.1%}" if rated else "",
                    f"{np.max([one.untried_true for one in rated]):.1%}" if rated else "",
                ]
            )  # fmt: skip
    return rows


def _usual_and_late(regrets: Sequence[float]) -> list[str]:
    return [f"{np.quantile(regrets, at):.1%}" for at in (0.5, 0.9)]


CALIBRATION_HEAD = ["noise", "said to be the best", "runs", "mean of what was said", "true"]


def calibration(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """How often the stated probability to be the best was true, in five bands of it."""
    rows = []
    ours = [one for one in outcomes if one.case.method == "ours" and not np.isnan(one.said)]
    for noise in dict.fromkeys(one.case.noise for one in ours):
        for low, high in ((0, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.85), (0.85, 0.95), (0.95, 1.01)):
            chosen = [one for one in ours if one.case.noise == noise and low <= one.said < high]
            if chosen:
                means = (_mean(one.said for one in chosen), _mean(one.true for one in chosen))
                rows.append([f"{noise:.0%}", f"{low:.0%} to {min(1, high):.0%}", str(len(chosen)), *means])
    return rows


def _mean(values: Iterable[float]) -> str:
    known = [one for one in values if not np.isnan(one)]
    return f"{np.mean(known):.0%}" if known else ""


def cases(asked: argparse.Namespace) -> list[Case]:
    """Every service with every method, noise and seed; `ours` once more where today's is the best. The tables of a
    source are searched with weights that never saw it.
    """
    services: list[tuple[tuple[str, int] | Path, str]] = [(path, "tables") for path in asked.tables]
    services += [((family, seed), family) for family in asked.families.split(",") if family
                 for seed in range(asked.services)]  # fmt: skip
    for source, paths in sources(asked.sources).items() if asked.sources else ():
        services += [(path, source) for path in paths[asked.skip :: asked.every]]
    found = []
    for noise in asked.noise:
        for method in asked.methods.split(","):
            for service, kind in services:
                weights = _weights_of(asked.weights, kind)
                for seed in range(asked.first, asked.first + asked.seeds):
                    case = Case(service, kind, method, noise, seed, asked.budget, weights=weights)
                    found += [case, replace(case, current=True)] if method == "ours" and asked.current else [case]
    return found


def _weights_of(weights: Path | None, kind: str) -> Path | None:
    """Of a folder those that were not trained on the source, or, for what is made up, on no table."""
    if weights is None or weights.is_file():
        return weights
    left_out = weights / f"weights-without-{kind}.safetensors"
    return left_out if left_out.is_file() else weights / "weights-all.safetensors"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, nargs="*", default=[], help="replay tables")
    parser.add_argument("--sources", type=Path, help="folder of measured sources, a folder of tables each")
    parser.add_argument("--every", type=int, default=1, help="every which of a source's tables (default: 1)")
    parser.add_argument("--skip", type=int, default=0, help="the first of a source's tables (default: 0)")
    parser.add_argument("--weights", type=Path, help="as of `python -m benchmarks.search`")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--services", type=int, default=5, help="made-up services per family (default: 5)")
    parser.add_argument("--methods", default="ours,before,Optuna TPE,Optuna GP")
    parser.add_argument("--noise", type=float, nargs="*", default=[0.05, 0.1, 0.2])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--budget", type=int, default=20)
    parser.add_argument("--same", type=int, default=40, help="runs of A/A per noise (default: 40)")
    parser.add_argument(
        "--current", action=argparse.BooleanOptionalAction, default=True, help="once more where today's is the best"
    )
    parser.add_argument("--csv", type=Path, help="a file for every run")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(asked.processes) as pool:
        outcomes = pool.map(run, cases(asked), chunksize=1)
        pool.close()
        pool.join()
    if asked.csv:
        _write(asked.csv, outcomes)
    _print(HEAD, table(outcomes))
    _print(KIND_HEAD, by_kind(outcomes))
    _print(CALIBRATION_HEAD, calibration(outcomes))
    for noise in asked.noise:
        found = [decision.action for seed in range(asked.same) if (decision := same(noise, seed)) is not None]
        print(f"A/A at {noise:.0%} noise: {found.count('deploy')} of {len(found)} called cheaper")


def _write(path: Path, outcomes: Sequence[Outcome]) -> None:
    names = [field.name for field in fields(Case)], [field.name for field in fields(Outcome) if field.name != "case"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*names[0], *names[1], "regret_search"])
        for one in outcomes:
            found = [getattr(part, name) for part, some in zip((one.case, one), names, strict=True) for name in some]
            writer.writerow([*found, one.regret_search])


def _print(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")
    print()


if __name__ == "__main__":
    main()
