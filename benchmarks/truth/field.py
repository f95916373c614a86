"""What other tools say of the same servers in the same seconds of load: hey at fixed rates, GuideLLM's sweep and its
search for goodput.

None of them launches or searches as the load test does, so each is used as its own documents advise: hey by halving
between a rate that held and one that did not, GuideLLM's sweep by its highest rate that held, its goodput by what it
concludes. hey comes from Debian; GuideLLM from PyPI, in an environment of its own that GUIDELLM names.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.truth import models
from benchmarks.truth.real import Job, search, served

KINDS = ("constant", "exponential", "batches")
_SPEEDS = ((25.0, 30.0), (75.0, 20.0))  # capacities, about, and seconds of load
_WORKERS, _STEPS = 8, 6  # of hey, which all send at once in each round; rates that it tries
_DRAIN_S = 3.0  # what the run before left in the server's queue
_SWEEP, _GOODPUT = 7, 8  # strategies of GuideLLM's sweep, two of which are not rates; probes of its search
_PROMPTS = 20_000
Found = float | None  # requests a second; None where no rate held

_TOKENIZER: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"},
}  # fmt: skip


def ours(job: Job) -> Found:
    """The load test."""
    found = search(job)
    return (1 + found.error) * job.about_qps if math.isfinite(found.error) else None


def hey(job: Job) -> Found:
    """First all that its workers can send, then halving: the highest rate whose percentile was within the limit."""
    low, best = 0.0, None
    with served(job.kind, job.speed_qps, job.seed) as url:
        high, _ = _hey(url, None, job)
        for _ in range(_STEPS - 1):
            rate = (low + high) / 2
            sent, seen_s = _hey(url, rate, job)
            if seen_s <= job.limit_s:
                low, best = rate, sent
            else:
                high = rate
    return best


def _hey(url: str, rate: float | None, job: Job) -> tuple[float, float]:
    """The rate that was reached, and the percentile."""
    seconds = job.seconds / _STEPS
    pace = [] if rate is None else ["-q", str(rate / _WORKERS)]
    command = ["hey", "-z", f"{seconds:g}s", "-c", str(_WORKERS), *pace, "-o", "csv", url]
    time.sleep(_DRAIN_S)
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seen = [float(row["response-time"]) for row in csv.DictReader(io.StringIO(printed))]
    return len(seen) / seconds, float(np.quantile(seen, job.percentile / 100)) if seen else math.inf


def sweep(job: Job) -> Found:
    """The highest of GuideLLM's rates, at random times as a load balancer's, whose percentile was within the limit."""
    report = _guidellm(job, f"kind=sweep,sweep_size={_SWEEP},strategy_type=poisson", job.seconds / _SWEEP)
    held = [
        one["metrics"]["requests_per_second"]["successful"]["mean"]
        for one in report["benchmarks"]
        if one["config"]["strategy"]["type_"] == "poisson"
        and one["metrics"]["request_latency"]["successful"]["percentiles"]["p99"] <= job.limit_s
    ]
    return max(held, default=None)


def goodput(job: Job) -> Found:
    """The rate at the most streams that GuideLLM found to hold the limit."""
    profile = f"kind=goodput,target_attainment={1 - job.allowed},initial_streams=1,max_probes={_GOODPUT}"
    report = _guidellm(job, profile, job.seconds / _GOODPUT)
    held = [
        one["metrics"]["requests_per_second"]["successful"]["mean"]
        for one in report["benchmarks"]
        if one["metrics"]["slo_attainment"] is not None and one["metrics"]["slo_attainment"] >= 1 - job.allowed
    ]
    return max(held, default=None)


def _guidellm(job: Job, profile: str, seconds: float) -> dict[str, Any]:
    objective = {"kind": "generative", "slo": {"e2el_ms": 1e3 * job.limit_s}}
    with served(job.kind, job.speed_qps, job.seed) as url, tempfile.TemporaryDirectory() as folder:
        Path(folder, "tokenizer.json").write_text(json.dumps(_TOKENIZER))
        Path(folder, "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        Path(folder, "config.json").write_text('{"model_type": "gpt2"}')
        prompts, report = Path(folder, "prompts.jsonl"), Path(folder, "report.json")
        prompts.write_text('{"prompt": "a a a a"}\n' * _PROMPTS)
        subprocess.run(
            [os.environ.get("GUIDELLM", "guidellm"), "run", "--disable-console", "--profile", profile,
             "--backend", f"kind=openai_http,target={url},model=m,request_format=/v1/completions,stream=false",
             "--tokenizer", f"kind=huggingface_auto,model={folder}", "--data", f"kind=json_file,path={prompts}",
             "--constraint", f"kind=max_duration,seconds={seconds:.2f}", "--metrics", json.dumps(objective),
             "--output", f"kind=json,path={report}"],
            check=True, capture_output=True, timeout=600, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        found: dict[str, Any] = json.loads(report.read_text())
        return found


TOOLS: dict[str, Callable[[Job], Found]] = {
    "tune": ours, "hey, fixed rates": hey, "GuideLLM, sweep": sweep, "GuideLLM, goodput": goodput,
}  # fmt: skip


def other_tools(runs: int) -> list[list[str]]:
    """What each tool would have a person write down as the capacity under a p99 limit, in the same seconds of load on
    the same servers, one tool after the other; off is the median over runs, with its extremes where there are several.
    The others were made for other ends: hey's workers and GuideLLM's streams wait for their answers, so that no queue
    is longer than they are many (too high a rate seems to hold), and a sweep begins at the rate of one request after
    the other, which is about all that most of these servers can do (no rate holds: -100%).
    """
    table = [["server", "truth", "seconds", *TOOLS]]
    errors: dict[str, list[float]] = {name: [] for name in TOOLS}
    for about_qps, seconds in _SPEEDS:
        for kind in KINDS:
            found: dict[str, list[float]] = {name: [] for name in TOOLS}
            for seed in range(max(1, runs // 20)):
                job = Job(kind, about_qps, seconds, 99.0, models.LIMITS[kind], seed)
                for name, tool in TOOLS.items():
                    value = tool(job)
                    found[name].append(-1.0 if value is None else value / about_qps - 1)
            table.append([kind, f"{about_qps:g}/s", f"{seconds:g}", *(_off(found[name]) for name in TOOLS)])
            print(" | ".join(table[-1]), file=sys.stderr, flush=True)  # what ends before the last row is not lost
            for name in TOOLS:
                errors[name] += [abs(error) for error in found[name]]
    return [*table, ["all, off either way", "", "", *(_off(errors[name], signed=False) for name in TOOLS)]]


def _off(errors: list[float], *, signed: bool = True) -> str:
    """The median, with the least and the most where there are several."""
    sign = "+" if signed else ""
    spread = f" ({min(errors):{sign}.0%} to {max(errors):{sign}.0%})" if len(errors) > 1 else ""
    return f"{statistics.median(errors):{sign}.0%}{spread}"
