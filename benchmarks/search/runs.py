"""How many trials until the search is near the best? `python -m benchmarks.search` on made-up and measured services.

Every search sees the same services, a seed each. A trial counts whatever came of it, and goes through the product's own
sampler, objective and pruning rule. The seconds of load are those of a trial that is measured (60), pruned (8) or
refused in the warm-up (6), as trials of the example take; searches that cannot learn from a bound are never pruned.

`--write` puts the table, a CSV with every run and a plot into `docs/`.
"""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from benchmarks.search.families import FAMILIES, Surface, draw
from benchmarks.search.searchers import LEARNS_BOUNDS, OURS, SEARCHERS, OurSearch, Searcher, Serving, trial
from benchmarks.search.tables import Roles, read_table, sources

DOCS = Path(__file__).parent.parent.parent / "docs"
_NEVER = math.inf  # trials: so that a median of which one half is unknown is none
_SECONDS = {"complete": 60.0, "pruned": 8.0, "infeasible": 6.0, "failed": 6.0}
_AFTER = (5, 8, 10, 20, 40)
_COVERED_AFTER = 10  # trials
_UNLIKELY = 0.1
_NEAR = 1.10


@dataclass(frozen=True)
class Run:
    """One search of one service: trials until within 5% and 10%, the best's cost over the optimum after 5, 8, 10, 20
    and 40 trials, seconds of load until within 5%, seconds a question, the share of measured capacities that lay in the
    90% interval predicted for them, and that of all capacities of the space after 10 trials (nan where nothing is
    predicted). Of the configurations that were not tried by then `likely` counts those predicted to serve with a
    probability up to 10%, up to 20%, and so on, and `served` those of them that do; `optimum_serves` is the probability
    said of the optimum (nan where it was tried).
    """

    family: str
    service: str
    searcher: str
    seed: int
    within_5: float
    within_10: float
    after_5: float
    after_8: float
    after_10: float
    after_20: float
    after_40: float
    load_s: float
    ask_s: float
    calibrated: float
    covered: float
    trust: float
    likely: tuple[int, ...] = ()
    served: tuple[int, ...] = ()
    optimum_serves: float = math.nan


@dataclass(frozen=True)
class Job:
    """What to search with what. `which` is a seed, or a table's path. `parallel` trials are under way at any time."""

    family: str
    which: int | Path
    large: bool
    searcher: str
    seed: int
    max_trials: int
    parallel: int = 1
    weights: Path | None = None
    roles: Roles = "given"
    min_trials: int = _AFTER[-1]


def _surface(job: Job) -> Surface:
    if isinstance(job.which, Path):
        return read_table(job.which, job.roles)
    return draw(job.family, job.which, large=job.large)


def _searcher(job: Job, surface: Surface) -> Searcher:
    if job.searcher in OURS:
        return OURS[job.searcher](surface, job.seed, job.weights)
    return SEARCHERS[job.searcher](surface, job.seed)


