"""Times of tokens against a server whose gaps are known."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from loadtest import (
    LatencyLimit,
    Lengths,
    LlmPlan,
    LoadGenerator,
    LoadPlan,
    Measurement,
    PrefixCache,
    Progress,
    RequestPlan,
    Slo,
)
from loadtest.generator.load import Load
from loadtest.generator.probe.criteria import Criteria
from loadtest.plan import LimitedTime
from loadtest.request.reply import GOOD
from loadtest.request.request_log import RequestLog
from runners.servers import Model, ServerAddress, adapter_named
from tuner.launch.prepare import server_figures

SERVER = Path(__file__).parents[2] / "servers" / "streaming.py"
pytestmark = pytest.mark.usefixtures("needs_machine")


@contextmanager
def streaming(*options: str) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, str(SERVER), *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def measured(
    url: str, *limits: LatencyLimit, tokens: int = 21, on_progress: Callable[[Progress], None] = lambda _: None,
    **options: Any,
) -> Measurement:  # fmt: skip
    body = json.dumps({"prompt": "one two three", "max_tokens": tokens})
    plan = LoadPlan(
        url=url, request=RequestPlan(path="/v1/completions", body=body, stream="openai"), slo=Slo(latency=limits),
        shares_cores=True, **({"max_s": 12, "max_warmup_s": 2} | options),
    )  # fmt: skip
    with LoadGenerator() as generator:
        return generator.measure(plan, on_progress)


def test_the_mean_and_every_gap_are_told_apart() -> None:
    """20 gaps: 19 of 20 ms and one of 220 ms. Their mean is 30 ms, their median 20, and one in twenty is 220."""
    with streaming("--gap-ms", "20", "--stall-ms", "220", "--ttft-ms", "50") as url:
        limit = LatencyLimit(metric="tpot", percentile=50, limit_ms=1000)
        (probe,) = measured(url, limit, rates_qps=(10,), rate_s=3).probes
    if probe.streaming:  # a machine so busy that the generator waited tells none
        assert probe.streaming["tpot"].p50_ms == pytest.approx(30, rel=0.1)
        assert probe.streaming["itl"].p50_ms == pytest.approx(20, rel=0.1)
        itl = probe.streaming["itl"]
        assert itl.p99_ms == pytest.approx(220, rel=0.1)
        assert itl.p50_ms <= (itl.p90_ms or 0) <= itl.p95_ms <= itl.p99_ms <= (itl.p999_ms or 0)
    assert probe.tokens is not None
    assert (probe.tokens.output_mean, probe.tokens.input_mean) == (21, 3)


def test_progress_has_the_time_of_tokens_that_the_slo_limits() -> None:
    seen: list[LimitedTime] = []

    def note(progress: Progress) -> None:
        if progress.limited is not None and progress.limited.ms is not None:
            seen.append(progress.limited)

    with streaming("--gap-ms", "10", "--ttft-ms", "50") as url:
        limit = LatencyLimit(metric="ttft", percentile=95, limit_ms=1000)
        measured(url, limit, on_progress=note, rates_qps=(20,), rate_s=4)
    assert {(one.metric, one.percentile) for one in seen} == {("ttft", 95)}
    assert all(50 <= (one.ms or 0) < 200 for one in seen), "an answer takes 250 ms"


def test_a_goodput_that_one_of_its_limits_breaks_is_missed_and_named() -> None:
    """Every first token takes 60 ms: within the one limit, beyond the other."""
    with streaming("--gap-ms", "5", "--ttft-ms", "60") as url:
        for ttft_ms, good in ((2000, 1.0), (30, 0.0)):
            limit = LatencyLimit(
                metric="goodput", percentile=90, limit_ms=2000, good_ms={"ttft": ttft_ms, "tpot": 1000}
            )
            (probe,) = measured(url, limit, rates_qps=(20,), rate_s=3).probes
            if probe.verdict != "invalid":
                assert probe.tokens is not None
                assert probe.tokens.good == pytest.approx(good, abs=0.05)
                assert (probe.verdict == "missed") == (good == 0.0)
            assert probe.limit == f"goodput 90% (ttft <= {ttft_ms} ms, tpot <= 1000 ms)"


def test_streams_that_never_come_are_misses_though_they_are_not_given_up_yet() -> None:
    """Every twentieth hangs; the others take 60 ms. A request is given up after 6 s, when the probe is over."""
    limit = LatencyLimit(metric="ttft", percentile=99, limit_ms=1000)
    with streaming("--gap-ms", "10", "--ttft-ms", "20", "--hang-every", "20") as url:
        asked: dict[str, Any] = {"rates_qps": (30,), "rate_s": 4, "request_timeout_s": 6}
        (probe,) = measured(url, limit, tokens=5, **asked).probes
    assert probe.requests > 30
    assert probe.misses >= 0.04 * probe.requests


def test_long_streams_among_short_ones_are_no_misses_before_the_first_of_them_is_complete() -> None:
    """Every seventh takes 2 s, the others 60 ms. The probe lasts 1.5 s: how long they are was seen before it."""
    limit = LatencyLimit(metric="tpot", percentile=99, limit_ms=300)
    with streaming("--gap-ms", "10", "--ttft-ms", "20", "--long-every", "7") as url:
        asked: dict[str, Any] = {"rates_qps": (30,), "rate_s": 1.2, "max_warmup_s": 6, "max_s": 20}
        (probe,) = measured(url, limit, tokens=5, **asked).probes
    assert probe.misses == 0


class _Clock:
    """All that is known of a load is until when."""

    def __init__(self, now: float) -> None:
        self.now = now

    def known_until(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("answers_s", "before_s", "judged_until"),
    [
        ([0.5] * 100, 0.5, 97.5),  # who waits five times longer than anybody else waits for nothing
        ([0.1] * 100, 0.1, 99.0),  # but as long as the limit in any case
        ([0.5] * 19, 0.5, 60.0),  # few answers say nothing
        ([0.5] * 99 + [20.0], 0.5, 60.0),  # where some take that long, the one that waits may be one of them
        ([0.5] * 100, 3.0, 94.0),  # so where some took that long before
    ],
)
def test_a_long_stream_is_no_miss_while_it_comes(answers_s: list[float], before_s: float, judged_until: float) -> None:
    """One request is due at 40 s and not answered at 100 s; who has waited for 40 s is given up."""
    limit = LatencyLimit(metric="ttft", percentile=99, limit_ms=1000)
    plan = LoadPlan(
        url="http://x", request=RequestPlan(stream="openai"), slo=Slo(latency=(limit,)), request_timeout_s=40
    )
    sent = RequestLog(200, streaming=True)
    sent.schedule(40.0)
    for due, answer_s in zip(np.linspace(41, 99, len(answers_s)), answers_s, strict=True):
        sent.finish(sent.schedule(due), answer_s, GOOD)
    clock = cast(Load, _Clock(100.0))
    assert Criteria.of(plan, base_s=0.1).judgeable_until(clock, sent, before_s) == pytest.approx(judged_until)


def hit_rate(url: str, request: RequestPlan) -> float:
    """By the server's counters, of what it was sent: its cache counts in blocks of 16 words, as an engine's does."""
    vllm, nobody = adapter_named("vllm"), Model("m", None)
    before = vllm.statistics(ServerAddress(url), nobody)
    plan = LoadPlan(
        url=url, request=request, slo=Slo(latency=(LatencyLimit(percentile=90, limit_ms=5000),)), rates_qps=(30,),
        rate_s=3, max_s=8, max_warmup_s=1, shares_cores=True,
    )  # fmt: skip
    with LoadGenerator() as generator:
        generator.measure(plan, lambda _: None)
    return server_figures(before, vllm.statistics(ServerAddress(url), nobody))["prefix_cache_hit_rate"]


def test_a_cache_of_prefixes_answers_as_much_as_the_prompts_were_asked_to_share() -> None:
    """Beside it, what prompts that repeat do: nearly all of them come from the cache."""
    with streaming("--gap-ms", "2", "--ttft-ms", "5") as url:
        for share in (0.9, 0.0):
            llm = LlmPlan(
                input_tokens=Lengths(low=200, high=200), output_tokens=Lengths(low=4, high=4), shared_prefix=share
            )
            assert hit_rate(url, RequestPlan(path="/v1/completions", stream="openai", llm=llm)) == pytest.approx(
                share, abs=0.03
            )
        repeated = json.dumps({"prompt": " ".join(map(str, range(200))), "max_tokens": 4})
        assert hit_rate(url, RequestPlan(path="/v1/completions", stream="openai", body=repeated)) > 0.9


@pytest.mark.parametrize(("reset", "second"), [(None, 1.0), ("/reset_prefix_cache", 0.96), ("/none", 1.0)])
def test_every_probe_has_its_cache_hit_rate(reset: str | None, second: float) -> None:
    """One prompt of 16 words over and over, at two rates. Where the cache is emptied in between, each probe misses it
    once: of the 30 requests or so of the second one.
    """
    counters = adapter_named("vllm").prefix_cache
    assert counters is not None
    cache = PrefixCache(queries=counters.queries, hits=counters.hits, reset=reset)
    body = json.dumps({"prompt": " ".join(map(str, range(16))), "max_tokens": 2})
    request = RequestPlan(path="/v1/completions", stream="openai", body=body)
    plan = LoadPlan(
        url="", request=request, slo=Slo(latency=(LatencyLimit(percentile=90, limit_ms=5000),)), rates_qps=(10, 15),
        rate_s=2, max_s=8, max_warmup_s=1, shares_cores=True, prefix_cache=cache,
    )  # fmt: skip
    with streaming("--gap-ms", "2", "--ttft-ms", "5") as url, LoadGenerator() as generator:
        found = generator.measure(plan.model_copy(update={"url": url}), lambda _: None)
    assert found.probes[-1].prefix_cache_hit_rate == pytest.approx(second, abs=0.03)
    assert (found.probes[-1].prefix_cache_hit_rate == 1.0) == (second == 1.0)
