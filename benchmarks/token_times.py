"""How true are times of tokens? `python -m benchmarks.token_times`: a server of known gaps, read by 1 to 200 streams.

Each row is a run of `--seconds` against `tests/servers/streaming.py`, which runs on a core of its own where there are
two. The error is that of the median from the gap that the server was told; at the 99th percentile it is the server's
lateness and the generator's together. The goal: within 2% or 0.2 ms at the median, under 3 ms at the 99th percentile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from loadtest import LatencyLimit, LoadGenerator, LoadPlan, Probe, RequestPlan, Slo

_SERVER = Path(__file__).parents[1] / "tests" / "servers" / "streaming.py"
_TTFT_MS, _TOKENS = 50.0, 21


def measured(url: str, streams: int, gap_ms: float, seconds: float, cores: tuple[int, ...]) -> Probe:
    """Streams arrive at random, so many open at once on average: the users of a closed loop would drift into step."""
    lasts_s = (_TTFT_MS + gap_ms * (_TOKENS - 1)) / 1e3
    body = json.dumps({"prompt": "a b c", "max_tokens": _TOKENS})
    plan = LoadPlan(
        url=url, request=RequestPlan(path="/v1/completions", body=body, stream="openai"),
        slo=Slo(latency=(LatencyLimit(metric="ttft", percentile=99, limit_ms=60_000),)), rates_qps=(streams / lasts_s,),
        rate_s=seconds, max_s=4 * seconds + 30, max_warmup_s=max(2.0, 5 * lasts_s), request_timeout_s=60, cores=cores,
        shares_cores=not cores,
    )  # fmt: skip
    with LoadGenerator() as generator:
        return generator.measure(plan, lambda _: None).probes[0]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 50, 200])
    asked = parser.parse_args()
    usable = sorted(os.sched_getaffinity(0))
    theirs, ours = (usable[:1], tuple(usable[1:])) if len(usable) > 1 else (usable, ())
    print("streams  gap ms  tokens/s  tpot p50 ms  itl p50 ms  itl p99 ms  ttft p50 ms  waited for a core")
    for streams in asked.streams:
        gap_ms = 200.0 if streams > 50 else 50.0  # at most 1,000 tokens/s
        command = [sys.executable, str(_SERVER), "--gap-ms", str(gap_ms), "--ttft-ms", str(_TTFT_MS)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(server.pid, theirs)
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            probe = measured(url, streams, gap_ms, max(asked.seconds, 3 * gap_ms * _TOKENS / 1e3), ours)
        finally:
            server.kill()
            server.communicate()
        times = probe.streaming
        shown = (
            [f"{times['tpot'].p50_ms:11.2f}", f"{times['itl'].p50_ms:10.2f}", f"{times['itl'].p99_ms:10.2f}",
             f"{times['ttft'].p50_ms:11.2f}"] if times else [f"{'-':>11}", f"{'-':>10}", f"{'-':>10}", f"{'-':>11}"]
        )  # fmt: skip
        waited = f"{probe.generator_starved:.1%}"
        print(f"{streams:7}  {gap_ms:6g}  {probe.tokens_per_s or 0:8.0f}  {'  '.join(shown)}  {waited:>17}", flush=True)


if __name__ == "__main__":
    main()