def search(job: Job) -> Run:
    """Until within 5% and `min_trials` trials, or `max_trials`."""
    surface = _surface(job)
    with np.errstate(divide="ignore", invalid="ignore"):
        costs = surface.price / surface.capacity_qps / 3600 * 1e6
    costs = np.where(surface.capacity_qps > 0, costs, np.inf)
    optimum, best_true, best_seen = float(costs.min()), np.inf, None
    g, found = np.random.default_rng([job.seed, 7]), _searcher(job, surface)
    within: dict[float, float] = {}
    after: list[float] = []
    load_s, ask_s, count, covered = 0.0, 0.0, 0, np.nan
    serving = Serving((), (), np.nan)
    while count < min(job.max_trials, len(surface.configurations)) and not (1.05 in within and count >= job.min_trials):
        begun = time.perf_counter()
        asked = [found.ask()]
        while len(asked) < job.parallel and count + len(asked) < len(surface.configurations):
            asked.append(found.ask())
        ask_s += time.perf_counter() - begun
        records = [
            trial(surface, number, count + place, best_seen, g, prune=job.searcher in LEARNS_BOUNDS)
            for place, number in enumerate(asked)
        ]
        for record, number in zip(records, asked, strict=True):
            count += 1
            found.tell(record, number)
            load_s += _SECONDS[record.state] * (1.05 not in within)
            cost = record.cost_per_million_requests
            if cost is not None:
                best_seen = cost if best_seen is None else min(best_seen, cost)
                best_true = min(best_true, float(costs[number]))
            for share in (1.05, 1.10):
                if best_true <= share * optimum:
                    within.setdefault(share, count)
            if count in _AFTER:
                after.append(best_true / optimum)
        if count >= _COVERED_AFTER and np.isnan(covered) and isinstance(found, OurSearch):
            covered = found.coverage(surface.capacity_qps)
            serving = found.serving(surface.capacity_qps, int(costs.argmin()))
    after += [best_true / optimum] * (len(_AFTER) - len(after))
    after_5, after_8, after_10, after_20, after_40 = after
    calibrated, trust = found.calibration() if isinstance(found, OurSearch) else (np.nan, np.nan)
    return Run(
        job.family
        + (f", roles {job.roles}" if job.roles != "given" else "")
        + (", large" if job.large else "")
        + (f", {job.parallel} at once" if job.parallel > 1 else ""),
        surface.name,
        job.searcher,
        job.seed,
        within.get(1.05, _NEVER),
        within.get(1.10, _NEVER),
        after_5,
        after_8,
        after_10,
        after_20,
        after_40,
        load_s,
        ask_s / count,
        calibrated,
        covered,
        trust,
        serving.likely,
        serving.served,
        serving.optimum,
    )


HEAD = [
    "services", "search", "runs", "trials to 5%, median", "90th percentile", "within 10", "within 20", "10% after 8",
    "to 10%, median", "over the best after 5, 8, 10, 20, 40", "load s to 5%", "ask ms",
    "in 90% interval: trials, space",
]  # fmt: skip
GROUP_HEAD = [
    "services", "runs", "trials to 5%, median", "90th percentile", "within 10", "within 20", "load s of random's",
    "trials of Optuna GP's", "in 90% interval: trials, space",
]  # fmt: skip
GROUPS = {
    "as in the training": ("roofline",), "other assumptions": ("usl", "plateau", "interference", "llm"),
    "measured": ("measured",), "no server at all": ("adversarial",),
}  # fmt: skip


def summarise(runs: Sequence[Run]) -> list[list[str]]:
    """A row per family and search, in the order of the runs."""
    rows = []
    for family, searcher in dict.fromkeys((run.family, run.searcher) for run in runs):
        chosen = [run for run in runs if (run.family, run.searcher) == (family, searcher)]
        within = [run.within_5 for run in chosen]
        over = [statistics.median(getattr(run, f"after_{count}") for run in chosen) for count in _AFTER]
        rows.append(
            [
                family,
                searcher,
                str(len(chosen)),
                *_usual_and_late(within),
                f"{np.mean([one <= 10 for one in within]):.0%}",
                f"{np.mean([one <= 20 for one in within]):.0%}",
                f"{np.mean([run.after_8 <= _NEAR for run in chosen]):.0%}",
                _trials(statistics.median(run.within_10 for run in chosen)),
                ", ".join("none" if np.isinf(one) else f"{one - 1:.0%}" for one in over),
                f"{statistics.median(run.load_s for run in chosen):.0f}",
                f"{statistics.median(run.ask_s for run in chosen) * 1e3:.0f}",
                _calibration(chosen),
            ]
        )
    return rows


