"""How much of the prompts an engine's cache of prefixes answers, and what that does to the capacity that is measured.

    examples/setup vllm
    python -m benchmarks.prefix_cache [--seconds 25]

One configuration of the vLLM example, three kinds of requests: fresh prompts of 320 tokens that share nothing, those
that share 90%, and 32 prompts over and over, which is what a server is loaded with where the spec says nothing of its
requests. Hit rates are the engine's own counters, of every probe. The goal is one within 3 points of what was
asked for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

EXAMPLE = Path(__file__).parent.parent / "examples" / "vllm"
FIXED = {
    "cpu_cores": 1, "batch_size": 8, "max_batched_tokens": 1024, "max_model_len": 512, "prefix_caching": True,
    "block_size": 32, "compile": False,
}  # fmt: skip
TOKENS, ANSWER = 320, 16
CASES: dict[str, float | None] = {"fresh, shared 0%": 0.0, "fresh, shared 90%": 0.9, "32 prompts, repeated": None}


def spec(shared: float | None, seconds: float) -> dict[str, Any]:
    """The example's with one configuration, and paths that hold from anywhere."""
    content: dict[str, Any] = YAML(typ="safe", pure=True).load((EXAMPLE / "spec.yaml").read_text(encoding="utf-8"))
    service = content["service"]
    service["venv"], service["model"]["path"] = str(EXAMPLE / ".venv"), str(EXAMPLE / "made")
    for name, parameter in content["space"]["parameters"].items():
        parameter["choices"] = [FIXED[name]]
    if shared is None:  # words of the adapter's list, two tokens each or so
        del content["request"]
        service["model"]["options"] = {"prompt_words": TOKENS // 2, "max_tokens": ANSWER}
        del service["env"]["VLLM_SERVER_DEV_MODE"]  # nor is the cache emptied, unless it is asked for
    else:
        content["request"] = {
            "llm": {"input_tokens": TOKENS, "output_tokens": ANSWER, "shared_prefix": f"{shared:.0%}"}
        }
    content["load"] = {"max_trial": f"{seconds:g}s", "max_warmup": "5s"}
    return content


def measured(shared: float | None, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first trial's record, and its load test."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spec.yaml").write_text(json.dumps(spec(shared, seconds)), encoding="utf-8")
        words = ["--service", "spec.yaml", "--budget", "1", "--output", "out"]
        done = subprocess.run(
            [sys.executable, "-m", "tuner.cli", *words], cwd=folder, capture_output=True, text=True, check=False
        )
        trial = folder / "out" / "trials" / "0000"
        if not (trial / "probes.json").exists():
            sys.exit(done.stderr or done.stdout)
        record, load = (
            json.loads((trial / name).read_text(encoding="utf-8")) for name in ("trial.json", "probes.json")
        )
        return record, load


def row(name: str, shared: float | None, record: dict[str, Any], load: dict[str, Any]) -> str:
    """Hit rates are those of all probes, since what the engine counts is right however busy the machine is."""
    rates = [one["prefix_cache_hit_rate"] for one in load["probes"] if one["prefix_cache_hit_rate"] is not None]
    prompts = [one["tokens"]["input_mean"] for one in load["probes"] if one["tokens"]]
    cached = ", ".join(f"{rate:.1%}" for rate in rates)
    capacity, tokens = record["capacity_qps"], record["language"]
    held = record["reason"]
    if capacity and tokens:
        held = f"{capacity['value']:.3g} ({capacity['low']:.3g} to {capacity['high']:.3g}) req/s"
        held += f" | {tokens['ttft']['p99_ms']:.3g} ms" if tokens["ttft"] else " | not known"
    asked = "nothing" if shared is None else f"{shared:.0%}"
    return f"| {name} | {max(prompts, default=0):.1f} | {asked} | {cached} | {held} |"


def main() -> None:
    """Prints a row per kind of requests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=25.0, help="of load, for each")
    seconds = parser.parse_args().seconds
    print("| requests | tokens of a prompt | asked | cached, by probe | capacity | first token p99 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, shared in CASES.items():
        record, load = measured(shared, seconds)
        print(row(name, shared, record, load), flush=True)
        notes = [note for note in record["notes"] or () if "cache of prefixes" in note]
        print("".join(f"  {note}\n" for note in notes), end="", flush=True)


if __name__ == "__main__":
    main()
