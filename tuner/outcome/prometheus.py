"""Asks a Prometheus for what it has recorded, by its HTTP API, within bounds of time and size.

Only the address that the user names is asked. A token comes from the environment (TUNE_PROMETHEUS_TOKEN) and goes there
alone.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import numpy as np

from results.planning import Traffic, recorded_traffic
from runners.host.bounded_http import bounded_client
from search_spaces import QuantityError, parse_duration
from search_spaces.masking import remember
from search_spaces.reading import foreign, shown
from tuner.errors import UnfitEnvironmentError, UsageError

SCHEME = "prometheus:"
TOKEN = "TUNE_PROMETHEUS_TOKEN"  # noqa: S105 (the name of a variable)
_TIMEOUT_S = 30.0
_DAY_S = 86_400.0
_STEP_S = 60.0
_LAST_TIME_S = 253_402_300_800.0  # the end of the year 9999, where dates end
_MAX_POINTS = 10_000  # Prometheus itself refuses more than 11,000 of one series
_KEYS = ("query", "range", "end", "step")
_PART = re.compile(rf"[?&]({'|'.join(_KEYS)})=")


@dataclass(frozen=True)
class Series:
    """One value per time, in seconds since 1970. Times without a value (NaN) are left out; infinite values are kept."""

    times_s: tuple[float, ...]
    values: tuple[float, ...]


class Prometheus:
    """Raises UsageError for an address that is none, and for a query that it refuses; UnfitEnvironmentError where
    nothing answers there.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise UsageError(f"prometheus: the address holds a user or a password; set {TOKEN} instead")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"prometheus: {shown(url)} is not a URL such as http://127.0.0.1:9090")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"

    def over_time(self, query: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """The series of a query from `start_s` to `end_s`, a value every `step_s`."""
        found = self._ask("query_range", {"query": query, "start": start_s, "end": end_s, "step": step_s}, query)
        return [_series(one.get("values")) for one in found]

    def now(self, query: str, at_s: float) -> list[Series]:
        """The value of each series at one time."""
        return [_series([one.get("value")]) for one in self._ask("query", {"query": query, "time": at_s}, query)]

    def labels(self, query: str, name: str, at_s: float) -> list[str]:
        """The values of one label of the series that a query gives at one time."""
        found = [one.get("metric") for one in self._ask("query", {"query": query, "time": at_s}, query)]
        return [str(metric[name]) for metric in found if isinstance(metric, dict) and name in metric]

    def _ask(self, what: str, parameters: dict[str, Any], query: str) -> list[dict[str, Any]]:
        token = os.environ.get(TOKEN)
        remember(token)
        headers = {"Authorization": f"Bearer {token}"} if token else None
        try:
            with bounded_client(timeout_s=_TIMEOUT_S, headers=headers) as client:
                answer = client.get(f"{self.url}/api/v1/{what}", params=parameters)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnfitEnvironmentError(
                f"no answer from Prometheus at {self.url}: {error or type(error).__name__}"
            ) from error
        try:
            content = json.loads(answer.content)
            if answer.is_success and content["status"] == "success" and content["data"]["resultType"] in _TYPES:
                return list(content["data"]["result"])
            said = str(content.get("error") or f"it gives a {content['data']['resultType']}, not rates over time")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            said = f"status {answer.status_code}, and not as Prometheus answers"
        raise UsageError(f"Prometheus at {self.url} does not answer {shown(query)}: {shown(foreign(said))}")


_TYPES = ("matrix", "vector")


def _series(values: Any) -> Series:
    """The series in an answer. Raises UsageError for an answer that no Prometheus sends."""
    try:
        pairs = [(float(at), float(value)) for at, value in values]
    except (TypeError, ValueError) as error:
        raise UsageError("Prometheus sent values that are no numbers over time") from error
    if not all(0 <= at < _LAST_TIME_S for at, _ in pairs):
        raise UsageError("Prometheus sent values at times that no calendar has")
    known = [(at, value) for at, value in pairs if not math.isnan(value)]
    return Series(tuple(at for at, _ in known), tuple(value for _, value in known))


def read_recorded_rates(text: str) -> Traffic:
    """Traffic from `prometheus:URL?query=...[&range=7d][&end=TIME][&step=60s]`. Raises as `Prometheus`, and UsageError
    where the query gives no rate, or more than one series.
    """
    address, options = _parsed(text.removeprefix(SCHEME))
    query = options.get("query", "")
    if not query:
        raise UsageError(
            "`traffic` prometheus:URL needs a query of requests/s, as in\n"
            "'prometheus:http://127.0.0.1:9090?query=sum(rate(requests_total[5m]))&range=7d'"
        )
    length_s = _duration("range", options.get("range", "1d"))
    step_s = max(_duration("step", options.get("step", "60s")), length_s / _MAX_POINTS)
    end_s = _moment(options.get("end"))
    found = [one for one in Prometheus(address).over_time(query, end_s - length_s, end_s, step_s) if one.times_s]
    if len(found) != 1:
        raise UsageError(
            f"`traffic`: {shown(query)} gives {len(found) or 'no'} series for that time; "
            + ("wrap it in sum(...)" if found else "look at it in Prometheus' own page, or name another range and end")
        )
    times, rates = np.array(found[0].times_s), np.array(found[0].values)
    if len(times) < 2:
        raise UsageError(f"`traffic`: {shown(query)} gives one value; a plan needs rates over time: lengthen the range")
    begins = datetime.fromtimestamp(float(times[0]), UTC)
    return recorded_traffic(shown(query), times - times[0], np.append(np.diff(times), step_s), rates, begins)


def _parsed(text: str) -> tuple[str, dict[str, str]]:
    """The address and the named parts after it. A query is written as it is, with its own `=` and `+`."""
    places = list(_PART.finditer(text))
    ends = [*(place.start() for place in places), len(text)][1:]
    options = {place[1]: unquote(text[place.end() : end]) for place, end in zip(places, ends, strict=True)}
    return text[: places[0].start()] if places else text, options


def _duration(name: str, text: str) -> float:
    try:
        days = re.fullmatch(r"([0-9.]+)\s*(d|w)", text)
        seconds = float(days[1]) * _DAY_S * (7 if days[2] == "w" else 1) if days else parse_duration(text)
    except (QuantityError, ValueError) as error:
        raise UsageError(f"`traffic`: {name}={shown(text)}: {error}") from error
    if not 0 < seconds < math.inf:
        raise UsageError(f"`traffic`: {name}={shown(text)} is no length of time")
    return seconds


def _moment(text: str | None) -> float:
    if text is None:
        return time.time()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"`traffic`: end={shown(text)} is no time; write 2026-05-12T13:00Z or seconds since 1970"
        ) from error
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
