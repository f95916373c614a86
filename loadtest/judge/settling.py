"""What of a probe is not counted: its start, on a server that was idle and may not be used to the new rate."""

_MIN_S, _LIMITS, _MAX_SHARE = 0.3, 0.5, 0.25
_COUNTS_MIN_S, _COUNTS_LIMITS = 0.5, 3.0


def settle_s(memory_s: float, longest_s: float, *, counts_alone: bool = False) -> float:
    """How much of a probe of at most `longest_s` is left out; `memory_s` is for how long what happened to one request
    is felt by others. The network knows how queues begin; where late requests are counted alone, more is left out.
    """
    min_s, limits = (_COUNTS_MIN_S, _COUNTS_LIMITS) if counts_alone else (_MIN_S, _LIMITS)
    return min(max(min_s, limits * memory_s), _MAX_SHARE * longest_s)
