"""The chain of examples/chain: where its time goes, by tune and by the stages' own clocks; and configurations of it
against equal shares and the single process, each measured by itself.

    examples/setup chain
    python -m benchmarks.chain                                 # some minutes: the clocks, and three configurations
    python -m benchmarks.chain --configurations 16 --load 90   # all of them, an hour
"""

from __future__ import annotations

import argparse
import copy
import http.client
import itertools
import json
import os
import queue
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml  # type: ignore[import-untyped]

EXAMPLE = Path(__file__).parent.parent / "examples" / "chain"
PYTHON = EXAMPLE / ".venv" / "bin" / "python"
STAGES = ("decode", "classify", "rank")
_READY_S = 60.0


def main() -> None:
    """Prints a line per measurement as it is made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=3, help="of the chain, equal shares first")
    parser.add_argument("--load", type=float, default=30.0, help="seconds of load for each")
    parser.add_argument("--rate", type=float, default=5.0, help="requests per second for the stages' own clocks")
    parser.add_argument("--seconds", type=float, default=20.0, help="of load for the stages' own clocks")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (EXAMPLE / "made").is_dir():
        sys.exit("there is no examples/chain/made: run examples/setup chain first")
    show_clocks(options.rate, options.seconds, options.seed)
    chain, single = (yaml.safe_load((EXAMPLE / name).read_text("utf-8")) for name in ("spec.yaml", "single.yaml"))
    equal, *others = grid(chain)
    random.Random(options.seed).shuffle(others)
    for chosen in [equal, *others[: options.configurations - 1]]:
        show(measured(fixed(chain, chosen), options.load, options.seed))
    single["space"]["parameters"] = {"workers": [1], "threads": [1]}
    show(measured(single, options.load, options.seed))


def grid(chain: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All configurations; the first has the least of everything, the same for each stage."""
    choices = {
        f"{one['service']['name']}.{name}": values
        for one in chain["services"]
        for name, values in one["space"]["parameters"].items()
    }
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def fixed(chain: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with that configuration alone."""
    found = copy.deepcopy(dict(chain))
    for one in found["services"]:
        name, parameters = one["service"]["name"], one["space"]["parameters"]
        one["space"]["parameters"] = {key: [chosen[f"{name}.{key}"]] for key in parameters}
    return found


def measured(spec: Mapping[str, Any], load_s: float, seed: int) -> dict[str, Any]:
    """The record of one trial."""
    objective = {"maximize": "capacity_qps", "final": 0}
    text = yaml.safe_dump({**spec, "objective": objective, "load": {"max_trial": f"{load_s:g}s", "max_warmup": "6s"}})
    with tempfile.TemporaryDirectory() as folder:
        for name in (".venv", "made", "serve.py", "stages.py"):  # what the spec names lies beside it
            Path(folder, name).symlink_to(EXAMPLE / name)
        path, out = Path(folder, "benchmark.yaml"), Path(folder, "out")
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "tuner.cli", "run", str(path), "--budget", "1", "--seed", str(seed)]
        done = subprocess.run([*command, "--output", str(out)], capture_output=True, text=True, check=False)
        record = out / "trials" / "0000" / "trial.json"
        if not record.is_file():
            sys.exit(done.stderr)
        found: dict[str, Any] = json.loads(record.read_text("utf-8"))
        return found


def show(record: Mapping[str, Any]) -> None:
    """One line: the configuration, its capacity, and for a chain where its time goes."""
    shown = " ".join(f"{name}={value}" for name, value in record["configuration"].items())
    capacity, chain = record["capacity_qps"], record["chain"]
    if capacity is None:
        print(f"{shown}: {record['state']}: {record['reason']}", flush=True)
        return
    text = f"{shown}: {capacity['value']:.3g} requests/s ({capacity['low']:.3g} to {capacity['high']:.3g})"
    if chain is not None and chain["whole_ms"] is not None:
        times = {one["name"]: (one["service_ms"] or 0) + (one["queue_ms"] or 0) for one in chain["stages"]}
        stages = " + ".join(f"{name} {ms:.1f}" for name, ms in times.items())
        ratio = sum(times.values()) / chain["whole_ms"]
        text += f"; {stages} = {ratio:.1%} of {chain['whole_ms']:.1f} ms; bottleneck {chain['bottleneck']}"
    print(text, flush=True)


def show_clocks(rate_qps: float, seconds: float, seed: int) -> None:
    """The mean time that a client sees, beside what each stage says by its own clock. A stage's own time is what it
    took less what the next one took, so the way between them is the caller's, as in the times that tune measures.
    """
    with ExitStack() as stack:
        urls: dict[str, str] = {}
        for name, following in zip(STAGES[::-1], (None, *STAGES[:0:-1]), strict=True):
            urls[name] = _launched(stack, name, None if following is None else urls[following])
        bodies = [one.read_bytes() for one in sorted((EXAMPLE / "made" / "images").iterdir())]
        _mean_ms(urls["decode"], bodies[:4], rate_qps, 2.0, seed)  # warm-up
        before = {name: _times(url) for name, url in urls.items()}
        whole_ms, count = _mean_ms(urls["decode"], bodies, rate_qps, seconds, seed + 1)
        spent = [_spent_ms(before[name], _times(urls[name])) for name in STAGES]
    own = [one - below for one, below in zip(spent, (*spent[1:], 0.0), strict=True)]
    stages = " + ".join(f"{name} {ms:.1f}" for name, ms in zip(STAGES, own, strict=True))
    print(
        f"by their own clocks, {count} requests at {rate_qps:g}/s: {stages} = {sum(own) / whole_ms:.1%} of the "
        f"{whole_ms:.1f} ms that a client saw",
        flush=True,
    )


def _launched(stack: ExitStack, name: str, following: str | None) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = [] if following is None else ["--next", following]
    command = [str(PYTHON), "serve.py", "--stage", name, "--port", str(port), *more]
    server = subprocess.Popen(command, cwd=EXAMPLE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    stack.callback(server.wait)
    stack.callback(server.terminate)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + _READY_S
    while True:
        try:
            _times(url)
        except urllib.error.URLError:
            if time.monotonic() > end or server.poll() is not None:
                raise
            time.sleep(0.1)
        else:
            return url


def _times(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/times", timeout=10) as answer:
        found: dict[str, float] = json.load(answer)
        return found


def _spent_ms(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """A stage's mean time to answer, with those that it asks."""
    return 1e3 * (after["total_s"] - before["total_s"]) / max(1, after["requests"] - before["requests"])


def _mean_ms(url: str, bodies: list[bytes], rate_qps: float, seconds: float, seed: int) -> tuple[float, int]:
    """The mean time of Poisson requests, a thread for each, and how many there were."""
    generator, found, threads = random.Random(seed), list[float](), list[threading.Thread]()

    idle: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
    where = urlsplit(url)

    def ask(body: bytes) -> None:
        try:
            connection = idle.get_nowait()
        except queue.Empty:
            connection = http.client.HTTPConnection(where.hostname or "", where.port)
            connection.connect()
        begun = time.perf_counter()
        connection.request("POST", "/", body)
        connection.getresponse().read()
        found.append(1e3 * (time.perf_counter() - begun))
        idle.put(connection)

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        threads.append(threading.Thread(target=ask, args=(generator.choice(bodies),)))
        threads[-1].start()
        time.sleep(generator.expovariate(rate_qps))
    for thread in threads:
        thread.join()
    return statistics.mean(found), len(found)


if __name__ == "__main__":
    main()
