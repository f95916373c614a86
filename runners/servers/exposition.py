"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from runners.host.bounded_http import bounded_get


def summed_samples(url: str | None, path: str = "/metrics") -> dict[str, float]:
    """The sum of every sample over its labels, by its name; nothing where it cannot be read."""
    if url is None:
        return {}
    sums: dict[str, float] = {}
    try:
        answer = bounded_get(url + path, timeout_s=5.0)
        answer.raise_for_status()
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    except (httpx.HTTPError, ValueError):
        return {}
    return sums
