"""What a trial's record says of a language model: times and numbers of tokens, and what its prefix cache answered."""

from __future__ import annotations

from typing import Literal

from loadtest import Measurement
from results import LanguageRecord, TokenTimes
from tuner.spec.llm import LlmSpec

_REPEATED = 0.5  # of the prompt tokens: more than most system prompts
_MARGIN = 0.03  # of the prompt tokens: a hit rate is counted in whole blocks of them


def language_record(measurement: Measurement, prefix_cache_hit_rate: float | None) -> LanguageRecord | None:
    """The record of streamed answers; None if no answer that counts was streamed."""
    tokens = measurement.tokens
    if tokens is None:
        return None
    return LanguageRecord(
        ttft=_times(measurement, "ttft"), tpot=_times(measurement, "tpot"), itl=_times(measurement, "itl"),
        output_tokens=tokens.output_mean, input_tokens=tokens.input_mean,
        tokens_per_second_per_user=tokens.per_user_per_s, good=tokens.good, good_of=tokens.good_of,
        prefix_cache_hit_rate=prefix_cache_hit_rate,
    )  # fmt: skip


def _times(measurement: Measurement, name: Literal["ttft", "tpot", "itl"]) -> TokenTimes | None:
    known = measurement.streaming.get(name)
    return None if known is None else TokenTimes(**known.model_dump())


def cached_share(measurement: Measurement, whole: float | None) -> float | None:
    """The cache-hit rate at the highest rate that held, if the engine says it; else that of the `whole` test."""
    known = [probe for probe in measurement.probes if probe.prefix_cache_hit_rate is not None]
    met = [probe for probe in known if probe.verdict == "met"]
    if not known:
        return whole
    return max(met or known, key=lambda probe: probe.rate_qps).prefix_cache_hit_rate


def cache_notes(asked: LlmSpec | None, hit_rate: float | None) -> tuple[str, ...]:
    """A note if the engine's prefix cache answered more, or less, of the prompts than these were meant to share. (Turns
    of a conversation share what came before them.)
    """
    if asked is None or hit_rate is None or asked.turns > 1 or abs(hit_rate - asked.shared_prefix) <= _MARGIN:
        return ()
    if hit_rate < asked.shared_prefix:
        return (
            f"The engine had {hit_rate:.0%} of the prompts' tokens in its cache of prefixes, where "
            f"{asked.shared_prefix:.0%} were shared: it keeps whole blocks of tokens only (vLLM: block_size), or had "
            "no room for more.",
        )
    return (
        f"The engine had {hit_rate:.0%} of the prompts' tokens in its cache of prefixes, and {asked.shared_prefix:.0%} "
        "were to be shared: it answers faster here than it will where prompts differ as was asked.",
    )


def repeat_notes(asked: LlmSpec | None, hit_rate: float | None) -> tuple[str, ...]:
    """A note if most of the prompts came from the cache and no `request.llm` makes a fresh one for every request."""
    if asked is not None or hit_rate is None or hit_rate <= _REPEATED:
        return ()
    return (
        f"The engine had {hit_rate:.0%} of the prompts' tokens in its cache of prefixes: the requests repeat. Unless "
        "those in production do too, use request.llm, which makes a fresh prompt for every request.",
    )
