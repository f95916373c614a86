"""A space to start from for each server: its knobs that make no answer different, and the machine's cores."""

from __future__ import annotations

from typing import Any

from runners.servers.protocol import ServerAdapter

_SAFE = {"batch_size", "batch_delay", "workers", "instances", "threads", "concurrency", "gpu_memory_share"}


def server_preset(adapter: ServerAdapter) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Parameters and constraints as a spec's `space:` writes them."""
    knobs = {knob.name: knob for knob in adapter.knobs if _SAFE & set(knob.roles)}
    parameters: dict[str, Any] = {
        name: {"choices": list(knob.choices), "role": knob.roles[0]} for name, knob in knobs.items()
    }
    constraints = []
    copies = next((name for name in ("workers", "instances") if name in knobs), None)
    if "threads" in knobs:
        parameters = {"cpu_cores": {"choices": [1, 2, 4, 8], "role": "cpu_cores"}, **parameters}
        constraints.append(f"threads{f' * {copies}' if copies else ''} <= 2 * cpu_cores")
    if "batch_size" in knobs and "batch_delay" in knobs:
        shortest = min(knobs["batch_delay"].choices, key=float)
        constraints.append(f"batch_size > 1 or batch_delay == {shortest}")  # nothing to wait for
    return parameters, tuple(constraints)