def in_groups(runs: Sequence[Run]) -> list[list[str]]:
    """A row per group of families, of our search alone and beside random search and Optuna's Gaussian process."""
    rows = []
    for group, families in GROUPS.items():
        chosen = {
            searcher: [run for run in runs if run.searcher == searcher and run.family.split(",")[0] in families]
            for searcher in ("ours", "random", "Optuna GP")
        }
        ours = chosen["ours"]
        if not ours:
            continue
        within = [run.within_5 for run in ours]
        rows.append(
            [
                group,
                str(len(ours)),
                *_usual_and_late(within),
                f"{np.mean([one <= 10 for one in within]):.0%}",
                f"{np.mean([one <= 20 for one in within]):.0%}",
                _share([run.load_s for run in ours], [run.load_s for run in chosen["random"]]),
                _share(within, [run.within_5 for run in chosen["Optuna GP"]]),
                _calibration(ours),
            ]
        )
    return rows


SERVES_HEAD = ["said to serve", "configurations", "do serve"]


def serving(runs: Sequence[Run]) -> list[list[str]]:
    """By tenths of the probability, over all our runs, and how often the optimum was said to serve below a tenth."""
    rated = [run for run in runs if run.likely]
    if not rated:
        return []
    likely, served = (np.sum([getattr(run, name) for run in rated], axis=0) for name in ("likely", "served"))
    rows = [
        [f"{tenth * 10} to {tenth * 10 + 10}%", str(count), f"{serves / count:.0%}" if count else "-"]
        for tenth, (count, serves) in enumerate(zip(likely, served, strict=True))
    ]
    optima = np.array([run.optimum_serves for run in rated if not np.isnan(run.optimum_serves)])
    below = f"{(optima < _UNLIKELY).sum() / len(rated):.1%}"
    return [*rows, ["optima said to serve below 10%, of all searches", str(len(rated)), below]]


def _usual_and_late(within: Sequence[float]) -> tuple[str, str]:
    """The median and the 90th percentile."""
    return _trials(statistics.median(within)), _trials(sorted(within)[min(len(within) - 1, int(0.9 * len(within)))])


