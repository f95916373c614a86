"""Whether the times that a spec sets go together: limits on latency, time-outs, and the length of a trial."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from loadtest.judge.burst import longest_s
from loadtest.judge.capacity import digits
from tuner.launch.requests import stream_of
from tuner.spec.load import MAX_WARMUP_SHARE
from tuner.spec.reading import LoadedSpec

_MIN_PROBES, _MIN_PROBE_S = 4, 1.5  # as `loadtest.capacity` probes
_LIMITS_PER_PROBE = 5.0  # a probe that is shorter sees the server's queue begin, not settle
_BURSTS_S = 2.0  # both, with what leads to them
_MIN_WARMUP_S = 1.0  # a shorter one is no advice
_REQUESTS_PER_MISS = 3.0  # the rule of three: so many requests without a miss show, at 95%, that misses are rarer

# Of answers that are streams of known length: how they come where no limit asks for more, and what precedes a probe.
_TOKEN_S = 0.02
_BURSTS, _ROUNDS, _LONE, _LONE_S, _DRAIN_SHARE = 2, 3.0, 8, 2.0, 1 / 8
_LONGEST_TRIAL_S = 3600
_LATER, _WARMUP_ANSWERS = 1.2, 3  # an answer that comes so much later; lone answers that the warm-up has time for

_DECIDED_BY, _PROBED_SHARE = 3.0, 0.5  # requests beyond the percentile, in that share of a trial
_MODEST_QPS = 25.0  # a server that carries no more is usual


def check_times(loaded: LoadedSpec) -> None:
    """Raises SpecError where a request is given up, or a trial over, before a limit on latency could be missed."""
    spec, slowest_s = loaded.spec, loaded.spec.slowest_limit_s
    if spec.request_timeout_s < slowest_s:
        raise loaded.error(
            ("request", "timeout"),
            f"{spec.request_timeout_s:g} s is shorter than the slowest limit of slo, {slowest_s:g} s, so requests in "
            "between would be errors; remove it (then it follows the limit), or lengthen it",
        )
    if spec.load.max_trial <= slowest_s:
        raise loaded.error(
            ("load", "max_trial"),
            f"{spec.load.max_trial:g} s is not longer than the slowest limit of slo, {slowest_s:g} s, so a trial would "
            "be over before a request could be late; lengthen it",
        )


def too_short(loaded: LoadedSpec) -> Iterator[str]:
    """A trial has to fit its warm-up, and probes that are long beside the limit on latency."""
    load = loaded.spec.load
    probes = _MIN_PROBES if load.users is None else 1
    needed_s = _BURSTS_S + probes * max(_MIN_PROBE_S, _LIMITS_PER_PROBE * loaded.spec.slowest_limit_s)
    warmup_s = load.longest_warmup_s
    if load.max_trial - warmup_s >= needed_s:
        return
    left_s = max(0.0, load.max_trial - warmup_s - _BURSTS_S)
    wanted_s = math.ceil(min(load.max_warmup + needed_s, needed_s / (1 - MAX_WARMUP_SHARE)))
    yield (
        f"load.max_trial: {load.max_trial:g} s is too short to decide: after up to {digits(warmup_s)} s of warm-up "
        f"and {_BURSTS_S:g} s of bursts {digits(left_s)} s are left for probes{_needed(loaded, left_s)}; "
        f"write {wanted_s}s or more"
        + (", or a shorter load.max_warmup" if load.max_trial - needed_s >= _MIN_WARMUP_S else "")
    )


def _needed(loaded: LoadedSpec, left_s: float) -> str:
    """How fast a server must be for its tail to be seen in that time."""
    tail = loaded.tail_limit
    if tail is None or left_s <= 0:
        return ""
    requests = _REQUESTS_PER_MISS / (1 - tail.percentile / 100)
    return f", in which a server under {digits(requests / left_s)} requests/s cannot show its p{tail.percentile:g}"


def slow_servers(loaded: LoadedSpec) -> Iterator[str]:
    """A percentile is decided by the few requests beyond it, so that a slow server needs time."""
    spec = loaded.spec
    if spec.slo is None or spec.load.users is not None:
        return
    tail = 1 - max((limit.percentile for limit in spec.slo.limits), default=0.0) / 100
    slowest_qps = _DECIDED_BY / tail / (_PROBED_SHARE * spec.load.max_trial)
    expected_qps = spec.objective.target_qps
    if slowest_qps > (_MODEST_QPS if expected_qps is None else expected_qps):
        yield (
            f"load.max_trial: in {spec.load.max_trial:g} s a p{100 * (1 - tail):g} is decided of servers that answer "
            f"about {digits(slowest_qps)} requests/s or more; trials of slower ones end uncertain: lengthen it"
        )


def no_probe(loaded: LoadedSpec) -> Iterator[str]:
    """A stream takes its tokens' time on a fast server, too, and warm-up and bursts of streams come before a probe."""
    load, (tokens, so_many) = loaded.spec.load, _output_tokens(loaded)
    if tokens is None:
        return
    answer_s = tokens * _TOKEN_S
    takes = (
        f"streams of {so_many} {round(tokens):,} tokens take {so_many} {digits(answer_s)} s each "
        f"(at {1 / _TOKEN_S:.0f} tokens/s)"
    )
    if loaded.spec.request_timeout_s < answer_s:
        yield (
            f"request.timeout: {loaded.spec.request_timeout_s:g} s may be over before an answer is complete, which is "
            f"then an error: {takes}; write {math.ceil(_LATER * answer_s)}s or more"
        )
    if load.users is not None:
        return
    if load.max_warmup < _LATER * answer_s:
        yield (
            f"load.max_warmup: {load.max_warmup:g} s may be over before an answer is complete, and nothing is warm: "
            f"{takes}; write {math.ceil(_WARMUP_ANSWERS * answer_s)}s or more"
        )
        return
    before_s = _before_probes_s(answer_s, load.max_trial, load.max_warmup)
    if load.max_trial - before_s >= _MIN_PROBE_S:
        return
    enough = (
        one
        for one in range(math.ceil(load.max_trial), _LONGEST_TRIAL_S)
        if one - _before_probes_s(answer_s, one, load.max_warmup) >= _MIN_PROBES * _MIN_PROBE_S
    )
    yield (
        f"load.max_trial: {load.max_trial:g} s may be over before the first probe: {takes}, and warm-up and bursts of "
        f"them {digits(min(before_s, load.max_trial))} s; write {next(enough, _LONGEST_TRIAL_S)}s or more"
    )


def _before_probes_s(answer_s: float, trial_s: float, max_warmup_s: float) -> float:
    """How long warm-up and bursts take where a lone answer takes so long, as the load test bounds them."""
    warmup_s = min(max_warmup_s, MAX_WARMUP_SHARE * trial_s)
    drain_s = min(answer_s, _DRAIN_SHARE * trial_s)
    burst_s = min(longest_s(trial_s, answer_s), _ROUNDS * answer_s)
    return warmup_s + drain_s + min(_LONE * answer_s, _LONE_S) + _BURSTS * (burst_s + drain_s)


def _output_tokens(loaded: LoadedSpec) -> tuple[float | None, str]:
    """How many tokens a streamed answer has, and whether that is the middle (`about`) or the most (`up to`); None where
    the spec does not say.
    """
    request = loaded.spec.request
    if request.llm is not None:
        lengths = request.llm.output_tokens
        return None if request.llm.sizes is not None else lengths.median or sum(lengths.range) / 2, "about"
    body = request.json_body if stream_of(loaded) is not None else None
    asked = (body.get("max_tokens"), body.get("max_completion_tokens")) if isinstance(body, Mapping) else ()
    return next((float(one) for one in asked if isinstance(one, int) and one > 0), None), "up to"
