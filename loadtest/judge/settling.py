"""What of a probe is not counted: its start, on a server that was idle and may not be used to the new rate."""

_MIN_S, _LIMITS, _MAX_SHARE = 0.3, 0.5, 0.25


def settle_s(memory_s: float, longest_s: float) -> float:
    """How much of a probe of at most `longest_s` is left out; `memory_s` is for how long what happened to one request
    is felt by others.
    """
    return min(max(_MIN_S, _LIMITS * memory_s), _MAX_SHARE * longest_s)