def _share(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Of medians."""
    if not theirs or statistics.median(ours) == _NEVER:
        return ""
    other = statistics.median(theirs)
    return "they: never" if other == _NEVER else f"{statistics.median(ours) / other:.2f}"


def _calibration(runs: Sequence[Run]) -> str:
    found = [
        [share for share in shares if not np.isnan(share)]
        for shares in ([run.calibrated for run in runs], [run.covered for run in runs])
    ]
    return ", ".join(f"{np.mean(shares):.0%}" if shares else "-" for shares in found) if any(found) else ""


def _trials(count: float) -> str:
    return "never" if count == _NEVER else f"{count:g}"


def jobs(asked: argparse.Namespace) -> list[Job]:
    """The services of every family, and every table several times; those of a source with weights that never saw it."""
    found: list[Job] = []
    chosen = range(asked.first, asked.first + asked.seeds)
    some = list(chosen)[: max(1, asked.seeds // 4)]
    weights = asked.weights if asked.weights is None or asked.weights.is_file() else None
    for searcher in asked.searches.split(","):
        for family in asked.families.split(",") if asked.families else ():
            if family == "measured":
                of_tables = [(path, seed) for path in asked.tables for seed in some]
                found += [
                    Job(family, path, False, searcher, seed, asked.max_trials, asked.parallel, weights)
                    for path, seed in of_tables
                ]
            else:
                found += [
                    Job(family, seed, asked.large, searcher, seed, asked.max_trials, asked.parallel, weights)
                    for seed in chosen
                ]
        for source, paths in sources(asked.sources).items() if asked.sources else ():
            weights_of = _left_out(asked.weights, source)
            wanted: list[Roles] = asked.roles.split(",") if searcher in OURS else ["given"]
            for roles in wanted:
                how = (asked.max_trials, asked.parallel, weights_of, roles, asked.min_trials)
                found += [
                    Job(source, path, False, searcher, seed, *how) for path in paths[:: asked.every] for seed in some
                ]
    return found


def _left_out(weights: Path | None, source: str) -> Path | None:
    """Of a folder of weights those that were not trained on the source."""
    return weights / f"weights-without-{source}.safetensors" if weights is not None and weights.is_dir() else weights


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join([*FAMILIES, "measured"]))
    parser.add_argument("--searches", default=",".join(SEARCHERS))
    parser.add_argument(
        "--seeds", type=int, default=20, help="services per family; a quarter of it per table (default: 20)"
    )
    parser.add_argument("--first", type=int, default=1000, help="the first seed")
    parser.add_argument(
        "--most", dest="max_trials", type=int, default=100, help="trials a search may take (default: 100)"
    )
    parser.add_argument(
        "--least",
        dest="min_trials",
        type=int,
        default=_AFTER[-1],
        help="trials that a search of --sources takes at least",
    )
    parser.add_argument("--large", action="store_true", help="spaces of about 5,000 configurations instead of 720")
    parser.add_argument("--parallel", type=int, default=1, help="trials at once")
    parser.add_argument("--tables", type=Path, nargs="*", default=[], help="replay tables, for the family `measured`")
    parser.add_argument("--sources", type=Path, help="folder of measured sources, a folder of tables each")
    parser.add_argument("--every", type=int, default=1, help="every which of a source's tables (default: 1)")
    parser.add_argument("--roles", default="given", help="given, missing, wrong; several with commas; of --sources")
    parser.add_argument(
        "--weights", type=Path, help="other weights; a folder: weights-without-SOURCE.safetensors for each of --sources"
    )
    parser.add_argument("--write", metavar="NAME", help="write docs/search-NAME.md, .csv and .svg")
    asked = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        runs = pool.map(search, jobs(asked), chunksize=1)
        pool.close()  # and not the end that `with` would make of it, which leaves files behind
        pool.join()
    tables = [
        [head, ["---"] * len(head), *rows]
        for head, rows in ((GROUP_HEAD, in_groups(runs)), (HEAD, summarise(runs)), (SERVES_HEAD, serving(runs)))
        if rows
    ]
    lines = [line for table in tables for line in [*(f"| {' | '.join(row)} |" for row in table), ""]]
    print("\n".join(lines))
    if asked.write:
        _write(asked.write, lines, runs)


def _write(name: str, lines: list[str], runs: Sequence[Run]) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=DOCS
    ).stdout.strip()  # fmt: skip
    options = shlex.join(sys.argv[1:])
    head = (
        f"# Searches, measured: {name}\n\n`python -m benchmarks.search {options}` wrote this page at commit "
        f"{commit}, with the network of that commit.\n"
        "[How the search works](search.md#how-well-it-does) says what is measured.\n"
    )
    (DOCS / f"search-{name}.md").write_text("\n".join([head, *lines]), encoding="utf-8")
    with (DOCS / f"search-{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Run)])
        writer.writerows([getattr(run, field.name) for field in fields(Run)] for run in runs)
    _plot(DOCS / f"search-{name}.svg", runs)


def _plot(path: Path, runs: Sequence[Run]) -> None:
    """Per family, how large a share of the searches is within 5% of the optimum after how many trials."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The same picture from the same runs, with its letters as text.
    mpl.rcParams.update({"svg.hashsalt": "tune", "svg.fonttype": "none"})
    families = list(dict.fromkeys(run.family for run in runs))
    figure = Figure(figsize=(4 * min(3, len(families)), 3 * -(-len(families) // 3)), layout="constrained")
    panels = figure.subplots(-(-len(families) // 3), min(3, len(families)), squeeze=False).ravel()
    trials = np.arange(1, 61)
    for panel, family in zip(panels, families, strict=False):
        for searcher in dict.fromkeys(run.searcher for run in runs):
            within = np.array([run.within_5 for run in runs if (run.family, run.searcher) == (family, searcher)])
            if len(within):
                shares = (within[:, None] <= trials).mean(axis=0)
                panel.step(trials, shares, where="post", label=searcher, linewidth=2.5 if searcher == "ours" else 1)
        panel.set(title=family, ylim=(0, 1.02), xlabel="trials", ylabel="within 5%")
    for panel in panels[len(families) :]:
        panel.set_axis_off()
    panels[0].legend(fontsize="x-small")
    figure.savefig(path, metadata={"Date": None})
