"""Whether the times that a spec sets go together: limits on latency, time-outs, and the length of a trial."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tuner.spec.load import MAX_WARMUP_SHARE
from tuner.spec.reading import LoadedSpec

_MIN_PROBES, _MIN_PROBE_S = 4, 1.5  # as `loadtest.capacity` probes
_LIMITS_PER_PROBE = 5.0  # a probe that is shorter sees the server's queue begin, not settle
_BURSTS_S = 2.0  # both, with what leads to them
_MIN_WARMUP_S = 1.0  # a shorter one is no advice
_REQUESTS_PER_MISS = 3.0  # the rule of three: so many requests without a miss show, at 95%, that misses are rarer

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
        f"load.max_trial: {load.max_trial:g} s is too short to decide: after up to {warmup_s:.3g} s of warm-up "
        f"{left_s:.3g} s are left for probes{_needed(loaded, left_s)}; write {wanted_s}s or more"
        + (", or a shorter load.max_warmup" if load.max_trial - needed_s >= _MIN_WARMUP_S else "")
    )


def _needed(loaded: LoadedSpec, left_s: float) -> str:
    """How fast a server must be for its tail to be seen in that time."""
    tail = loaded.tail_limit
    if tail is None or left_s <= 0:
        return ""
    requests = _REQUESTS_PER_MISS / (1 - tail.percentile / 100)
    return f", in which a server under {requests / left_s:.3g} requests/s cannot show its p{tail.percentile:g}"


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
            f"about {slowest_qps:.2g} requests/s or more; trials of slower ones end uncertain: lengthen it"
        )
