"""The chain of examples/chain: what tune decides about it, whether its times add up, and whether the decision beats
equal shares and the single process when each is measured by itself.

    examples/setup chain
    python -m benchmarks.chain                             # some minutes
    python -m benchmarks.chain --budget 24 --load 60 --rounds 12 --seconds 10 --configurations 24   # two hours

The truth is measured without tune: all servers stand at once, and a few users ask one of them at a time, in turns and
in a new order each round, so that whatever else the machine does meets all alike.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from benchmarks.chain_servers import EXAMPLE, Spent, Standing, images, in_turns, launched, mean_ms, times

STAGES = ("decode", "classify", "rank")


def main() -> None:
    """Prints a line per measurement as it is made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=4, help="trials of tune on the chain")
    parser.add_argument("--load", type=float, default=20.0, help="seconds of load for each trial")
    parser.add_argument("--configurations", type=int, default=0, help="more of the chain to measure, at random")
    parser.add_argument("--rounds", type=int, default=6, help="in which each server is asked in turn")
    parser.add_argument("--seconds", type=float, default=2.5, help="for which a server is asked in a round")
    parser.add_argument("--users", type=int, default=8, help="who ask a server at once")
    parser.add_argument("--rate", type=float, default=5.0, help="requests per second for the stages' own clocks")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (EXAMPLE / "made").is_dir():
        sys.exit("there is no examples/chain/made: run examples/setup chain first")
    show_clocks(options.rate, 15.0, options.seed)
    spec = yaml.safe_load((EXAMPLE / "spec.yaml").read_text("utf-8"))
    equal, *others = grid(spec)
    decided = decision(spec, options.budget, options.load, options.seed)
    random.Random(options.seed).shuffle(others)
    chains = {"equal shares": equal, "what tune decided": decided}
    chains |= {name_of(one): one for one in others[: options.configurations]}
    with ExitStack() as stack:
        servers = {name: chain(stack, chosen) for name, chosen in chains.items()}
        for workers, batch in ((1, 1), (2, 1), (3, 1), (2, 4), (2, 16)):
            servers[f"one process, {workers} workers, batch {batch}"] = launched(
                stack, "all", None, workers=workers, batch=batch
            )
        found = in_turns(servers, options.rounds, options.seconds, options.users, options.seed)
    for name, rounds in found.items():
        print(f"{name}: {row(rounds)}", flush=True)


def grid(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All configurations; the first has the least of everything, the same for each stage."""
    choices = {
        f"{one['service']['name']}_{name}": values
        for one in spec["services"]
        for name, values in one["space"]["parameters"].items()
    }
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def name_of(chosen: Mapping[str, Any]) -> str:
    """As a line names it."""
    return " ".join(f"{name}={value}" for name, value in sorted(chosen.items()))


def decision(spec: Mapping[str, Any], budget: int, load_s: float, seed: int) -> dict[str, Any]:
    """What tune recommends. Prints each trial, and how nearly its stages' times make up the whole."""
    text = yaml.safe_dump({**spec, "load": {"max_trial": f"{load_s:g}s", "max_warmup": "4s"}})
    with tempfile.TemporaryDirectory() as folder:
        for name in (".venv", "made", "serve.py", "stages.py"):  # what the spec names lies beside it
            Path(folder, name).symlink_to(EXAMPLE / name)
        path, out = Path(folder, "benchmark.yaml"), Path(folder, "out")
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "tuner.cli", "run", str(path), "--budget", str(budget), "--seed", str(seed)]
        done = subprocess.run([*command, "--output", str(out)], capture_output=True, text=True, check=False)
        records = [json.loads(one.read_text("utf-8")) for one in sorted(out.glob("trials/*/trial.json"))]
        for record in records:
            show(record)
        if not (out / "recommendation.json").is_file():
            sys.exit(done.stderr)
        best: dict[str, Any] = json.loads((out / "recommendation.json").read_text("utf-8"))["configuration"]
        print(f"tune decided {name_of(best)}", flush=True)
        return best


def show(record: Mapping[str, Any]) -> None:
    """One line: the configuration, its capacity, and where its time goes."""
    shown, capacity, record_chain = name_of(record["configuration"]), record["capacity_qps"], record["chain"]
    if capacity is None:
        print(f"  {shown}: {record['state']}: {record['reason']}", flush=True)
        return
    text = f"  {shown}: {capacity['value']:.3g} requests/s ({capacity['low']:.3g} to {capacity['high']:.3g})"
    if record_chain is not None and record_chain["whole_ms"] is not None:
        spent = {one["name"]: (one["service_ms"] or 0) + (one["queue_ms"] or 0) for one in record_chain["stages"]}
        stages = " + ".join(f"{name} {ms:.1f}" for name, ms in spent.items())
        ratio = sum(spent.values()) / record_chain["whole_ms"]
        text += f"; {stages} = {ratio:.1%} of {record_chain['whole_ms']:.1f} ms"
    print(text, flush=True)


def chain(stack: ExitStack, chosen: Mapping[str, Any]) -> Standing:
    """The three stages with that configuration, as one server."""
    following: str | None = None
    processes: list[int] = []
    for name in STAGES[::-1]:
        flags = {key: chosen[f"{name}_{key}"] for key in ("workers", "batch") if f"{name}_{key}" in chosen}
        stage = launched(stack, name, following, threads=chosen.get(f"{name}_threads", 1), **flags)
        following, processes = stage.url, [*processes, *stage.processes]
    assert following is not None
    return Standing(following, tuple(processes))


def row(rounds: list[Spent]) -> str:
    """Medians over the rounds, with the least and the most requests per second."""
    rates = [one.qps for one in rounds]
    return (
        f"{statistics.median(rates):.1f} requests/s ({min(rates):.0f} to {max(rates):.0f}), p99 "
        f"{statistics.median(one.p99_ms for one in rounds):.0f} ms, CPU "
        f"{statistics.median(one.cpu_ms for one in rounds):.1f} ms a request"
    )


def show_clocks(rate_qps: float, seconds: float, seed: int) -> None:
    """The mean time that a client sees, beside what each stage says by its own clock. A stage's own time is what it
    took less what the next one took, so the way between them is the caller's, as in the times that tune measures. The
    way from the client to the entry is in no stage: it is a row of its own.
    """
    with ExitStack() as stack:
        urls: dict[str, str] = {}
        for name, following in zip(STAGES[::-1], (None, *STAGES[:0:-1]), strict=True):
            urls[name] = launched(stack, name, None if following is None else urls[following]).url
        mean_ms(urls["decode"], images()[:4], rate_qps, 2.0, seed)  # warm-up
        before = {name: times(url) for name, url in urls.items()}
        whole_ms, count = mean_ms(urls["decode"], images(), rate_qps, seconds, seed + 1)
        spent = [_spent_ms(before[name], times(urls[name])) for name in STAGES]
    own = [one - below for one, below in zip(spent, (*spent[1:], 0.0), strict=True)]
    stages = " + ".join(f"{name} {ms:.1f}" for name, ms in zip(STAGES, own, strict=True))
    print(
        f"by their own clocks, {count} requests at {rate_qps:g}/s: {stages} = {sum(own) / whole_ms:.1%} of the "
        f"{whole_ms:.1f} ms that a client saw; {whole_ms - sum(own):.1f} ms between the client and the entry",
        flush=True,
    )


def _spent_ms(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """A stage's mean time to answer, with those that it asks."""
    return 1e3 * (after["total_s"] - before["total_s"]) / max(1, after["requests"] - before["requests"])


if __name__ == "__main__":
    main()
